"""A policy that says what a function tells it to, for searches whose text is known."""

from __future__ import annotations

from collections.abc import Callable

from selfstudy.core.budget import Meter
from selfstudy.core.random import stream_key, uniforms
from selfstudy.models.language.sampling import Completion, Request
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask


class Policy:
    """A name for the sampler below."""

    name, context, chat = "scripted", 100, False

    def prompt(self, text: str) -> str:
        return text


class Scripted:
    """Completes each request by `say(request)`: a text, and how it finished ("stop" where nothing is said).

    A text counts one token a character, and one for the stop string. `asked` keeps the requests.
    """

    def __init__(self, say: Callable[[Request], str | tuple[str, str]], meter: Meter | None = None) -> None:
        self.say, self.meter = say, meter or Meter()
        self.asked: list[Request] = []

    def sample(self, requests: list[Request]) -> list[Completion]:
        self.asked += requests
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        said = self.say(request)
        text, finish = (said, "stop") if isinstance(said, str) else said
        count = len(text) + (finish == "stop")
        self.meter.charge(generated_tokens=count)
        return Completion(text, (0,) * count, (0.0,) * count, finish)


def coins(chance: float) -> Callable[[Request], str]:
    """Steps that all differ; each ends in 1 with probability `chance`, else in 0."""

    def say(request: Request) -> str:
        key = stream_key(request.prompt, request.key, request.temperature)
        return f"{key:x}-{int(uniforms(key, 0) < chance)}"

    return say


def coin_task(problems: int, steps: int = 2) -> ReasoningTask:
    """Problems that are solved by a last step that ends in 1; `steps` steps make a solution."""
    rows = [Item(f"p{i}\n", "1", ("x-1",) * steps) for i in range(problems)]
    return ReasoningTask(
        "coins",
        {"train": rows},
        form=SolutionForm(
            ended=lambda _, lines: len(lines) >= steps,
            answer=lambda _, lines: lines[-1][-1] if lines else None,
        ),
        verifier=verifier("exact"),
        max_steps=steps,
        step_tokens=32,
        solution_tokens=100,
    )
