"""What is particular to distillation on pruned data: who sees what, the choice of alpha, the teachers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.app.saving import save
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.views import ImageViews
from selfstudy.learning.pruned_distillation import alpha_rule
from selfstudy.learning.supervised import Supervised
from selfstudy.methods.distillation.pruning_distillation import PruningDistillation
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.signals.pruning_scores import PRUNERS
from selfstudy.tasks.images import ImageTask

PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=5, batch=8, views=PLAIN)
TEACHER = Supervised(steps=60, batch=16, views=PLAIN)


def task(**fields: Any) -> ImageTask:
    given = {"labels": 60, "train": 100, "test": 40, **fields}
    return selfstudy.task("digits?" + "&".join(f"{name}={value}" for name, value in given.items()))


def fit(folder: Path, made: ImageTask | None = None, seed: int = 0, **fields: Any) -> Fit:
    settings: Any = {"scoring": QUICK, "teaching": TEACHER, "training": QUICK, "fraction": 0.5, **fields}
    method = PruningDistillation(**settings)
    method.validate()
    made = made or task()
    with Run(folder, {}, seed=seed) as run:
        start = made.prepared(selfstudy.model("mlp?hidden=16&layers=1"))
        found = method.fit(made.metered(run.meter), start, run)
        spent, told = run.meter.snapshot(), method.cost(made, start)
        if method.choose_alpha == "estimate":  # a weight of 0 or 1 has its student already
            assert spent["samples"] <= told["samples"] and spent["flops"] <= told["flops"]
        else:
            assert spent["samples"] == told["samples"] and spent["flops"] == pytest.approx(told["flops"])
    return found


def same(one: ImageClassifier, other: ImageClassifier) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_all_are_kept_at_one(pruner: str, tmp_path: Path) -> None:
    """Oracle: f = 1 keeps every labelled image, whatever the pruner, and has the same student."""
    found = fit(tmp_path, pruner=pruner, fraction=1.0, alpha=0.0)
    assert found.parts["kept"].places.tolist() == list(range(60))
    assert "teacher-0" not in found.parts  # no weight, no teacher
    assert same(found.model, fit(tmp_path / "again", fraction=1.0, alpha=0.0).model)


def test_what_a_fit_gives(tmp_path: Path) -> None:
    """Oracle: by hand: half of each class, weights by the rule, a row for each network and fraction."""
    found = fit(tmp_path, pruner="el2n", curve=(0.2, 1.0))
    table = found.parts["kept"]
    assert np.bincount(table.labels[table.kept]).tolist() == [3] * 10
    assert found.metrics["alpha"] == alpha_rule(0.5) and found.metrics["kept"] == 30
    rows = {name.removeprefix("validation, ") for name in found.metrics if name.startswith("validation")}
    wanted = {
        f"{name}, {f} kept" for name in ("with the teacher", "labels alone") for f in ("0.2", "0.5", "1")
    }
    assert rows == wanted | {"teacher"}
    assert [picture["title"] for picture in found.pictures] == [
        "What a part of the images is worth", "Kept by class", "Scores", "The ends of the order",
    ]  # fmt: skip
    assert 0 < found.metrics["the teacher's confidence"] <= 1
    # Each fraction has its own weight, by which stages are named.
    weights = [(f, alpha) for f in (0.2, 0.5, 1.0) for alpha in (0.0, alpha_rule(f))]
    stages = {path.name for path in (tmp_path / "stages").glob("student-*")}
    assert stages == {f"student-{f:g}-{alpha:g}" for f, alpha in weights}


def test_images_held_out_by_a_training_are_in_the_cost(tmp_path: Path) -> None:
    """Oracle: the meter, where held-out images leave a student and a teacher fewer than a batch."""
    some = Supervised(steps=5, batch=20, held_out=0.4, views=PLAIN)
    fit(tmp_path, pruner="el2n", training=some, scoring=some, teaching=replace(some, steps=60, batch=50))


def test_the_weight_is_that_of_the_student(tmp_path: Path) -> None:
    """Oracle: alpha 0 is the student of the labels alone that another fit reports; others are not."""
    alone = fit(tmp_path / "alone", alpha=0.0, compare=False)
    taught = fit(tmp_path / "taught", alpha=1.0)
    row = "validation, labels alone, 0.5 kept"
    assert alone.metrics[row] == taught.metrics[row]
    assert not same(alone.model, taught.model)
    assert alone.parts["kept"].to_csv() == taught.parts["kept"].to_csv()


def test_images_set_aside_are_seen_by_nobody(tmp_path: Path) -> None:
    """Oracle: wrong labels of the images set aside change the choice's figures, and no weight of a teacher
    or of a student on the grid."""
    made, plain = task(), fit(tmp_path / "a", choose_alpha="grid", aside=0.2)
    kept = set(plain.parts["kept"].items.tolist())
    labels = made.labelled.labels.copy()
    aside = [place for place in range(60) if place not in kept]
    assert len(aside) == 12
    labels[aside] = (labels[aside] + 1) % 10
    made.labelled = ImageSet("digits", made.labelled.images, labels, made.classes)
    other = fit(tmp_path / "b", made, choose_alpha="grid", aside=0.2)
    assert same(plain.parts["teacher-0"], other.parts["teacher-0"])
    grid = [f"images set aside, alpha {alpha:g}" for alpha in (0, 0.25, 0.5, 0.75, 1)]
    assert [plain.metrics[name] for name in grid] != [other.metrics[name] for name in grid]
    for found in (plain, other):
        best = max(found.metrics[name] for name in grid)
        assert found.metrics[f"images set aside, alpha {found.metrics['alpha']:g}"] == best


def test_an_estimated_weight(tmp_path: Path) -> None:
    """Oracle: between 0 and 1, from two students; the last one is trained with it."""
    found = fit(tmp_path, choose_alpha="estimate", aside=0.2, compare=False)
    assert 0 <= found.metrics["alpha"] <= 1
    assert {name for name in found.metrics if "aside" in name} == {
        "images set aside, alpha 0", "images set aside, alpha 1",
    }  # fmt: skip


def test_a_teacher_that_was_saved(tmp_path: Path) -> None:
    """Oracle: the folder's classifier teaches: the student of the fit that trained it, without its cost."""
    first = fit(tmp_path / "first")
    save(first.parts["teacher-0"], tmp_path / "known")
    again = fit(tmp_path / "second", teacher=str(tmp_path / "known"))
    assert same(first.model, again.model) and same(first.parts["teacher-0"], again.parts["teacher-0"])
    with pytest.raises(UsageError, match="teachers=2"):
        fit(tmp_path / "two", teacher=str(tmp_path / "known"), teachers=2)
    made = task()
    turned = made.classes[::-1]
    made.labelled = ImageSet("digits", made.labelled.images, made.labelled.labels, turned)
    made.classes = turned
    with pytest.raises(UsageError, match="another order"):
        fit(tmp_path / "turned", made, teacher=str(tmp_path / "known"))
    assert not (tmp_path / "turned" / "stages").exists()


