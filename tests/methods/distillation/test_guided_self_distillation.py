"""What is particular to guided self-distillation: the weight that is told, of networks and kernel models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.mixed_tables import table_of
from selfstudy.data.views import ImageViews
from selfstudy.learning.label_weight import estimate_alpha
from selfstudy.learning.supervised import Supervised, held_apart, held_places
from selfstudy.methods.distillation.guided_self_distillation import GuidedSelfDistillation
from selfstudy.tasks.tables import table_task

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=8, batch=8, views=PLAIN)


def digits(**fields: Any) -> Any:
    given = {"labels": 40, "train": 100, "test": 40, **fields}
    return selfstudy.task("digits?" + "&".join(f"{name}={value}" for name, value in given.items()))


def fit(folder: Path, task: Any, model: str = "mlp?hidden=16", **fields: Any) -> Fit:
    method = GuidedSelfDistillation(training=QUICK, **fields)
    method.validate()
    with Run(folder, {}, checkpoint_seconds=0) as run:
        return method.fit(task.metered(run.meter), task.prepared(selfstudy.model(model)), run)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_the_weights_of_a_network(tmp_path: Path) -> None:
    """Oracle: the formula on probabilities of held-out images, from fits that were trained apart by hand: in
    every step of the first fit and of one to the teacher alone, who is the fit of the step before."""
    task = digits()
    found = fit(tmp_path / "a", task, steps=3, extrapolate=True)
    _, images, held = held_apart(task.labelled, 0.2)
    assert held is not None and len(held) == 8 and len(images) == 32
    method, start = GuidedSelfDistillation(training=QUICK), task.prepared(selfstudy.model("mlp?hidden=16"))
    pixels, hard = held.pixels(slice(None)), np.eye(10)[held.labels]
    with Run(tmp_path / "b", {}) as run:

        def trained(name: str, *guide: Any) -> Any:
            return run.stage(name, lambda: method.trained(start, images, run, *guide))

        first = last = trained("first")
        for step, told in enumerate(found.metrics["label_weights"], 2):
            alone = trained(f"alone-{step}", last, 0.0)
            f, g = (by.scores(pixels).softmax(1).numpy() for by in (first, alone))
            assert told == estimate_alpha(f, g, hard, clip=None)
            last = trained(f"last-{step}", last, told)
    assert len(found.metrics["label_weights"]) == 2 and same(found.model, last)
    assert same(found.parts["first fit"], first)


def test_a_weight_of_one_is_the_first_fit(tmp_path: Path) -> None:
    """Oracle: the loss without a teacher: with all weight on the labels every step gives the same network,
    since all trainings start alike."""
    found = fit(tmp_path, digits(), label_weight=1.0, steps=3)
    assert found.metrics["label_weights"] == [1.0, 1.0] and same(found.model, found.parts["first fit"])
    other = fit(tmp_path / "other", digits(), label_weight=0.5)
    assert not same(other.model, other.parts["first fit"])


@pytest.mark.parametrize("space", ["logits-mse", "ce"])
def test_other_spaces(space: Any, tmp_path: Path) -> None:
    """Oracle: scores or probabilities of held-out images in the formula, by the two stored fits."""
    task = digits()
    found = fit(tmp_path, task, loss_space=space)
    held = held_apart(task.labelled, 0.2)[2]
    assert held is not None
    with Run(tmp_path, {}) as run:
        first, alone = run.result("fit-1"), run.result("teacher-alone-2")
    said = [by.scores(held.pixels(slice(None))) for by in (first, alone)]
    f, g = (scores if space == "logits-mse" else scores.softmax(1) for scores in said)
    wanted = estimate_alpha(f.numpy(), g.numpy(), np.eye(10)[held.labels])
    assert found.metrics["label_weights"] == [pytest.approx(wanted)]


def test_what_a_fit_costs(tmp_path: Path) -> None:
    """Oracle: the meter, with the weight told and given, of networks and of a kernel model."""
    task = digits()
    for name, fields in {"told": {}, "given": {"label_weight": 0.4, "steps": 3}}.items():
        method = GuidedSelfDistillation(training=QUICK, **fields)  # type: ignore[arg-type]
        with Run(tmp_path / name, {}) as run:
            start = task.prepared(selfstudy.model("mlp?hidden=16"))
            method.fit(task.metered(run.meter), start, run)
            spent = run.meter.snapshot()
        assert all(spent[unit] == pytest.approx(amount) for unit, amount in method.cost(task, start).items())
    numbers = selfstudy.task("diabetes")
    with Run(tmp_path / "kernel", {}) as run:
        start = numbers.prepared(selfstudy.model("kernel"))
        GuidedSelfDistillation().fit(numbers.metered(run.meter), start, run)
        spent = run.meter.snapshot()
    cost = GuidedSelfDistillation().cost(numbers, start)
    fitted = len(numbers.labelled.table) - round(0.2 * len(numbers.labelled.table))
    assert spent["samples"] == cost["samples"] == fitted
    assert spent["flops"] == cost["flops"] == 9 * fitted**3


def test_what_a_trial_times(tmp_path: Path) -> None:
    """Oracle: the cube of the fitted rows over the thousand of them that are decomposed."""
    rng = np.random.default_rng(0)
    lines = ["a,b,y", *(f"{a},{b},{a + b}" for a, b in rng.normal(size=(2500, 2)))]
    (tmp_path / "many.csv").write_text("\n".join(lines) + "\n")
    task = selfstudy.task(f"csv:{tmp_path / 'many.csv'}?label=y")
    step, count = GuidedSelfDistillation().trial(task, task.prepared(selfstudy.model("kernel")))
    labelled = len(task.labelled.table)
    fitted = labelled - round(0.2 * labelled)
    assert fitted > 1200 and count == round((fitted / 1000) ** 3) > 1
    assert len(step().decomposed.values) == 1000  # type: ignore[attr-defined]


def test_ridge_regression_of_a_table(tmp_path: Path) -> None:
    """Oracle: scikit-learn's kernel ridge of the rows that are not held out, refitted step by step with the
    weights that were told."""
    task = selfstudy.task("diabetes")
    found = fit(tmp_path, task, "kernel?gamma=0.03", lam=10.0, steps=3, extrapolate=True)
    start = task.prepared(selfstudy.model("kernel?gamma=0.03"))
    table, answers = task.labelled
    at, apart = held_places(len(table), 0.2)
    rows, y, middle = start.features(table), answers.values, answers.values[at].mean()

    def ridge(target: np.ndarray) -> KernelRidge:
        return KernelRidge(alpha=10.0, kernel="rbf", gamma=0.03).fit(rows[at], target)

    target = y[at] - middle
    first = ridge(target)
    assert np.allclose(found.parts["first fit"].estimate(table), first.predict(rows) + middle)
    step = first
    for weight in found.metrics["label_weights"]:
        alone = ridge(step.predict(rows[at]))
        told = estimate_alpha(
            first.predict(rows[apart]), alone.predict(rows[apart]), y[apart] - middle, clip=None
        )
        assert weight == pytest.approx(told)
        step = ridge(weight * target + (1 - weight) * step.predict(rows[at]))
    assert np.allclose(found.model.estimate(table), step.predict(rows) + middle)
    assert found.metrics["label_weights"][0] > 1  # the penalty is far too large


def test_classes_and_nystrom(tmp_path: Path) -> None:
    """Oracle: nine tumours of ten told right, where the more frequent class has six; by a low rank too."""
    task = selfstudy.task("breast-cancer")
    for rank in (0, 60):
        found = fit(tmp_path / str(rank), task, "kernel", lam=0.1, rank=rank)
        assert np.mean(task.evaluate(found.model, split="validation").values) > 0.9
        assert set(found.model.predict(task.labelled.table)) == set(task.classes)
        assert len(found.model.anchors) == (rank or len(held_places(len(task.labelled.table), 0.2)[0]))


@pytest.mark.parametrize("where", ["fit-1", "fit-2"])
def test_stopped_and_resumed(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the runs of a network and of a kernel model that were not stopped, budget and all."""
    stage = Run.stage

    def stopping(run: Run, name: str, work: Any) -> Any:
        if name == where:
            raise KeyboardInterrupt
        return stage(run, name, work)

    for name, task, model in (("n", digits(), "mlp?hidden=16"), ("k", selfstudy.task("diabetes"), "kernel")):
        whole = fit(tmp_path / name, task, model)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Run, "stage", stopping)
            fit(tmp_path / f"{name}-cut", task, model)
        resumed = fit(tmp_path / f"{name}-cut", task, model)
        assert same(whole.model, resumed.model) and whole.metrics == resumed.metrics


