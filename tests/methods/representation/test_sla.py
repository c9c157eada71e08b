"""What is particular to SLA: the objectives in one loop, their heads and readings, one subset for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.transformations import SETS, own_transformations
from selfstudy.data.views import ImageViews
from selfstudy.learning import supervised
from selfstudy.learning.supervised import Seen, Supervised
from selfstudy.methods.representation import sla as module
from selfstudy.methods.representation.sla import OBJECTIVES, Sla
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.tasks.images import ImageTask

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=4, batch=8, views=PLAIN)


def task(**fields: Any) -> ImageTask:
    given = {"labels": 40, "train": 100, "test": 40, **fields}
    return selfstudy.task("digits?" + "&".join(f"{name}={value}" for name, value in given.items()))


def fit(folder: Path, made: ImageTask, training: Supervised = QUICK, **fields: Any) -> Fit:
    method = Sla(training=training, **fields)
    method.validate()
    with Run(folder, {}) as run:
        start = made.prepared(selfstudy.model("conv?first=4&stages=2"))
        return method.fit(made.metered(run.meter), start, run)


def step_loss(method: Sla, made: ImageTask) -> tuple[dict[str, torch.Tensor], ImageClassifier]:
    """The losses of a new classifier on the first eight labelled images, which batch normalisation sees as
    the first step does."""
    classifier = method._classifier(made, made.prepared(selfstudy.model("conv?first=4&stages=2")), key=3)
    some = made.labelled.only(slice(8))
    losses = method._losses(classifier.train(), made)
    seen = Seen(0, np.arange(8), some.pixels(slice(None)), torch.from_numpy(some.labels))
    return losses(seen), classifier


def by_hand(made: ImageTask, classifier: ImageClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the turns of the first eight images [4, 8, d], from one pass in the same order; labels."""
    images = made.labelled.pixels(slice(8))
    turned = [torch.rot90(image, k, (1, 2)) for image in images for k in range(4)]
    fresh = classifier.copy().train()
    return fresh.encoder(torch.stack(turned)).view(8, 4, -1).transpose(0, 1), torch.from_numpy(
        made.labelled.labels[:8]
    )


def test_losses_of_the_objectives() -> None:
    """Oracle: cross-entropies and a divergence written out turn by turn, on the heads' outputs."""
    made, entropy = task(), functional.cross_entropy
    objective: Any
    wanted: Any
    for objective in OBJECTIVES:
        found, classifier = step_loss(Sla(objective=objective, temperature=2.0), made)
        features, labels = by_hand(made, classifier)
        heads = classifier.heads
        if objective == "base":
            fresh = classifier.copy().train()
            wanted = entropy(fresh(made.labelled.pixels(slice(8))), labels)
        elif objective in ("augmentation", "multi-task"):
            wanted = sum(entropy(heads["class"](turn), labels) for turn in features) / 4
            if objective == "multi-task":
                told = [heads["transformation"](turn) for turn in features]
                wanted = wanted + sum(entropy(one, torch.full((8,), k)) for k, one in enumerate(told)) / 4
        else:
            joint = [heads["joint"](turn) for turn in features]
            wanted = sum(entropy(one, labels * 4 + k) for k, one in enumerate(joint)) / 4
            if objective == "sla+sd":
                upright = heads["class"](features[0])
                teacher = sum(one.view(8, 10, 4)[:, :, k] for k, one in enumerate(joint)) / 4
                p, q = (teacher / 2).softmax(1), (upright / 2).softmax(1)
                wanted = wanted + entropy(upright, labels) + 4 * (p * (p.log() - q.log())).sum(1).mean()
        assert torch.allclose(found["loss"], wanted, atol=1e-5), objective


def test_only_the_student_follows_the_teacher() -> None:
    """Oracle: the joint head's gradient under sla+sd is that under sla alone with the same weights."""
    made, gradients = task(), dict[str, Any]()
    objective: Any
    for objective in ("sla", "sla+sd"):
        _, classifier = step_loss(Sla(objective=objective), made)
        joint = classifier.get_parameter("heads.joint.weight")
        same = torch.linspace(-1, 1, joint.numel()).view_as(joint)
        with torch.no_grad():
            joint.copy_(same)
        some = made.labelled.only(slice(8))
        losses = Sla(objective=objective)._losses(classifier, made)
        losses(Seen(0, np.arange(8), some.pixels(slice(None)), torch.from_numpy(some.labels)))[
            "loss"
        ].backward()
        gradients[objective] = joint.grad
    assert torch.allclose(gradients["sla"], gradients["sla+sd"], atol=1e-6)


