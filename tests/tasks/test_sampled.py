"""Tasks that draw their inputs: what they share."""

from __future__ import annotations

from typing import Any

import pytest

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.evaluation.scores import Metric
from selfstudy.tasks.sampled import SampledTask


class Guess(SampledTask):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__("guess", Metric(name="loss", lower_is_better=True), 5)

    def measure(self, model: Any, split: str, count: int) -> list[float]:
        return [model + (split == "test")] * count


def test_an_evaluation_has_one_figure_an_item() -> None:
    """Oracle: the made-up figures; a limit above all items is all items."""
    task = Guess()
    assert task.evaluate(2).values == (3.0,) * 5
    assert task.evaluate(2, split="validation", limit=2).values == (2.0, 2.0)
    assert len(task.evaluate(2, limit=50).values) == 5
    with pytest.raises(UsageError, match="no split 'train'"):
        task.evaluate(2, split="train")


def test_there_is_no_training_split_to_limit() -> None:
    """Oracle: the message says what to do instead; metering leaves the task as it was."""
    task, meter = Guess(), Meter()
    assert task.metered(meter).meter is meter and task.meter is not meter
    with pytest.raises(UsageError, match="Leave --train-limit away"):
        task.limited(3)