def test_other_teachers(tmp_path: Path) -> None:
    """Oracle: another width is trained as the teacher; two teachers differ; cached scores are those of the
    images, which without views are the live ones but for rounding."""
    wide = fit(tmp_path / "wide", teacher="mlp?hidden=24&layers=1")
    assert wide.parts["teacher-0"].encoder.width == 24 and wide.model.encoder.width == 16
    two = fit(tmp_path / "two", teachers=2)
    assert not same(two.parts["teacher-0"], two.parts["teacher-1"])
    live, cached = (fit(tmp_path / how, alpha=1.0, teacher_scores=how) for how in ("live", "cached"))
    pairs = zip(live.model.state_dict().values(), cached.model.state_dict().values(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in pairs) and not same(live.model, cached.model)
    with pytest.raises(UsageError, match="cannot teach images"):
        fit(tmp_path / "words", teacher="words")


def test_epochs_in_place_of_steps(tmp_path: Path) -> None:
    """Oracle: half of the images take half of the steps, in the cost too; the teacher takes all."""
    long = fit(tmp_path / "steps", training=TEACHER, alpha=0.0, compare=False)
    short = fit(tmp_path / "epochs", training=TEACHER, alpha=0.0, compare=False, length="epochs")
    halved = Supervised(steps=30, batch=16, views=PLAIN)
    assert not same(long.model, short.model)
    assert same(short.model, fit(tmp_path / "half", training=halved, alpha=0.0, compare=False).model)


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the last images of each class are kept by a function that scores places."""
    (tmp_path / "last_first.py").write_text(
        "import numpy as np\n\ndef score(evidence):\n    return np.arange(len(evidence.labelled))\n"
    )
    monkeypatch.chdir(tmp_path)
    table = fit(tmp_path / "run", pruner="last_first:score", alpha=0.0).parts["kept"]
    for label in range(10):
        own = np.flatnonzero(table.labels == label)
        assert table.kept[own].tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"fraction": 0.0}, {"fraction": 1.5}, {"curve": (0.5, 0.0)}, {"alpha": 1.2}, {"alpha": -0.1},
        {"temperature": 0.0}, {"pruner": "el2m"}, {"short_runs": 0}, {"teachers": 0}, {"aside": 1.0},
    ],
)  # fmt: skip
def test_bad_fields(fields: dict[str, Any]) -> None:
    """Oracle: each is refused by its name, or its value."""
    with pytest.raises(UsageError, match=f"{next(iter(fields)).replace('_', '.')}|el2m"):
        PruningDistillation(**fields).validate()


def test_bad_data_and_warnings(tmp_path: Path) -> None:
    """Oracle: pruning everything, no labels, nothing set aside are refused; strong crops with cached scores
    are warned of."""
    with pytest.raises(UsageError, match="keeps none"):
        fit(tmp_path / "none", fraction=0.001)
    assert not (tmp_path / "none" / "partial").exists()  # nothing was trained
    unlabelled = task()
    unlabelled.labelled = ImageSet("digits", unlabelled.labelled.images, unlabelled.labelled.labels, ())
    with pytest.raises(DataError, match="barlow-twins"):
        fit(tmp_path / "unlabelled", unlabelled)
    with pytest.raises(UsageError, match="leaves none"):
        fit(tmp_path / "aside", choose_alpha="grid", aside=0.001)
    with pytest.warns(UserWarning, match="cached scores are those of whole images"):
        views = ImageViews(crop=(0.3, 1.0))
        PruningDistillation(teacher_scores="cached", training=Supervised(views=views)).validate()
