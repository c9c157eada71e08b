"""What the page says beside the item: how far the labelling is, what it has brought, how people agree."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from selfstudy.data.label_database import LabelDatabase
from selfstudy.evaluation.agreement import Agreement, agreement

WIDTH, HEIGHT = 300, 110  # of the drawing of the learning curve
LOOKED_AT = 1000  # items of which the agreement is counted
STALE = 2.0  # seconds for which it is shown before it is counted again
CURVE = ("labels", "validation_accuracy")  # of the lines of metrics.jsonl that are points of it


class Point(NamedTuple):
    """A point of the learning curve, and where it is drawn."""

    labels: float
    accuracy: float
    x: float
    y: float


def learning_curve(metrics: Path) -> list[Point]:
    """Return the points of the learning curve in a run's log, of each number of labels the last one."""
    found: dict[float, float] = {}
    lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
    for line in lines:
        if line.endswith(b"\n"):  # the run may be writing the last one
            values = json.loads(line)
            if all(isinstance(values.get(name), int | float) for name in CURVE):
                labels, accuracy = (float(values[name]) for name in CURVE)
                found[labels] = accuracy
    if not found:
        return []
    low, high = min(found), max(found)
    bottom, top = min(found.values()), max(found.values())
    return [
        Point(
            labels,
            accuracy,
            round(WIDTH * (labels - low) / ((high - low) or 1), 1),
            round(HEIGHT * (top - accuracy) / ((top - bottom) or 1), 1),
        )
        for labels, accuracy in sorted(found.items())
    ]


class People:
    """The agreement of people on the last items that several have answered.

    Args:
        store: the labels.
        clock: tells seconds.
    """

    def __init__(self, store: LabelDatabase, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._counted, self._found = -math.inf, None  # type: tuple[float, Agreement | None]

    def agreement(self) -> Agreement | None:
        """Return how far people agree, counted every `STALE` seconds; None where no item has two answers."""
        if self._clock() - self._counted > STALE:
            said: dict[int, dict[str, str]] = {}
            for row in self._store.run(
                "SELECT item, annotator, answer FROM answers WHERE item IN "
                "(SELECT id FROM items WHERE answered > 1 ORDER BY id DESC LIMIT ?)",
                LOOKED_AT,
            ):
                said.setdefault(row["item"], {})[row["annotator"]] = row["answer"]
            self._counted, self._found = self._clock(), agreement(list(said.values()))
        return self._found
