"""Tasks that draw their inputs: training has no end of them, and test items have a stream of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.evaluation.scores import Measured, Metric
from selfstudy.tasks.base import MeteredTask, require_held


class SampledTask(MeteredTask, ABC):
    """What such tasks share.

    Attributes:
        name: the specification that makes this task again.
        metric: how models are judged on it.
        items: test items of an evaluation, unless limited.
        meter: where labels are counted, if the task has any to give out.
    """

    def __init__(self, name: str, metric: Metric, items: int) -> None:
        self.name, self.metric, self.items = name, metric, items
        self.meter = Meter()

    def limited(self, train: int) -> Self:
        """Refuse: there is no training split to limit."""
        raise UsageError(
            f"The task {self.name!r} draws its training inputs afresh, so a limit of {train} training "
            "problems means nothing. Leave --train-limit away, and set the number of steps instead."
        )

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return the figure of each of the first `limit` items of a split; None is all `items`.

        Args:
            model: what is judged.
            split: "test", or "validation", which a method may look at.
            limit: how many items.
        """
        require_held(split)
        values = self.measure(model, split, min(limit or self.items, self.items))
        return Measured(tuple(float(value) for value in values))

    @abstractmethod
    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return one figure for each of `count` items, drawn from the split's own stream."""
