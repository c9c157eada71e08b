"""STaR: fine-tune the base model on its own right rationales, and on those it gives when shown the answer.

Zelikman, Wu, Mu, Goodman 2022, "STaR: Bootstrapping Reasoning With Reasoning", arXiv 2203.14465. It is the
baseline of methods that treat rationales as latent variables: one greedy draw a problem and round, so easy
problems are learnt over and over and hard ones seldom or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rationales import draw_rationales
from selfstudy.search.reasoning import SEPARATOR, posed

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


@dataclass(frozen=True, kw_only=True)
class Star:
    """Settings of STaR."""

    rounds: int = 5
    """Times that rationales are drawn and the base is fine-tuned on the right ones."""
    steps: int = 200
    """Gradient steps of all rounds together."""
    growth: float = 1.2
    """How many times the steps of one round the next one takes (1.2 in the paper)."""
    temperature: float = 0.0
    """Of the draws; greedy in the paper."""
    rationalise: bool = True
    """Draw again with the answer shown where the first draw fails (one oracle label each)."""
    tokens: int | None = None
    """Drawing ends after so many generated tokens, of all rounds together."""
    batch: int = 256
    """Problems drawn at once."""
    tuning: FineTuning = field(default_factory=FineTuning)
    """Of each round; its steps are set by `steps` and `growth`."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if min(self.rounds, self.batch) < 1 or self.steps < self.rounds or self.growth <= 0:
            raise UsageError(
                "Star needs at least one round and batch, a step for each round, and growth above 0."
            )


def star(
    model: LanguageModel, task: ReasoningTask, settings: Star, run: Run, name: str = "star"
) -> LanguageModel:
    """Return `model` fine-tuned on what its successors solve; the given one is unchanged.

    Args:
        model: the base, from which each round begins anew.
        task: problems of its training split are solved and checked.
        settings: see there.
        run: stages, streams and meter.
        name: names the stages, uniquely within the run.

    Raises:
        DataError: no rationale of a round is right.
    """
    settings.validate()
    policy, spent = model, 0
    for r, steps in enumerate(round_steps(settings)):
        if settings.tokens is not None and spent >= settings.tokens:
            break
        records = run.stage(f"{name}-draws-{r}", partial(_draw, policy, task, settings, run, name, r, spent))
        spent += sum(record["tokens"] for record in records)
        examples = [Example(record["prompt"], record["completion"]) for record in records if record["right"]]
        if not examples:
            raise DataError(
                f"No rationale of round {r} leads to a right answer, with the answer shown or without, so "
                "there is nothing to learn. Take easier problems or a better starting model."
            )
        tuning = replace(settings.tuning, steps=steps)
        policy = run.stage(f"{name}-policy-{r}", partial(fine_tune, model, examples, tuning, run, "policy"))
        run.log(part=name, round=r, examples=len(examples), drawn=spent)
    return policy


def round_steps(settings: Star) -> list[int]:
    """Return the steps of each round: growing, at least one, as many as were asked for in all.

    >>> round_steps(Star(rounds=3, steps=40, growth=2.0))
    [6, 12, 22]
    """
    sizes = [settings.growth**r for r in range(settings.rounds)]
    spare = settings.steps - settings.rounds
    ends = [round(spare * sum(sizes[: r + 1]) / sum(sizes)) for r in range(settings.rounds)]
    return [1 + end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _draw(
    policy: LanguageModel, task: ReasoningTask, settings: Star, run: Run, name: str, r: int, spent: int
) -> list[dict[str, Any]]:
    """Draw once for every problem, and again with the answer shown where that fails; records of both."""

    def draw(problems: Sequence[Problem], shown: bool) -> list[dict[str, Any]]:
        keys = [run.key(name, r, problem.id, int(shown)) for problem in problems]
        drawn = draw_rationales(
            policy,
            task,
            problems,
            run.meter,
            keys=keys,
            temperature=settings.temperature,
            shown=shown,
        )
        return [
            {
                "tokens": len(one.tokens),
                "right": one.right,
                "prompt": posed(policy, task, problem),
                "completion": "".join(step + SEPARATOR for step in task.steps(one.text)),
            }
            for problem, one in zip(problems, drawn, strict=True)
        ]

    def both(problems: Sequence[Problem]) -> list[dict[str, Any]]:
        records = draw(problems, False)
        failed = [p for p, record in zip(problems, records, strict=True) if not record["right"]]
        return records + (draw(failed, True) if settings.rationalise and failed else [])

    def enough(done: list[list[dict[str, Any]]]) -> bool:
        drawn = spent + sum(record["tokens"] for some in done for record in some)
        return settings.tokens is not None and drawn >= settings.tokens

    # In another order each time: where the tokens end a round early, it has seen problems of all kinds.
    order = [task.train[n] for n in run.rng(name, "order", r).permutation(len(task.train))]
    return run.map_batches("draws", order, settings.batch, both, until=enough)