def test_the_report_of_a_network(tmp_path: Path) -> None:
    """Oracle: rows of validation images of both fits; the picture of the weight where it was computed, that
    of the errors where images are held out, whose first point is the mean squared error by hand."""
    task = digits()
    found = fit(tmp_path / "a", task)
    right = task.evaluate(found.model, split="validation").values
    assert found.metrics["validation, fit 2"]["accuracy"] == pytest.approx(np.mean(right))
    assert [picture["title"] for picture in found.pictures] == [
        "How much weight the labels should have",
        "Fit after fit",
    ]
    held = held_apart(task.labelled, 0.2)[2]
    assert held is not None
    said = found.parts["first fit"].scores(held.pixels(slice(None))).softmax(1).numpy()
    wanted = ((said - np.eye(10)[held.labels]) ** 2).sum() / 8
    assert found.pictures[1]["traces"][0]["y"][0] == pytest.approx(wanted, rel=1e-4)
    given = fit(tmp_path / "b", task, label_weight=0.3)
    assert [picture["title"] for picture in given.pictures] == ["Fit after fit"]
    assert fit(tmp_path / "c", task, label_weight=0.3, held_out=0.0).pictures == []


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: fields, pairs of task and model, and tables without labels, each before any work."""
    for wrong in ({"label_weight": 1.5}, {"label_weight": float("nan")}, {"held_out": 0.0}, {"rank": -1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            GuidedSelfDistillation(**wrong).validate()
    GuidedSelfDistillation(label_weight=1.5, extrapolate=True).validate()
    with pytest.raises(UsageError, match="lam is 0"):
        GuidedSelfDistillation(lam=0.0).validate()
    with pytest.raises(UsageError, match="no least value"):
        GuidedSelfDistillation(extrapolate=True, loss_space="ce").validate()
    method = GuidedSelfDistillation()
    kernel, encoder = selfstudy.model("kernel"), selfstudy.model("mlp")
    assert method.suits(digits(), encoder) and method.suits(selfstudy.task("diabetes"), kernel)
    assert not method.suits(digits(), kernel) and not method.suits(selfstudy.task("diabetes"), encoder)
    rng = np.random.default_rng(0)
    for task, model in ((digits(), encoder), (selfstudy.task("diabetes"), kernel)):
        with pytest.raises(DataError, match="leaves none to compute the weight"):
            GuidedSelfDistillation(held_out=1e-4).cost(task, model)
    with pytest.raises(DataError, match="leaves none to compute the weight"):
        fit(tmp_path / "none", digits(), held_out=0.01)
    assert not (tmp_path / "none" / "stages").exists()
    nothing = table_task("mine", table_of({"a": rng.normal(size=60), "b": rng.normal(size=60)}), None, "")
    with pytest.raises(DataError, match="label=price"):
        fit(tmp_path / "table", nothing, "kernel")
