"""Rewards of drawn answers, each a function of all of them at once, to be added up by name and weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.errors import DataError

if TYPE_CHECKING:
    from selfstudy.core.budget import Meter
    from selfstudy.search.reasoning import Values
    from selfstudy.search.rollouts import Answer, Group
    from selfstudy.tasks.reasoning import ReasoningTask

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


def majority(task: ReasoningTask, *, among_none: bool = False) -> Reward:
    """Reward 1 for the answer that most of the group state, of equals the first; no truth is used.

    Args:
        task: extracts the answers.
        among_none: whether stating no answer counts as an answer.
    """

    def reward(groups: Sequence[Group]) -> np.ndarray:
        stated = [[task.answer(a.steps, a.problem) for a in group.answers] for group in groups]
        return np.array([agreement(row, among_none=among_none) for row in stated])

    return reward


def agreement(answers: Sequence[str | None], *, among_none: bool = False) -> list[float]:
    """Return 1 for each of a group's answers that equals the most frequent one, of equals the first.

    >>> agreement(["4", "4", "5", None])
    [1.0, 1.0, 0.0, 0.0]
    """
    counts = Counter(answer for answer in answers if answer is not None or among_none)
    if not counts:
        return [0.0] * len(answers)
    most, _ = counts.most_common(1)[0]
    return [float(answer == most) for answer in answers]


def valued(value: Values, prompts: Callable[[Answer], str], meter: Meter) -> Reward:
    """Reward by a value model that reads the whole answer.

    Args:
        value: scores (prompt, steps).
        prompts: how the value model sees a problem.
        meter: charged what it reads.
    """

    def reward(groups: Sequence[Group]) -> np.ndarray:
        answers = [answer for group in groups for answer in group.answers]
        scores = value.values([(prompts(answer), answer.steps) for answer in answers], meter)
        return np.asarray(scores, dtype=float).reshape(len(groups), -1)

    return reward


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
