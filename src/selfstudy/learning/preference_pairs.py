"""From comparisons of several outputs to pairs that a model learns from, and which old pairs come again.

The outputs of one prompt are compared with each other: wins [m, m] holds the probability that the output of
the row is better than that of the column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from selfstudy.core.run import Run

Kind = Literal["student>gold", "gold>student", "student>student"]
KINDS: tuple[Kind, ...] = ("student>gold", "gold>student", "student>student")
Order = tuple[int, int]
Thing = TypeVar("Thing")
_ROUNDING = 1e-9  # win rates are sums of shares


class Margins(NamedTuple):
    """When one output counts as clearly better than another; in the unit of the scores."""

    least: float
    """The better one scores at least so much."""
    gap: float
    """By so much it scores higher."""
    student_gap: float
    """The same where the better one was drawn from the model that learns."""


def wins_of_scores(scores: np.ndarray) -> np.ndarray:
    """Return wins [m, m] of scores [m]: the higher one wins, equals share.

    >>> wins_of_scores(np.array([2.0, 1.0, 1.0])).tolist()
    [[0.5, 1.0, 1.0], [0.0, 0.5, 0.5], [0.0, 0.5, 0.5]]
    """
    return (np.sign(scores[:, None] - scores[None, :]) + 1) / 2


def win_rates(wins: np.ndarray) -> np.ndarray:
    """Return how often each output beats the others, [m], of wins [m, m] with 1/2 on the diagonal.

    >>> win_rates(np.array([[0.5, 1.0, 0.8], [0.0, 0.5, 0.5], [0.2, 0.5, 0.5]])).round(2).tolist()
    [0.9, 0.25, 0.35]
    """
    return (wins.sum(1) - 0.5) / (len(wins) - 1)


def with_defects(wins: np.ndarray, defective: Sequence[bool]) -> np.ndarray:
    """Return wins [m, m] where defective outputs lose to all sound ones; among themselves they share."""
    bad = np.array(defective, dtype=bool)
    decided = (bad[None, :].astype(float) - bad[:, None] + 1) / 2
    return np.where(bad[:, None] | bad[None, :], decided, wins)


def repeats(text: str, length: int = 3) -> float:
    """Return the share of a text's runs of `length` words that came before in it; 0 for a shorter text.

    >>> repeats("so good so good so good"), repeats("a b c d")
    (0.5, 0.0)
    """
    words = text.split()
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def ordered(scores: np.ndarray, gold: int | None, margins: Margins) -> list[Order]:
    """Return all (better, worse) of outputs with clear-cut scores [m], by the place of the better one.

    >>> ordered(np.array([5.0, 3.0, 6.0]), 2, Margins(5, 2, 1))
    [(0, 1), (2, 1)]

    Args:
        scores: one an output.
        gold: the place of the reference among the outputs, None where there is none.
        margins: what counts as clear-cut.
    """
    return [
        (i, j)
        for i, high in enumerate(scores)
        if high >= margins.least - _ROUNDING
        for j, low in enumerate(scores)
        if i != j and high - low >= (margins.gap if i == gold else margins.student_gap) - _ROUNDING
    ]


def reference_over_students(scores: np.ndarray, gold: int | None, margins: Margins) -> list[Order]:
    """Return those of `ordered` whose better one is the reference: DNO-Restrictive."""
    return [pair for pair in ordered(scores, gold, margins) if pair[0] == gold]


def reference_always(scores: np.ndarray, gold: int | None, margins: Margins) -> list[Order]:
    """Return the reference over every sample, whatever the scores: SPIN (Chen et al. 2024)."""
    return [] if gold is None else [(gold, j) for j in range(len(scores)) if j != gold]


PAIRINGS: dict[str, Callable[[np.ndarray, int | None, Margins], list[Order]]] = {
    "all": ordered,
    "reference-over-students": reference_over_students,
    "reference-always": reference_always,
}


def kind_of(pair: Order, gold: int | None) -> Kind:
    """Return who wins a pair against whom."""
    if pair[0] == gold:
        return "gold>student"
    return "student>gold" if pair[1] == gold else "student>student"


def different(first: str, second: str) -> bool:
    """Tell whether two texts differ by more than blanks and case."""
    return " ".join(first.lower().split()) != " ".join(second.lower().split())


def replayed(rounds: Sequence[Sequence[Thing]], share: float, run: Run) -> list[Thing]:
    """Return the last of `rounds` with some of the earlier ones, drawn without repetition.

    At most `share` of the number of new ones come from the round before, half of that from the one before
    that, and so on.
    """
    *earlier, new = rounds
    mixed = list(new)
    for back, old in enumerate(reversed(earlier)):
        count = min(len(old), int(share / 2**back * len(new)))
        chosen = run.rng("replay", len(rounds), back).choice(len(old), count, replace=False)
        mixed += [old[i] for i in sorted(chosen)]
    return mixed
