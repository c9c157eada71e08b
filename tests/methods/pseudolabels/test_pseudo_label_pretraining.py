"""Pseudo-label pre-training: which weights start where, what is taught, what is refused; a toy."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Texts, Vectors
from selfstudy.data.oracles import HiddenLabels
from selfstudy.learning import stages as stages_module
from selfstudy.learning.masked_language import MaskedLanguage
from selfstudy.learning.stages import Stage, StageTraining
from selfstudy.methods.pseudolabels import pseudo_label_pretraining as module
from selfstudy.methods.pseudolabels.pseudo_label_pretraining import RECIPES, PseudoLabelPretraining, Trained
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.small_bert import SmallBert
from selfstudy.signals.predictions import Predictions, known
from selfstudy.tasks.pools import PoolTask, pool_task

CLASSES = ("a", "b", "c")
QUICK: dict[str, Any] = {
    "hidden": (8,),
    "teaching": StageTraining(steps=30, batch=6, learning_rate=1e-2),
    "pretraining": StageTraining(steps=20, batch=16, learning_rate=1e-2),
    "tuning": StageTraining(steps=10, batch=6, learning_rate=3e-3),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def clouds(count: int, seed: int) -> Vectors:
    """Three clouds of points that touch."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = np.eye(3)[labels] * 3 + random.normal(size=(count, 3))
    return Vectors("clouds", values.astype(np.float32), labels, CLASSES)


def task(labels: int = 6, **fields: int) -> PoolTask:
    splits = {"train": clouds(60, 0), "validation": clouds(30, 1), "test": clouds(30, 2)}
    return pool_task("clouds", dict(splits), labels=labels, **fields)


def trained(folder: Path, made: PoolTask | None = None, **fields: Any) -> Trained:
    made = made or task()
    with Run(folder, {}) as run:
        method = PseudoLabelPretraining(**{**QUICK, **fields})
        method.validate()
        return method.trained(made.metered(run.meter), made.prepared(FlatEncoder()), run)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first: Any, second: Any) -> bool:
    ours, theirs = weights(first), weights(second)
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def starts(monkeypatch: pytest.MonkeyPatch, held: list[Any] | None = None) -> dict[str, tuple[Any, Stage]]:
    """Collect from which weights each stage starts, what it is taught, and what tells when it stops."""
    seen: dict[str, tuple[Any, Stage]] = {}
    train = module.StagedClassifier.trained

    def noted(self: Any, stage: Stage, start: Any, **more: Any) -> Any:
        seen[stage.name] = (start.copy(), stage)
        if held is not None:
            held.append(more.get("held"))
        return train(self, stage, start, **more)

    monkeypatch.setattr(module.StagedClassifier, "trained", noted)
    return seen


def truth_as_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = clouds(60, 0).labels
    monkeypatch.setattr(module, "predict_pool", lambda tell, places, names: known(places, labels[places], 3))


