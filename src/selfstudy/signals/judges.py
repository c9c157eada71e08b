"""Judges: functions that say which of several outputs to one prompt is better.

A judge gets contests and returns for each what it thinks of the outputs, in one of two forms: scores [m],
the higher the better, or wins [m, m], the probability that the output of the row is better than that of the
column. Wins need not come from any scores: a may beat b, b beat c, and c beat a.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.core.random import generator

if TYPE_CHECKING:
    from selfstudy.search.reasoning import Values
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

ASYMMETRY_ALLOWED = 0.05


@dataclass(frozen=True, slots=True)
class Contest:
    """One prompt with the outputs that are compared."""

    problem: Problem
    outputs: tuple[str, ...]


Judge = Callable[[Sequence[Contest]], list[np.ndarray]]
"""Returns scores [m] or wins [m, m] of each contest."""


def task_judge(task: ReasoningTask) -> Judge:
    """Return the task's own judgement: the verifier's grades, or its judge's where it has one."""

    def judge(contests: Sequence[Contest]) -> list[np.ndarray]:
        found = task.prefer([c.problem for c in contests], [c.outputs for c in contests])
        return [np.asarray(one, dtype=float) for one in found]

    return judge


def value_judge(value: Values, task: ReasoningTask, prompt: Callable[[Problem], str], meter: Meter) -> Judge:
    """Return a judge that scores by a value model.

    Args:
        value: scores (prompt, steps).
        task: splits outputs into steps.
        prompt: how the value model sees a problem.
        meter: charged what it reads.
    """

    def judge(contests: Sequence[Contest]) -> list[np.ndarray]:
        prefixes = [(prompt(c.problem), task.steps(text)) for c in contests for text in c.outputs]
        scores = np.asarray(value.values(prefixes, meter), dtype=float)
        return np.split(scores, np.cumsum([len(c.outputs) for c in contests])[:-1])

    return judge


def function_judge(function: Callable[[str, list[str]], Any], meter: Meter) -> Judge:
    """Return a judge that calls `function(prompt, outputs)`, which returns scores or wins.

    Args:
        function: the user's.
        meter: charged a verifier call for each comparison.

    Raises:
        DataError: from the judge, for anything but m or m x m finite numbers, wins within [0, 1].
    """

    def judge(contests: Sequence[Contest]) -> list[np.ndarray]:
        meter.charge(verifier_calls=sum(comparisons(len(c.outputs)) for c in contests))
        return [compared(function, c.problem.prompt, c.outputs) for c in contests]

    return judge


def comparisons(outputs: int) -> int:
    """Return the number of pairs of so many outputs."""
    return outputs * (outputs - 1) // 2


def compared(function: Callable[[str, list[str]], Any], prompt: str, outputs: Sequence[str]) -> np.ndarray:
    """Return what a user's judge thinks of outputs: scores [m] or wins [m, m], checked.

    Raises:
        DataError: it gave something else, or raised.
    """
    count, called = len(outputs), getattr(function, "__name__", "judge")
    try:
        found = np.asarray(function(prompt, list(outputs)), dtype=float)
    except Exception as error:
        raise DataError(
            f"The judge {called!r} failed on the prompt {prompt[:60]!r} with {count} outputs: {error!r}. "
            "It is called as function(prompt, outputs) and returns a score for each output, or a square of "
            "the probabilities that the output of the row is better than that of the column."
        ) from error
    wanted = f"it must give {count} finite scores, or {count} x {count} probabilities"
    if found.shape not in ((count,), (count, count)):
        raise DataError(
            f"The judge {called!r} gave numbers of shape {list(found.shape)} for {count} outputs; {wanted}."
        )
    bad = ~np.isfinite(found)
    if bad.any():
        raise DataError(
            f"The judge {called!r} gave {bad.sum()} of {bad.size} numbers for {count} outputs that are not "
            f"finite (the first is {found[bad].flat[0]}), for the prompt {prompt[:60]!r}; {wanted}."
        )
    if found.ndim == 2 and not ((found >= 0) & (found <= 1)).all():
        raise DataError(
            f"The judge {called!r} gave a win of {found[(found < 0) | (found > 1)][0]:g}; a win is a "
            "probability from 0 to 1."
        )
    return found


def blind(judge: Judge, seed: int) -> Judge:
    """Return a judge that sees the outputs of each contest in a random order of the contest's own."""

    def judge_shuffled(contests: Sequence[Contest]) -> list[np.ndarray]:
        orders = [
            generator(seed, "order", c.problem.id, *c.outputs).permutation(len(c.outputs)) for c in contests
        ]
        shown = [
            Contest(c.problem, tuple(c.outputs[i] for i in order))
            for c, order in zip(contests, orders, strict=True)
        ]
        found = judge(shown)
        places = [np.argsort(order) for order in orders]
        return [
            one[back] if one.ndim == 1 else one[np.ix_(back, back)]
            for one, back in zip(found, places, strict=True)
        ]

    return judge_shuffled


def symmetric(wins: np.ndarray) -> np.ndarray:
    """Return wins [m, m] with P(a, b) + P(b, a) = 1: the mean of what both orders say.

    >>> symmetric(np.array([[0.5, 0.9], [0.3, 0.5]])).round(2).tolist()
    [[0.5, 0.8], [0.2, 0.5]]
    """
    both = (wins + 1 - wins.T) / 2
    np.fill_diagonal(both, 0.5)
    return both


def asymmetry(wins: np.ndarray) -> float:
    """Return the mean of |P(a, b) + P(b, a) - 1| over the pairs of wins [m, m]."""
    off = np.abs(wins + wins.T - 1)[np.triu_indices(len(wins), 1)]
    return float(off.mean()) if off.size else 0.0


def say_asymmetry(found: Sequence[float], *, strict: bool) -> None:
    """Warn where the orders of a probe disagree; an error if `strict`.

    Args:
        found: the asymmetry of each contest.
        strict: raise instead.

    Raises:
        DataError: the mean is above 0.05 and `strict` is set.
    """
    mean = float(np.mean(found)) if len(found) else 0.0
    if mean <= ASYMMETRY_ALLOWED:
        return
    message = (
        f"The judge depends on the order: P(a over b) + P(b over a) is off 1 by {mean:.2f} on average over "
        f"{len(found)} prompts ({ASYMMETRY_ALLOWED:g} is allowed)."
    )
    if strict:
        raise DataError(
            f"{message} Repair the judge, or leave strict out, which takes the mean of both orders."
        )
    warnings.warn(f"{message} The mean of both orders is taken.", stacklevel=2)
