"""The probe curve: looks when due, keeps the best weights, and goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.probe_curve import (
    Look,
    ProbeCurve,
    Probed,
    Probing,
    best_look,
    decay,
    probe_picture,
)
from selfstudy.evaluation.scores import ACCURACY, Measured, Metric
from selfstudy.models.encoders.convolution import ConvEncoder

ERROR = Metric(name="error", lower_is_better=True)


class Scripted:
    """A task whose probe finds what was written down beforehand, and notes what it was asked for."""

    def __init__(self, figures: Sequence[float], *, validation: int = 10, metric: Metric = ACCURACY) -> None:
        self.metric, self.validation = metric, range(validation)
        self.asked: list[tuple[str, int | None]] = []
        self._figures = figures

    def evaluate(self, model: Any, *, split: str, limit: int | None) -> Measured:
        figure = self._figures[len(self.asked)]
        self.asked.append((split, limit))
        count = len(self.validation)
        return Measured(tuple(float(place < round(figure * count)) for place in range(count)))


def encoder() -> ConvEncoder:
    return ConvEncoder(channels=1, size=8, first=2, stages=1)


def trained(curve: ProbeCurve, model: ConvEncoder, steps: range) -> None:
    """Training that makes every weight the number of steps done."""
    for step in steps:
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(step + 1)
        curve.after_step(step)


def first_weight(model: ConvEncoder) -> float:
    return float(next(model.parameters()).detach().flatten()[0])


def test_looks_at_validation_when_due(tmp_path: Path) -> None:
    """Oracle: every 2 passes of 3 steps, before training and at the end; validation inputs, so many."""
    task, model = Scripted([0.5, 0.6, 0.9, 0.7]), encoder()
    with Run(tmp_path, {}) as run:
        curve = ProbeCurve(model, task, Probing(every=2, items=7), epoch=3, run=run)
        trained(curve, model, range(13))
        found = curve.probed()
        assert [(line["step"], line["probe"]) for line in run.metrics()] == [(5, 0.6), (11, 0.9)]
    assert [look["epoch"] for look in found.looks] == [0.0, 2.0, 4.0, 13 / 3]
    assert set(task.asked) == {("validation", 7)}
    assert first_weight(found.chosen) == 12 and first_weight(found.last) == 13
    metrics = found.metrics(ACCURACY)
    assert metrics["validation, best epoch"]["accuracy"] == 0.9
    assert metrics["validation, last epoch"]["accuracy"] == 0.7
    assert metrics["decay"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("figures", "keep", "kept"),
    [
        ([0.5, 0.8, 0.8, 0.8], "best", 1),  # the earliest of equals
        ([0.9, 0.6, 0.7, 0.5], "best", 2),  # never the untrained one
        ([0.5, 0.8, 0.7, 0.6], "last", 3),
    ],
)
def test_which_weights_are_kept(figures: list[float], keep: Any, kept: int, tmp_path: Path) -> None:
    """Oracle: by hand."""
    model = encoder()
    with Run(tmp_path, {}) as run:
        curve = ProbeCurve(model, Scripted(figures), Probing(every=1, keep=keep), epoch=1, run=run)
        trained(curve, model, range(3))
        assert first_weight(curve.probed().chosen) == kept


def test_an_error_is_best_where_it_is_lowest() -> None:
    """Oracle: by hand."""
    looks: list[Look] = [{"epoch": epoch, "error": error} for epoch, error in enumerate((0.1, 0.4, 0.2, 0.3))]
    assert best_look(looks, ERROR)["epoch"] == 2
    assert decay([0.4, 0.2, 0.3], ERROR) == pytest.approx(0.1)
    assert decay([0.4, 0.3, 0.2], ERROR) == 0


def test_a_resumed_curve_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Oracle: state by state, the curve of one process; the best weights were before the interruption."""
    figures = [0.5, 0.9, 0.7, 0.8, 0.6]
    model, again = encoder(), encoder()
    with Run(tmp_path / "whole", {}) as run:
        whole = ProbeCurve(model, Scripted(figures), Probing(every=1), epoch=1, run=run)
        trained(whole, model, range(2))
        state = whole.state_dict() | {"looks": list(whole.looks)}
        trained(whole, model, range(2, 4))
        expected = whole.probed()
    with Run(tmp_path / "resumed", {}) as run:
        resumed = ProbeCurve(again, Scripted([0.5, *figures[3:]]), Probing(every=1), epoch=1, run=run)
        resumed.load_state_dict(state)
        trained(resumed, again, range(2, 4))
        found = resumed.probed()
    assert found.looks == expected.looks
    assert first_weight(found.chosen) == first_weight(expected.chosen) == 1
    assert first_weight(found.last) == 4


def test_weights_that_were_brought_back_are_looked_at_again(tmp_path: Path) -> None:
    """Oracle: a look more than without."""
    task, model = Scripted([0.5, 0.1, 0.7]), encoder()
    with Run(tmp_path, {}) as run:
        curve = ProbeCurve(model, task, Probing(every=1), epoch=1, run=run)
        trained(curve, model, range(1))
        found = curve.probed(brought_back=True)
    assert [look["accuracy"] for look in found.looks] == [0.5, 0.1, 0.7]


def test_without_looks_the_last_is_kept(tmp_path: Path) -> None:
    """Oracle: a task without validation inputs, and a setting that asks for no looks."""
    for name, task, settings in (
        ("empty", Scripted([], validation=0), Probing()),
        ("none", Scripted([]), Probing(every=0, keep="last")),
    ):
        model = encoder()
        with Run(tmp_path / name, {}) as run:
            curve = ProbeCurve(model, task, settings, epoch=1, run=run)
            trained(curve, model, range(9))
            found = curve.probed()
        assert first_weight(found.chosen) == 9 and not found.looks
        assert found.metrics(ACCURACY) == {} and found.pictures(ACCURACY) == []


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    """Oracle: equality of all parts."""
    looks = [{"epoch": 0.0, **ACCURACY.row([1.0])}, {"epoch": 1.0, **ACCURACY.row([1.0, 0.0])}]
    chosen, last = ConvEncoder(channels=1, size=8, seed=1), ConvEncoder(channels=1, size=8, seed=2)
    Probed(chosen=chosen, last=last, looks=looks).save(tmp_path)
    found = Probed.load(tmp_path)
    assert found.looks == looks
    for one, other in ((found.chosen, chosen), (found.last, last)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_picture_marks_the_best(tmp_path: Path) -> None:
    """Oracle: places of the star and words of the note, by hand."""
    looks = [
        {"epoch": float(epoch), **ACCURACY.row([1.0] * right + [0.0] * (10 - right))}
        for epoch, right in ((0, 4), (5, 8), (10, 7))
    ]
    made = probe_picture(looks, ACCURACY)
    star = made["traces"][-1]
    assert (star["x"], star["y"]) == ([5.0], [0.8])
    assert "10.0 points below the best, at pass 5" in made["note"]


@pytest.mark.parametrize(
    "fields", [{"every": -1.0}, {"every": float("nan")}, {"items": 0}, {"every": 0.0, "keep": "best"}]
)
def test_settings_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: refused by name."""
    with pytest.raises(UsageError, match="every"):
        Probing(**fields).validate()
