"""What tasks share: where labels are counted, and which items are held out."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError

HELD = ("test", "validation")


class MeteredTask:
    """A task that counts what it gives out.

    Attributes:
        name: the specification that makes this task again.
        meter: where labels are counted.
    """

    name: str
    meter: Meter

    def metered(self, meter: Meter) -> Self:
        """Return this task counting on `meter`."""
        bound = copy.copy(self)
        bound.meter = meter
        return bound


class HeldOutTask(MeteredTask, ABC):
    """A task with items held out for "validation", which a method may look at, and for "test"."""

    @abstractmethod
    def held(self, split: str) -> int:
        """Return how many items a split of `HELD` holds."""

    @property
    def validation(self) -> range:
        """Places of the held-out items that a method may look at."""
        return range(self.held("validation"))

    @property
    def test(self) -> range:
        """Places of the test items."""
        return range(self.held("test"))


def validation_rows(task: Any, models: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of results on validation items for each model; none where no item is held out for it.

    Args:
        task: a `HeldOutTask`.
        models: by name; their rows are called "validation, NAME".
    """
    if not task.held("validation"):
        return {}
    measured = {name: task.evaluate(model, split="validation") for name, model in models.items()}
    return {f"validation, {name}": task.metric.row(one.values) for name, one in measured.items()}


def require_held(split: str) -> None:
    """Refuse to evaluate on anything but held-out items.

    Raises:
        UsageError: another split.
    """
    if split not in HELD:
        raise UsageError(f"There is no split {split!r} to evaluate on: take 'test' or 'validation'.")
