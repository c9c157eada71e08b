"""Rewards of drawn answers, each a function of all of them at once, to be added up by name and weight."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from selfstudy.core.errors import DataError

if TYPE_CHECKING:
    from selfstudy.core.budget import Meter
    from selfstudy.search.reasoning import Values
    from selfstudy.search.rollouts import Answer, Group
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

Vote = Literal["string", "canonical"]
Reward = Callable[[Sequence["Group"]], np.ndarray]
"""The rewards [P, G] of the answers of P groups."""


def verified(task: ReasoningTask) -> Reward:
    """Reward by the task's verifier: 1 for right, 0 for wrong, or the share of tests passed."""

    def reward(groups: Sequence[Group]) -> np.ndarray:
        answers = [answer for group in groups for answer in group.answers]
        grades = task.grades([answer.problem for answer in answers], [answer.steps for answer in answers])
        return np.array(grades, dtype=float).reshape(len(groups), -1)

    return reward


def formatted(task: ReasoningTask) -> Reward:
    """Reward 1 for an answer that has the form of a finished solution, right or not."""
    return _each(lambda answer: float(bool(answer.steps) and task.is_end(answer.problem, answer.steps)))


def shorter(task: ReasoningTask) -> Reward:
    """Reward the share of the allowed tokens that an answer leaves unused."""
    return _each(lambda answer: 1 - len(answer.tokens) / task.room(answer.problem))


def valued(value: Values, prompt: Callable[[Problem], str], meter: Meter) -> Reward:
    """Reward by a value model: what it says of an answer's lines, in [0, 1]; 0 for an answer without any.

    Args:
        value: scores (prompt, lines).
        prompt: how the value model sees a problem.
        meter: charged what it reads.
    """

    def reward(groups: Sequence[Group]) -> np.ndarray:
        answers = [answer for group in groups for answer in group.answers]
        written = [(prompt(answer.problem), answer.steps) for answer in answers if answer.steps]
        scores = iter(value.values(written, meter).tolist() if written else [])
        found = [next(scores) if answer.steps else 0.0 for answer in answers]
        return np.array(found).reshape(len(groups), -1)

    return reward


def closed(task: ReasoningTask) -> Reward:
    """Reward 1 for an answer with the line that closes a solution, or an end of its own where none does."""
    closing = task.form.closing

    def score(answer: Answer) -> float:
        if not closing:
            return float(answer.finish in ("stop", "end"))
        return float(after_closing(answer.text, closing) is not None)

    return _each(score)


def trailing(task: ReasoningTask) -> Reward:
    """Count the characters after the line that closes a solution: to be weighed below 0."""
    return _each(lambda answer: float(len(after_closing(answer.text, task.form.closing) or "")))


def after_closing(text: str, closing: str) -> str | None:
    r"""Return what follows the first line that is `closing`, or None without such a line.

    >>> after_closing("x = 1\n```\nThat is all.", "```")
    '\nThat is all.'
    """
    start = 0
    for line in text.split("\n"):
        if closing and line.strip() == closing:
            return text[start + len(line) :]
        start += len(line) + 1
    return None


def majority(task: ReasoningTask, *, vote: Vote = "string", among_none: bool = False) -> Reward:
    """Reward 1 for answers equivalent to the one that most of the group state, of equals the first.

    No truth is used.

    Args:
        task: extracts the answers, and tells which are equivalent.
        vote: see `agreement`.
        among_none: whether stating no answer counts as an answer.
    """

    def reward(groups: Sequence[Group]) -> np.ndarray:
        return np.array([_agreeing(task, group, vote, among_none) for group in groups])

    return reward


def _agreeing(task: ReasoningTask, group: Group, vote: Vote, among_none: bool) -> list[float]:
    return agreement(
        [task.answer(answer.steps, answer.problem) for answer in group.answers],
        lambda a, b: task.equivalent(group.problem, a, b),
        vote=vote,
        among_none=among_none,
    )


def agreement(
    answers: Sequence[str | None],
    equivalent: Callable[[str, str], bool] = operator.eq,
    *,
    vote: Vote = "string",
    among_none: bool = False,
) -> list[float]:
    """Return 1 for each answer of a group that is equivalent to the most frequent, of equals the first.

    Args:
        answers: None states none: it has no vote, and 0.
        equivalent: tells whether the second answer means what the first does.
        vote: what counts as the same answer in the vote: equal texts ("string"), or answers equivalent to one
            seen before ("canonical"). By texts, 1/2 and 0.5 split the vote, though both are rewarded.
        among_none: treat None as an answer like any other.

    >>> agreement(["4", "4", "5", None])
    [1.0, 1.0, 0.0, 0.0]
    """
    stated = ["None" if answer is None and among_none else answer for answer in answers]
    first: dict[str, str] = {}  # of the answers that count as the same in the vote
    for answer in stated:
        if answer is not None and answer not in first:
            same = (other for other in first.values() if vote == "canonical" and equivalent(other, answer))
            first[answer] = next(same, answer)
    counts = Counter(first[answer] for answer in stated if answer is not None)
    if not counts:
        return [0.0] * len(answers)
    most, _ = counts.most_common(1)[0]
    return [
        float(answer is not None and (first[answer] == most or equivalent(most, answer))) for answer in stated
    ]


def summed(rewards: Mapping[str, tuple[float, Reward]], groups: Sequence[Group]) -> tuple[np.ndarray, dict]:
    """Return the weighted sum [P, G] and the mean of each reward by name, for the log.

    Raises:
        DataError: a reward that is not a finite number, with its name.
    """
    total = np.zeros((len(groups), len(groups[0].answers)))
    means = {}
    for name, (weight, reward) in rewards.items():
        found = reward(groups)
        require_finite(found, f"The reward {name!r}")
        total += weight * found
        means[f"reward_{name}"] = float(found.mean())
    return total, means


def require_finite(rewards: np.ndarray, name: str = "The reward") -> None:
    """Raise `DataError` where a reward is nan or infinite, with how many are."""
    bad = ~np.isfinite(rewards)
    if bad.any():
        raise DataError(
            f"{name} of {int(bad.sum())} of {bad.size} answers is not a finite number (the first is "
            f"{rewards[bad].flat[0]}). Give every answer a number, 0 where it cannot be judged."
        )


def _each(score: Callable[[Answer], float]) -> Reward:
    return lambda groups: np.array([[score(answer) for answer in group.answers] for group in groups])
