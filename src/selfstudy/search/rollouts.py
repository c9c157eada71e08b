"""Groups of answers to problems, drawn from the policy that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfstudy.core.budget import Meter
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.images import Inputs, look_at
from selfstudy.models.language.sampling import Request
from selfstudy.search.reasoning import SEPARATOR, Steps, posed

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

FIRST = 4  # answers that `draw_until` begins with


@dataclass(frozen=True, slots=True)
class Answer:
    """One drawn answer, as rewards see it."""

    problem: Problem
    text: str
    steps: Steps
    tokens: tuple[int, ...]
    """All tokens drawn, the end token included."""
    finish: str
    """Why it ended: "stop", "end", "length" or "context"."""
    logprobs: tuple[float, ...] = ()
    """Of each token under the model that drew it, at temperature 1."""


@dataclass(frozen=True, slots=True)
class Group:
    """The answers to one problem."""

    problem: Problem
    prompt: tuple[int, ...]
    """Tokens that the answers were drawn after."""
    answers: tuple[Answer, ...]
    images: Inputs | None = None
    """What a module is given of the problem's images; None where it has none."""


def draw_groups(
    policy: LanguageModel,
    task: ReasoningTask,
    problems: Sequence[Problem],
    meter: Meter,
    *,
    keys: Sequence[Sequence[int]],
    temperature: float,
    top_p: float = 1.0,
    prompts: Sequence[str] | None = None,
    begun: Sequence[Steps] | None = None,
) -> list[Group]:
    """Draw as many answers to each problem as it has keys.

    Args:
        policy: draws.
        task: says how problems are posed and answers end.
        problems: P of them.
        meter: charged by the sampler.
        keys: P rows of stream keys.
        temperature: of the draws.
        top_p: of the draws; see `Request`.
        prompts: the texts that the policy continues; None poses the problems.
        begun: the lines of a solution that each prompt ends with already: they come first in the steps of the
            answers, and leave less room. None is none.

    Raises:
        BudgetSpent: the meter does not cover it; what was drawn in this call is lost.
    """
    rooms = [task.room(problem) for problem in problems]
    if prompts and begun:
        plain = policy.encode_all([posed(policy, task, problem) for problem in problems])
        longer = policy.encode_all(prompts)
        rooms = [max(0, r + len(a) - len(b)) for r, a, b in zip(rooms, plain, longer, strict=True)]
    prompts = prompts or [posed(policy, task, problem) for problem in problems]
    begun = begun or [()] * len(problems)
    requests = [
        Request(
            prompt=prompt,
            key=key,
            max_tokens=room,
            temperature=temperature,
            top_p=top_p,
            stop=task.stop,
            images=problem.images,
        )
        for problem, prompt, room, row in zip(problems, prompts, rooms, keys, strict=True)
        for key in row
    ]
    completions = iter(open_sampler(policy, meter).sample(requests))
    groups = []
    read = look_at(policy, prompts, [problem.images for problem in problems])
    for problem, prompt, seen, before, row in zip(problems, prompts, read, begun, keys, strict=True):
        # A prompt may end before the line break of its last line, which the answer then goes on with.
        whole, open_line = before, ""
        if before and not prompt.endswith(SEPARATOR):
            whole, open_line = before[:-1], before[-1]
        drawn = [next(completions) for _ in row]
        answers = tuple(
            Answer(problem, c.text, (*whole, *task.steps(open_line + c.text)), c.tokens, c.finish, c.logprobs)
            for c in drawn
        )
        groups.append(Group(problem, seen.tokens, answers, seen.inputs or None))
    return groups


def draw_until(
    policy: LanguageModel,
    task: ReasoningTask,
    problems: Sequence[Problem],
    meter: Meter,
    *,
    keys: Sequence[Sequence[int]],
    temperature: float,
    enough: Callable[[Group], bool],
) -> list[Group]:
    """Draw answers to each problem, in passes that double their number, until `enough` is true of them.

    The answers of a problem are the first ones that `draw_groups` would draw with the same keys.

    Args:
        policy: draws.
        task: says how problems are posed and answers end.
        problems: P of them.
        meter: charged by the sampler.
        keys: P rows of stream keys; a row's length is the most that is drawn.
        temperature: of the draws.
        enough: tells whether no more answers are needed.

    Raises:
        BudgetSpent: the meter does not cover it; what was drawn in this call is lost.
    """
    groups: dict[int, Group] = {}
    waiting, size = list(range(len(problems))), FIRST
    while waiting:
        have = {i: len(groups[i].answers) if i in groups else 0 for i in waiting}
        drawn = draw_groups(
            policy,
            task,
            [problems[i] for i in waiting],
            meter,
            keys=[keys[i][have[i] : size] for i in waiting],
            temperature=temperature,
        )
        for i, new in zip(waiting, drawn, strict=True):
            before = groups[i].answers if i in groups else ()
            groups[i] = Group(new.problem, new.prompt, before + new.answers, new.images)
        waiting = [i for i in waiting if size < len(keys[i]) and not enough(groups[i])]
        size *= 2
    return [groups[i] for i in range(len(problems))]
