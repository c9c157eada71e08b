"""What is particular to learning curves: nested samples, when it stops, what it tells, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.learning_curve_pictures import trace_pictures
from selfstudy.evaluation.learning_traces import LearningTrace
from selfstudy.learning.supervised import Supervised
from selfstudy.methods.training.learning_curves import LearningCurves

WORDS = "made-tags?train=1500&validation=300&test=300&tags=6"
FREQUENCY = selfstudy.model("frequency-tagger")
QUICK: dict[str, Any] = {"kernel": 100, "step": 100, "look_ahead": 2, "nu": 0.1}
PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)


def fit(
    folder: Path, spec: str = WORDS, model: Any = None, budget: Budget | None = None, **fields: Any
) -> Fit:
    method = LearningCurves(**{**QUICK, **fields})
    method.validate()
    task = selfstudy.task(spec)
    with Run(folder, {}, budget=budget) as run:
        start = task.prepared(model or selfstudy.model("frequency-tagger"))
        return method.fit(task.metered(run.meter), start, run)


def on_a_curve(monkeypatch: pytest.MonkeyPatch, curve: Any) -> None:
    """Let the accuracy on a sample be a function of its words."""

    def observed(self: Any, sample: Any, model: Any, run: Any, kept: Any, level: Any) -> float:
        kept.write(level.number, model)
        return curve(level.units)

    monkeypatch.setattr(LearningCurves, "_observed", observed)


def test_samples_are_nested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a loop that takes sentences in the run's order until there are 100, 200, ... words."""
    seen: list[Any] = []

    def observed(self: Any, sample: Any, model: Any, run: Any, kept: Any, level: Any) -> float:
        seen.append((sample.train, level))
        kept.write(level.number, model)
        return 0.5

    monkeypatch.setattr(LearningCurves, "_observed", observed)
    found = fit(tmp_path, to_the_end=True)
    task = selfstudy.task(WORDS)
    with Run(tmp_path / "order", {}) as run:
        order = run.rng("order").permutation(len(task.train))
    wanted, taken, words = 100, list[int](), 0
    by_hand = []
    for place in order:
        taken.append(place)
        words += len(task.train.sentences[place])
        if words >= wanted:
            by_hand.append(task.train.only(np.array(taken)))
            wanted = 100 * (words // 100) + 100
    assert [sample.sentences for sample, _ in seen] == [sample.sentences for sample in by_hand]
    assert [level.units for _, level in seen] == [sample.words for sample in by_hand]
    assert found.metrics["samples"] == len(by_hand) and found.metrics["share of the data"] <= 1


def test_it_stops_when_little_is_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: on exact accuracies 97 - 50 x^(-0.5) it stops at the first level from the prediction level on
    at which 50 x^(-0.5) is at most tau; the learner is that level's; predictions are the curve."""
    on_a_curve(monkeypatch, lambda x: (97 - 50 * x**-0.5) / 100)
    found = fit(tmp_path / "a", tau=2.0, wanted=96.0, ahead=10_000)
    assert found.metrics["converged at"] == found.metrics["words used"]
    used = found.metrics["words used"]
    assert 50 * used**-0.5 <= 2.0 < 50 * (used - 125) ** -0.5
    assert found.metrics["predicted at 10,000 words, points"] == pytest.approx(96.5, abs=1e-4)
    assert found.metrics["asymptote, points"] == pytest.approx(97, abs=1e-4)
    assert found.metrics["gain still to come, points"] == pytest.approx(50 * used**-0.5, abs=1e-4)
    assert found.metrics["words for 96 points"] == pytest.approx(2500, rel=1e-4)
    whole = fit(tmp_path / "b", tau=2.0, to_the_end=True, wanted=99.0)
    assert whole.metrics["converged at"] == used < whole.metrics["words used"]
    assert whole.metrics["error of what was predicted there, percent"] == pytest.approx(0, abs=1e-5)
    assert "not reachable" in whole.metrics["words for 99 points"]
    never = fit(tmp_path / "c", tau=0.1)
    assert "converged at" not in never.metrics and never.metrics["samples"] == whole.metrics["samples"]


def test_no_prediction_without_its_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: accuracies that fall have no trend: no figure is told, but why there is none; no picture."""
    on_a_curve(monkeypatch, lambda x: 0.9 - x / 10_000)
    found = fit(tmp_path)
    assert "no prediction yet" in found.metrics["prediction"]
    assert not any("predicted" in name for name in found.metrics) and not found.pictures


def test_a_curve_that_falls_after_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: accuracies on a curve up to 800 words, and far lower ones after: it says why there is no
    prediction any more, in place of one."""
    on_a_curve(monkeypatch, lambda x: (97 - 50 * x**-0.5) / 100 if x < 850 else 0.9 - x / 2000)
    found = fit(tmp_path, tau=0.1)
    assert "do not rise" in found.metrics["prediction"]
    assert not any("predicted" in name or "gain" in name for name in found.metrics)


def test_taggers_are_trained_on_each_sample(tmp_path: Path) -> None:
    """Oracle: the tagger by hand on the last sample; accuracies in the log are those of validation words."""
    found = fit(tmp_path, judged=120)
    task = selfstudy.task(WORDS)
    with Run(tmp_path / "hand", {}) as run:
        order = run.rng("order").permutation(len(task.train))
        key = run.key("tagger", "order")
    count = int((np.cumsum(task.train.lengths[order]) < found.metrics["words used"]).sum()) + 1
    by_hand = task.prepared(selfstudy.model("frequency-tagger"))
    by_hand.learn(task.train.only(order[:count]), key)
    assert task.evaluate(found.model).values == task.evaluate(by_hand).values
    accuracy = np.mean(task.evaluate(by_hand, split="validation", limit=120).values)
    assert found.metrics["validation accuracy, points"] == pytest.approx(100 * accuracy)


def test_images(tmp_path: Path) -> None:
    """Oracle: samples of images; the classifier knows the classes; the cost is what is spent."""
    spec, training = "digits?labels=60&train=80&test=40", Supervised(steps=4, batch=8, views=PLAIN)
    task = selfstudy.task(spec)
    fields: dict[str, Any] = {"kernel": 10, "step": 10, "look_ahead": 1, "training": training}
    found = fit(tmp_path, spec, selfstudy.model("conv?first=4&stages=2"), **fields)
    assert found.metrics["images used"] == 60 and found.metrics["samples"] == 6
    assert found.model.classes == task.classes
    method = LearningCurves(**fields)
    start = task.prepared(selfstudy.model("conv?first=4&stages=2"))
    assert method.cost(task, start)["samples"] == 6 * 4 * 8
    step, count = method.trial(task, start)
    step()
    assert count == 6 * 4
    assert not method.suits(task, selfstudy.model("frequency-tagger"))


def test_a_budget_ends_between_samples(tmp_path: Path) -> None:
    """Oracle: samples whose words are in the budget, by hand; the learner is that of the last whole one, and
    with no whole one the model as it was."""
    whole = fit(tmp_path / "whole", to_the_end=True)
    task = selfstudy.task(WORDS)
    assert LearningCurves(**QUICK).cost(task, FREQUENCY)["samples"] == pytest.approx(
        sum(100 * n for n in range(1, whole.metrics["samples"] + 1)), rel=0.1
    )
    cut = fit(tmp_path / "cut", budget=Budget(samples=350.0), to_the_end=True)
    assert cut.metrics["samples"] == 2 and 200 <= cut.metrics["words used"] < 230
    assert cut.model.trained
    nothing = fit(tmp_path / "nothing", budget=Budget(samples=50.0))
    assert nothing.metrics["samples"] == 0 and not nothing.model.trained


def test_bad_fields_and_too_little_data(tmp_path: Path) -> None:
    """Oracle: each is named before any work; few samples are worth a warning."""
    for wrong in ({"kernel": 0}, {"step": 0}, {"look_ahead": 0}, {"tau": 0.0}, {"nu": 2.0}, {"judged": -1}):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("look_ahead", "l")):
            LearningCurves(**wrong).validate()
    with pytest.raises(DataError, match="less than kernel=5000"):
        fit(tmp_path / "a", kernel=5000)
    with pytest.warns(UserWarning, match="3 samples by kernel=500"):
        fit(tmp_path / "b", kernel=500, step=500)
    bare = selfstudy.task(WORDS)
    bare._held["validation"] = bare._held["validation"].only(slice(0))
    with pytest.raises(DataError, match="no validation items"):
        LearningCurves(**QUICK).cost(bare, FREQUENCY)


def test_pictures() -> None:
    """Oracle: the trend through exact data is drawn where the data are; the levels are marked at their
    places; the slider has a frame for each trend, the last first."""
    trace, statuses = LearningTrace(lam=2, tau=2.0), []
    for x in range(1000, 13_000, 1000):
        statuses.append(trace.add(x, 97 - 50 * x**-0.3))
    moving, still = trace_pictures(trace, statuses, 20_000, "words")
    assert [frame["name"] for frame in moving["frames"]] == [str(level) for level in range(12, 2, -1)]
    curve = next(trace for trace in moving["traces"] if trace["name"] == "trend")
    assert curve["y"][-1] == pytest.approx(97 - 50 * 20_000**-0.3, abs=1e-3)
    marked = {one["name"]: one["x"][0] for one in still["traces"] if "level" in one["name"]}
    assert marked == {"working level": 5000.0, "prediction level": 6000.0}
    assert trace_pictures(LearningTrace(), [], 1, "words") == []
