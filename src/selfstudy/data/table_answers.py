"""The column of a table that is to be told: classes, or numbers; and which rows give theirs away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.mixed_tables import numbers, texts

FEW = 20  # different numbers at most that are taken for classes
GOALS = ("", "classes", "numbers")


@dataclass(frozen=True)
class Answers:
    """What is to be told of N rows.

    Attributes:
        values: [N], float64: the number, or the place in `classes`; nan where the row has no label.
        classes: names; none where numbers are to be told.
    """

    values: np.ndarray
    classes: tuple[str, ...] = ()

    @property
    def known(self) -> np.ndarray:
        """[N] whether the row has a label."""
        return ~np.isnan(self.values)

    def only(self, at: Any) -> Answers:
        """Return the answers of the rows at these places."""
        return replace(self, values=self.values[at])

    def one_hot(self) -> np.ndarray:
        """Return the answers as columns: classes one-hot, [N, C]; a number as it is, [N, 1]."""
        if not self.classes:
            return self.values[:, None]
        return np.eye(len(self.classes))[self.values.astype(np.int64)]


def read_answers(cells: np.ndarray, where: str, goal: str = "") -> Answers:
    """Return the answers in the cells of a column.

    Args:
        cells: [N].
        where: column and table, for messages.
        goal: "classes" or "numbers"; "" takes more than `FEW` different numbers for numbers to be told.

    Raises:
        UsageError: no such goal.
        DataError: fewer than two different labels, or cells that cannot be read.
    """
    if goal not in GOALS:
        raise UsageError(f"goal={goal} must be classes, numbers, or left out.")
    found = texts(cells, where)
    names = sorted({text for text in found if text is not None})
    if len(names) < 2:
        raise DataError(
            f"{where} has {len(names)} different labels ({', '.join(names) or 'all are missing'}), so there "
            "is nothing to tell apart. Give rows of two classes or more, or leave the label empty: label="
        )
    if goal == "numbers" or (not goal and len(names) > FEW and _all_numbers(names)):
        return Answers(numbers(cells, where))
    if _all_numbers(names):
        names.sort(key=float)
    place = {name: float(at) for at, name in enumerate(names)}
    values = np.array([np.nan if text is None else place[text] for text in found])
    return Answers(values, tuple(names))


def labelled_places(answers: Answers, count: int, draw: int, where: str) -> np.ndarray:
    """Return places of `count` rows with a label, of each class its share and two at least.

    Args:
        answers: of the training rows.
        count: how many; 0 is all.
        draw: names the choice.
        where: the table, for messages.

    Raises:
        UsageError: more than there are, or fewer than two a class.
    """
    known = np.flatnonzero(answers.known)
    if count == 0:
        return known
    least = 2 * max(1, len(answers.classes))
    if not least <= count <= len(known):
        raise UsageError(
            f"labels={count} of {where} must be from {least} to {len(known)}, its training rows with a "
            "label, or 0 for all of them."
        )
    order = generator("labelled rows", draw).permutation(known)
    if not answers.classes:
        return np.sort(order[:count])
    values = answers.values[order]
    turn = np.empty(len(order))
    for label in np.unique(values):
        places = values == label
        rank = np.arange(places.sum())
        # The first two of a class go before all others, then classes take turns by their shares.
        turn[places] = np.where(rank < 2, 0.0, (rank + 0.5) / len(rank))
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def _all_numbers(names: Sequence[str]) -> bool:
    try:
        return bool(np.isfinite([float(name) for name in names]).all())
    except ValueError:
        return False
