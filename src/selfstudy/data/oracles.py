"""Oracles: who is asked for labels - a hidden column, a program, or a person at the labelling page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.label_table import ASKED, PROGRAM

NEW = "new:"  # before the name of a class that an answer introduces


@dataclass(frozen=True, kw_only=True)
class Query:
    """Items that a method asks the labels of.

    Attributes:
        name: of the query, the only one of that name within a run.
        places: [B], of the items within the pool.
        classes: names of the classes so far.
        guesses: [B, C], the model's probabilities, shown to a person; empty where there are none.
        confirm: [B], a class of each item that need only be confirmed or refused; empty where the class is
            asked for.
        allow_new: whether an answer may name a class that there is not yet.
    """

    name: str
    places: np.ndarray
    classes: tuple[str, ...]
    guesses: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    confirm: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    allow_new: bool = False


class Oracle(Protocol):
    """Whoever is asked."""

    @property
    def kind(self) -> str:
        """What a label is from that it gives: "person", "program", or "asked" of a hidden column."""
        ...

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Return one answer an item.

        An answer is the name of a class, `NEW` and a new name, "yes" or "no" to a class to be confirmed, or
        empty: not sure.

        Args:
            query: what is asked.
            directory: of the run; a person's answers lie there.

        Raises:
            Waiting: they are not there yet.
        """
        ...


@dataclass(frozen=True)
class HiddenLabels:
    """Labels that are known but hidden: for experiments.

    Attributes:
        labels: [N], of the pool; `UNKNOWN` is answered by "not sure".
        classes: all their names; those beyond a query's classes are answered as new ones.
    """

    kind: ClassVar[str] = ASKED
    labels: np.ndarray
    classes: tuple[str, ...]

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Return the truth."""
        truth = self.labels[query.places]
        if len(query.confirm):
            return ["yes" if one == asked else "no" for one, asked in zip(truth, query.confirm, strict=True)]
        return [self._answer(int(one), query) for one in truth]

    def _answer(self, label: int, query: Query) -> str:
        if label == UNKNOWN:
            return ""
        name = self.classes[label]
        if name in query.classes:
            return name
        return NEW + name if query.allow_new else ""


@dataclass(frozen=True)
class Program:
    """A function that labels items.

    Attributes:
        label: takes places within the pool and returns the name of a class each, or None: not sure.
    """

    kind: ClassVar[str] = PROGRAM
    label: Callable[[Sequence[int]], Sequence[str | None]]

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Return what the program says.

        Raises:
            DataError: it gives another number of answers, or a class that there is not.
        """
        given = list(self.label([int(place) for place in query.places]))
        if len(given) != len(query.places):
            raise DataError(
                f"The oracle was asked for {len(query.places)} labels and gave {len(given)}. It must give "
                "one each, None where it is not sure."
            )
        found = ["" if one is None else str(one) for one in given]
        if len(query.confirm):
            names = [query.classes[label] for label in query.confirm]
            return ["yes" if one == name else "no" for one, name in zip(found, names, strict=True)]
        return [self._answer(one, query) for one in found]

    @staticmethod
    def _answer(answer: str, query: Query) -> str:
        if not answer or answer in query.classes or answer.startswith(NEW):
            return answer
        if query.allow_new:
            return NEW + answer
        raise DataError(
            f"The oracle answered {answer!r}, which is none of the {len(query.classes)} classes: "
            f"{', '.join(query.classes[:10])}."
        )
