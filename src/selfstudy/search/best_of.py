"""Choosing among finished candidates: the best by value, the most frequent, the most trusted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

from selfstudy.core.errors import UsageError

Answer = TypeVar("Answer", bound=Hashable)


def best_of(values: Sequence[float]) -> int:
    """Return the index of the highest value, of equals the first (best-of-n).

    Raises:
        UsageError: there is nothing to choose from.

    >>> best_of([0.2, 0.9, 0.9])
    1
    """
    if not len(values):
        raise UsageError("best_of was given no values; give at least one candidate.")
    return max(range(len(values)), key=lambda index: values[index])


def majority(answers: Sequence[Answer | None]) -> Answer | None:
    """Return the most frequent answer, of equals the one seen first; None stands for no answer.

    Self-consistency (Wang et al., 2022, arXiv 2203.11171).

    >>> majority(["55", None, "54", None, "54", None])
    '54'
    """
    return weighted_vote(answers, [1.0] * len(answers))


def weighted_vote(answers: Sequence[Answer | None], weights: Sequence[float]) -> Answer | None:
    """Return the answer with the highest sum of weights, of equals the one seen first.

    Args:
        answers: extracted answers; None stands for no answer and has no vote.
        weights: one weight for each, such as the value of the solution.

    Raises:
        UsageError: not one weight for each answer.

    >>> weighted_vote(["55", "54", "55"], [0.3, 0.5, 0.3])
    '55'
    """
    if len(answers) != len(weights):
        raise UsageError(
            f"The vote was given {len(answers)} answers and {len(weights)} weights; give one each."
        )
    sums: dict[Answer, float] = {}
    for answer, weight in zip(answers, weights, strict=True):
        if answer is not None:
            sums[answer] = sums.get(answer, 0.0) + float(weight)
    return max(sums, key=lambda answer: sums[answer]) if sums else None