def test_the_sum_over_copies() -> None:
    """Oracle: M times the mean, to the last bits of rounding; the distillation is as it was."""
    made = task()
    objective: Any
    for objective in ("augmentation", "multi-task", "sla", "sla+sd"):
        mean, total = (
            step_loss(Sla(objective=objective, over_copies=over), made)[0] for over in ("mean", "sum")
        )
        apart = {"class", "distillation"} if objective == "sla+sd" else set()
        for name in set(mean) - {"loss"}:
            factor = 1 if name in apart else 4
            assert torch.allclose(total[name], factor * mean[name], rtol=1e-6), (objective, name)


def test_one_transformation_is_the_base(tmp_path: Path) -> None:
    """Oracle: with the identity alone, joint labels give the weights of plain training, and every reading
    tells the same classes."""
    made = task()
    base = fit(tmp_path / "base", made, objective="base")
    joint = fit(tmp_path / "joint", made, objective="sla", transformations="identity")
    pairs = zip(base.model.state_dict().values(), joint.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    pixels = made.labelled.pixels(slice(None))
    for mode in ("single", "aggregate"):
        assert torch.equal(joint.model.classify(pixels, mode), base.model.classify(pixels, "single"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_heads_readings_and_rows(objective: Any, tmp_path: Path) -> None:
    """Oracle: the table of objectives by hand: heads, the reading that `evaluate` takes, a row for each."""
    made = task()
    found = fit(tmp_path, made, objective=objective)
    heads, mode, ways = {
        "base": ({"class": 10}, "single", {"single", "aggregate", "five crops"}),
        "augmentation": ({"class": 10}, "single", {"single", "aggregate", "five crops"}),
        "multi-task": ({"class": 10, "transformation": 4}, "single", {"single", "aggregate", "five crops"}),
        "sla": ({"joint": 40}, "aggregate", {"single", "aggregate"}),
        "sla+sd": ({"joint": 40, "class": 10}, "distilled", {"single", "aggregate", "distilled"}),
    }[objective]
    assert {name: head.out_features for name, head in found.model.heads.items()} == heads
    assert found.model.mode == mode
    rows = {name: row for name, row in found.metrics.items() if name.startswith("validation")}
    assert set(rows) == {f"validation, {way}" for way in ways}
    measured = made.evaluate(found.model, split="validation").values
    assert rows[f"validation, {mode}"]["accuracy"] == np.mean(measured)
    told = [picture["title"] for picture in found.pictures]
    assert ("Transformations told right" in told) == (len(heads) > 1 or "joint" in heads)


def test_the_reading_can_be_chosen(tmp_path: Path) -> None:
    """Oracle: the field; a reading that the objective does not have is refused before any step."""
    assert fit(tmp_path / "a", task(), objective="sla+sd", inference="aggregate").model.mode == "aggregate"
    with pytest.raises(UsageError, match="'distilled' is none of this classifier"):
        fit(tmp_path / "b", task(), objective="sla", inference="distilled")


def test_all_objectives_see_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: for a seed the same images in the same order and the same first weights in every arm; the
    subset changes with the draw."""
    seen: dict[str, list[list[int]]] = {}
    draw = supervised.batch_indices
    starts = []
    for objective in OBJECTIVES:
        order = seen.setdefault(objective, [])

        def noted(*given: Any, order: list[list[int]] = order) -> np.ndarray:
            at = draw(*given)
            order.append(at.tolist())
            return at

        monkeypatch.setattr(supervised, "batch_indices", noted)
        made = task(draw=5)
        starts.append(made.prepared(selfstudy.model("conv?first=4&stages=2")).state_dict())
        fit(tmp_path / objective.replace("+", "-"), made, objective=objective)
    assert len({str(order) for order in seen.values()}) == 1
    assert all(
        torch.equal(a, b) for other in starts for a, b in zip(starts[0].values(), other.values(), strict=True)
    )
    first, again, other = (task(draw=draw).labelled.pixels(slice(None)) for draw in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: what the run's meter counts; four copies are four times the operations of one."""
    made = task()
    start = made.prepared(selfstudy.model("conv?first=4&stages=2"))
    for objective, copies in (("base", 1), ("sla", 4)):
        method = Sla(objective=objective, training=QUICK)  # type: ignore[arg-type]
        with Run(tmp_path / objective, {}) as run:
            method.fit(made, start, run)
            spent = run.meter.snapshot()
        assert method.cost(made, start) == {unit: spent[unit] for unit in ("samples", "flops")}
        assert spent["flops"] == 3 * 2 * (9 * 4 * 64 + 9 * 4 * 8 * 16) * copies * spent["samples"]
        step, count = method.trial(made, start)
        step()
        assert count == 4


def test_own_transformations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a set put into the table under its name is trained with, saved and loaded; one that changes the
    shape is named before any step."""
    mirrors = own_transformations("mirrors", [("as is", lambda x: x), ("mirror", lambda x: x.flip(3))])
    halves = own_transformations("halves", [("as is", lambda x: x), ("half", lambda x: x[:, :, ::2])])
    monkeypatch.setitem(SETS, "mirrors", mirrors)
    monkeypatch.setitem(SETS, "halves", halves)
    found = fit(tmp_path / "mirrors", task(), transformations="mirrors")
    assert found.model.heads["joint"].out_features == 20
    with pytest.raises(DataError, match="'half' turns images"):
        fit(tmp_path / "halves", task(), transformations="halves")
    assert not (tmp_path / "halves" / "partial").exists()


def test_rare_classes_have_their_margins() -> None:
    """Oracle: a joint label has the margin of its class: the scores of (y, j) are lowered by
    margin (n_min / n_y)^(1/4) before the cross-entropy."""
    made = task()
    kept = np.flatnonzero((made.labelled.labels != 3) | (np.cumsum(made.labelled.labels == 3) == 1))
    made.labelled = made.labelled.only(np.concatenate([np.flatnonzero(made.labelled.labels == 3)[:1], kept]))
    made.labelled = made.labelled.only(slice(30))
    counts = np.bincount(made.labelled.labels, minlength=10)
    found, classifier = step_loss(Sla(objective="sla", class_loss="margin", margin=0.4), made)
    features, labels = by_hand(made, classifier)
    margins = torch.tensor(0.4 * (counts[counts > 0].min() / np.maximum(counts, 1)) ** 0.25)
    terms = []
    for k, turn in enumerate(features):
        scores = classifier.heads["joint"](turn)
        lowered = functional.one_hot(labels * 4 + k, 40) * margins[labels][:, None]
        terms.append(functional.cross_entropy(scores - lowered, labels * 4 + k))
    assert torch.allclose(found["joint"].double(), torch.stack(terms).mean(), atol=1e-5)


def test_bad_labels_and_bad_fields(tmp_path: Path) -> None:
    """Oracle: each is named in one paragraph, before any step."""
    made = task()
    unlabelled = task()
    unlabelled.labelled = ImageSet("digits", unlabelled.labelled.images, unlabelled.labelled.labels, ())
    with pytest.raises(DataError, match="barlow-twins"):
        fit(tmp_path / "a", unlabelled)
    with pytest.raises(DataError, match="barlow-twins"):
        Sla().cost(unlabelled, selfstudy.model("conv"))
    labels = made.labelled.labels.copy()
    labels[7] = 12
    made.labelled = replace(made.labelled, labels=labels)
    with pytest.raises(DataError, match="The label 12 of image 7"):
        fit(tmp_path / "b", made)
    with pytest.raises(DataError, match="1 channels; orders of colours need three"):
        fit(tmp_path / "c", task(), transformations="colour6")
    for wrong in ({"transformations": "turns"}, {"temperature": 0.0}, {"margin": -1.0}, {"focus": -1.0}):
        with pytest.raises(UsageError, match=str(next(iter(wrong)))):
            Sla(**wrong).validate()


def test_a_large_joint_head_is_worth_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: 40 outputs above a limit of 39."""
    monkeypatch.setattr(module, "MANY_OUTPUTS", 39)
    with pytest.warns(UserWarning, match="has 40 outputs, 10 classes by 4"):
        fit(tmp_path, task())