def test_taught_the_truth_it_is_the_upper_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the recipe that asks the oracle for the whole pool, bit by bit; it counts every label."""
    with Run(tmp_path / "asked", {}) as run:
        made = task().metered(run.meter)
        upper = PseudoLabelPretraining(**QUICK, recipe="upper").trained(
            made, made.prepared(FlatEncoder()), run
        )
        assert run.meter.snapshot()["oracle_labels"] == 54
    truth_as_teacher(monkeypatch)
    found = trained(tmp_path / "told")
    assert same(found.final, upper.final) and same(found.student, upper.student)


def test_without_the_last_step_it_is_self_training(tmp_path: Path) -> None:
    """Oracle: the recipe self-train, for no steps and for a rate of 0."""
    self_trained = trained(tmp_path / "self", recipe="self-train")
    for name, fields in (("steps", {"steps": 0}), ("rate", {"learning_rate": 0.0})):
        found = trained(tmp_path / name, tuning=replace(QUICK["tuning"], **fields))
        assert same(found.final, self_trained.final) and not same(found.final, found.teacher)


def test_without_pseudo_labels_it_is_the_base(tmp_path: Path) -> None:
    """Oracle: the recipe base; without a step of pre-training, and, with a warning, for tau above 1 and for a
    pool without unlabelled items."""
    base = trained(tmp_path / "base", recipe="base")
    assert same(trained(tmp_path / "no step", pretraining=StageTraining(steps=0)).final, base.final)
    with pytest.warns(UserWarning, match="nothing is learnt from the pool"):
        assert same(trained(tmp_path / "tau", tau=1.01).final, base.final)
    full = task(labels=60)
    with pytest.warns(UserWarning, match="No item is without a label"):
        found = trained(tmp_path / "full", full)
    assert same(found.final, trained(tmp_path / "all", full, recipe="base").final)
    assert len(trained(tmp_path / "none", tau=0.0).chosen.places) == 54  # type: ignore[union-attr]


def test_where_each_recipe_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the table of recipes: pre-training starts from B bit by bit and not from the teacher, but for
    "continue"; the last step starts from the student, its head too."""
    seen = starts(monkeypatch)
    for recipe in ("method", "self-train", "mix", "continue", "upper"):
        seen.clear()
        found = trained(tmp_path / recipe, recipe=recipe)
        first = next(start for name, (start, _) in seen.items() if name == "teacher")
        student, stage = next(entry for name, entry in seen.items() if "student" in name)
        if recipe == "continue":
            assert same(student, found.teacher) and not same(student, first)
        else:
            assert same(student, first) and not same(student, found.teacher)
        tuned = [start for name, (start, _) in seen.items() if "tuned" in name]
        assert bool(tuned) == RECIPES[recipe].tuned
        assert all(same(start, found.student) for start in tuned)
        own = set(task().labelled) & set(stage.places)
        assert own == (set(task().labelled) if recipe == "mix" else set())


def test_soft_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: of a teacher that is sure soft and hard are the same, of any other they are not."""
    hard, soft = (trained(tmp_path / str(soft), soft=soft) for soft in (False, True))
    assert not same(hard.final, soft.final)
    truth_as_teacher(monkeypatch)
    hard, soft = (trained(tmp_path / f"sure-{soft}", soft=soft) for soft in (False, True))
    assert same(hard.final, soft.final)


def test_balanced_pseudo_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a teacher that says 36, 9 and 9; as square roots that is 27, 13.5 and 13.5."""

    def told(tell: Any, places: np.ndarray, names: Any) -> Predictions:
        return known(places, np.repeat([0, 1, 2], [36, 9, 9]), 3)

    monkeypatch.setattr(module, "predict_pool", told)
    chosen = trained(tmp_path, balance="sqrt").chosen
    assert chosen is not None and chosen.targets.sum(0).tolist() == [27, 14, 14]


def test_the_next_round_is_taught_by_the_student(tmp_path: Path) -> None:
    """Oracle: two runs of one round, of which the second's teacher is the first's model."""
    one, two = (trained(tmp_path / str(rounds), rounds=rounds) for rounds in (1, 2))
    assert same(two.teacher, one.final) and two.predictions is not None
    told = one.final.scores(task().pool).argmax(1).numpy()
    assert (told[two.predictions.places] == two.predictions.labels).all()


def test_what_comes_out(tmp_path: Path) -> None:
    """Oracle: no labelled item has a pseudo-label, the histogram has each unlabelled item once, given labels
    are as they were; both tables are files."""
    made = task()
    fitted = selfstudy.fit("pseudo-label-pretraining", task=made, model="flat", out=tmp_path, **QUICK)
    told, labels = fitted.parts["pseudo_labels"], fitted.parts["labels"]
    assert len(told) == 54 and not {made.ids[place] for place in made.labelled} & set(told.ids)
    assert set(told.sources) == {"pseudo"} and (told.labels != UNKNOWN).all()
    assert len(labels) == 60 and [labels.sources[place] for place in made.labelled] == ["given"] * 6
    assert (labels.labels[made.labelled] == made.given[made.labelled]).all()
    teacher = fitted.parts["teacher"].scores(made.pool).max(1)
    at = [made.ids.index(name) for name in told.ids]
    assert (teacher.indices.numpy()[at] == told.labels).all()
    assert np.allclose(teacher.values.numpy()[at], told.confidence, atol=1e-6)
    with open(tmp_path / "pseudo_labels" / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 54 and rows[0]["item"] == told.ids[0]
    assert {"validation, teacher", "validation, student", "validation, final"} < set(fitted.metrics)
    assert fitted.metrics["pseudo_labels_trained_on"] == fitted.metrics["unlabelled_items"] == 54


def test_a_threshold_leaves_items_predicted(tmp_path: Path) -> None:
    """Oracle: the teacher's confidence, item by item."""
    with Run(tmp_path, {}) as run:
        made = task().metered(run.meter)
        fitted = PseudoLabelPretraining(**QUICK, tau=0.7).fit(made, made.prepared(FlatEncoder()), run)
    told = fitted.parts["pseudo_labels"]
    assert {"pseudo", "predicted"} == set(told.sources)
    assert [source == "pseudo" for source in told.sources] == (told.confidence >= 0.7).tolist()


def test_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: stopped after step 2 and gone on with, the pool is not told again; the end is the same."""
    counts: list[int] = []
    predict = module.predict_pool

    def counted(*given: Any) -> Predictions:
        counts.append(1)
        return predict(*given)

    monkeypatch.setattr(module, "predict_pool", counted)
    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as cut:
        cut.setattr(module, "choose", lambda *given, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trained(tmp_path / "cut")
    assert len(counts) == 2
    assert same(trained(tmp_path / "cut").final, whole.final) and len(counts) == 2


def test_a_fifth_of_the_labels_tells_when_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: of 30 labels, ten a class, two of each are not trained on in any stage; steps 1 and 4 stop by
    them; of 6 all are."""
    held: list[Any] = []
    seen = starts(monkeypatch, held)
    made = task(labels=30)
    found = trained(tmp_path / "many", made)
    assert len(found.parts.held) == 6 and len(found.parts.fit) == 24
    for _, stage in seen.values():
        assert not set(found.parts.held) & set(stage.places)
    teacher, student, tuned = held
    assert student is None and all(
        (one[0] == found.parts.held).all() and (one[1] == made.given[one[0]]).all()
        for one in (teacher, tuned)
    )
    assert not len(trained(tmp_path / "few").parts.held)


def test_a_budget_that_does_not_cover_pre_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: 180 samples for the teacher and 320 for the student; with 499 the teacher comes back, and the
    oracle is not asked for a pool that it may not label."""
    for name, budget, recipe in (
        ("samples", Budget(samples=499), "method"),
        ("labels", Budget(oracle_labels=53), "upper"),
    ):
        with Run(tmp_path / name, {}, budget=budget) as run:
            made = task().metered(run.meter)
            method = PseudoLabelPretraining(**QUICK, recipe=recipe)  # type: ignore[arg-type]
            found = method.trained(made, made.prepared(FlatEncoder()), run)
            assert same(found.final, found.teacher) and not run.meter.snapshot()["oracle_labels"]
    assert caplog.text.count("The budget does not cover pre-training") == 2


def test_what_it_costs(tmp_path: Path) -> None:
    """Oracle: what the run's meter counts, for every recipe of vectors; the steps of its loops."""
    for recipe in RECIPES:
        if RECIPES[recipe].adapted:
            continue
        with Run(tmp_path / recipe, {}) as run:
            made = task().metered(run.meter)
            encoder = made.prepared(FlatEncoder())
            method = PseudoLabelPretraining(**QUICK, recipe=recipe)  # type: ignore[arg-type]
            method.trained(made, encoder, run)
            spent = {
                unit: amount for unit, amount in run.meter.snapshot().items() if amount and unit != "seconds"
            }
            assert method.cost(made, encoder) == spent
            step, count = method.trial(made, encoder)
            step()
            assert count == len(run.metrics())


def messages(count: int = 40) -> PoolTask:
    words = ("parcel late depot", "card charged bank")
    said = tuple(f"{words[place % 2]} {place} hello" for place in range(count))
    made = Texts("said", said, np.arange(count) % 2, ("delivery", "payment"))
    return pool_task("said", {"train": made, "validation": made.only([]), "test": made}, labels=8)


TEXTS: dict[str, Any] = {
    "teaching": StageTraining(steps=20, batch=8, learning_rate=1e-2),
    "pretraining": StageTraining(steps=10, batch=16, learning_rate=1e-2),
    "tuning": StageTraining(steps=5, batch=8, learning_rate=1e-3),
    "adaptation": MaskedLanguage(steps=5, batch=16, learning_rate=1e-2),
}


def test_texts_with_a_whole_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: dapt starts from an encoder that read the unlabelled texts alone; hidden words beside the task
    and word dropout change the student, and not the teacher."""
    made = messages()
    encoder = made.prepared(SmallBert(layers=1, width=16, heads=2, vocabulary=300, length=16))
    seen = starts(monkeypatch)
    read: list[Any] = []
    learn = module.learn_words
    monkeypatch.setattr(module, "learn_words", lambda *given: read.append(given[2]) or learn(*given))
    found = {}
    for name, fields in {
        "method": {},
        "dapt+method": {"recipe": "dapt+method"},
        "words": {"mlm_weight": 0.5},
        "dropout": {"input_dropout": 0.3},
    }.items():
        with Run(tmp_path / name, {}) as run:
            method = PseudoLabelPretraining(**TEXTS, **fields)  # type: ignore[arg-type]
            found[name] = method.trained(made.metered(run.meter), encoder, run)
            assert run.meter.snapshot()["samples"] == method.cost(made, encoder)["samples"]
    assert len(read) == 1 and list(read[0]) == [
        made.pool.texts[at] for at in found["method"].parts.unlabelled
    ]  # type: ignore[union-attr]
    assert same(seen["teacher"][0].encoder, encoder)
    assert not same(seen["adapted-teacher"][0].encoder, encoder)
    assert same(seen["adapted-student-1"][0].encoder, seen["adapted-teacher"][0].encoder)
    for name in ("words", "dropout"):
        assert same(found[name].teacher, found["method"].teacher)
        assert not same(found[name].student, found["method"].student)
    assert "cls.predictions" in str(list(found["words"].student.encoder.network.state_dict()))


def test_frozen_features_stay(tmp_path: Path) -> None:
    """Oracle: with train_encoder off the encoder is the one that was given, with a head of hidden layers."""
    made = messages()
    encoder = made.prepared(SmallBert(layers=1, width=16, heads=2, vocabulary=300, length=16))
    with Run(tmp_path, {}) as run:
        found = PseudoLabelPretraining(**TEXTS, train_encoder=False).trained(
            made.metered(run.meter), encoder, run
        )
    assert same(found.final.encoder, encoder)
    assert found.final.head.config["hidden"] == [256, 256]


def angle(model: Any) -> float:
    """Degrees between what tells two classes of a linear head and the first axis."""
    weight = model.head.layers[0].weight.detach() / model.head.deviation
    direction = (weight[1] - weight[0]).double()
    return float(torch.rad2deg(torch.arccos(direction[0] / direction.norm())))


def two_gaussians(count: int, seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    values = random.normal(size=(count, 2))
    values[:, 0] += 2 * labels - 1
    return Vectors("gaussians", values.astype(np.float32), labels, ("left", "right"))


def test_pseudo_labels_are_no_free_lunch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: theory. A teacher that looks 60 degrees past the truth labels the pool by its own side of a
    line. A linear student comes to the teacher's direction, the nearer the larger the pool, and not to the
    truth; the true labels at the end turn it back."""
    wrong = np.array([np.cos(np.pi / 3), np.sin(np.pi / 3)])
    found = {}
    for count in (60, 2000):
        pool = two_gaussians(count, 0)

        def told(tell: Any, places: np.ndarray, names: Any, pool: Vectors = pool) -> Predictions:
            return known(places, (pool.values[places] @ wrong > 0).astype(int), 2)

        monkeypatch.setattr(module, "predict_pool", told)
        splits = {"train": pool, "validation": pool.only([]), "test": pool}
        made = pool_task("gaussians", dict(splits), labels=40)
        with Run(tmp_path / str(count), {}) as run:
            method = PseudoLabelPretraining(
                hidden=(),
                held_out=0.0,
                teaching=StageTraining(steps=1),
                pretraining=StageTraining(steps=400, batch=20, learning_rate=2e-2),
                tuning=StageTraining(steps=100, batch=40, learning_rate=3e-2),
            )
            found[count] = method.trained(made.metered(run.meter), made.prepared(FlatEncoder()), run)
    far, near = (abs(angle(found[count].student) - 60) for count in (60, 2000))
    assert near < 3 and near < far + 1
    assert angle(found[2000].final) < angle(found[2000].student) - 10


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: each is named in one paragraph, before any step."""
    for wrong in (
        {"rounds": 0},
        {"tau": -0.1},
        {"mlm_weight": -1.0},
        {"dropout": 1.0},
        {"input_dropout": -0.1},
        {"held_out": 1.0},
        {"hidden": (0,)},
        {"rounds": 2, "recipe": "upper"},
        {"tuning": StageTraining(learning_rate=-1.0)},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-").replace("tuning", "rate")):
            PseudoLabelPretraining(**wrong).validate()  # type: ignore[arg-type]
    for number, fields in enumerate(({"recipe": "dapt"}, {"mlm_weight": 1.0})):
        with pytest.raises(UsageError, match="cannot tell hidden words"):
            trained(tmp_path / str(number), **fields)
        assert not (tmp_path / str(number) / "partial").exists()
    made = task()
    made.given = np.where(made.given == 0, 0, UNKNOWN)
    with pytest.raises(DataError, match="two classes or more"):
        trained(tmp_path / "one", made)


def test_a_copy_of_a_labelled_item(tmp_path: Path) -> None:
    """Oracle: an item made equal to a labelled one: left out of the pool, or refused where that is asked."""
    made = task()
    pool = made.pool
    assert isinstance(pool, Vectors)
    first, other = made.labelled[0], int(np.flatnonzero(made.given == UNKNOWN)[0])
    values = pool.values.copy()
    values[other] = values[first]
    made.pool = Vectors(pool.name, values, pool.labels)
    assert other not in trained(tmp_path / "left", made).parts.unlabelled
    with pytest.raises(DataError, match=f"at place {other}"):
        trained(tmp_path / "strict", made, strict=True)


def test_the_oracle_is_asked_by_the_upper_bound_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: an oracle that raises."""

    def answers(*given: Any) -> list[str]:
        raise AssertionError("asked")

    monkeypatch.setattr(HiddenLabels, "answers", answers)
    for recipe in RECIPES:
        if recipe == "upper":
            with pytest.raises(AssertionError, match="asked"):
                trained(tmp_path / recipe, recipe=recipe)
        elif not RECIPES[recipe].adapted:
            trained(tmp_path / recipe, recipe=recipe)


def test_arms_have_their_order_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the items of each step of pre-training, in every arm that learns the pool alone."""
    orders: dict[str, list[list[int]]] = {}
    draw = stages_module.batch_indices
    for recipe in ("method", "self-train", "continue", "upper"):
        order = orders.setdefault(recipe, [])

        def noted(run: Any, name: str, *given: Any, order: list[list[int]] = order) -> np.ndarray:
            at = draw(run, name, *given)
            if name == "student-1":
                order.append(at.tolist())
            return at

        monkeypatch.setattr(stages_module, "batch_indices", noted)
        trained(tmp_path / recipe, recipe=recipe)
    assert len(orders["method"]) == 20 and len({str(order) for order in orders.values()}) == 1
