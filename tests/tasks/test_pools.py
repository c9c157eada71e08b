"""Pools: what a method may see, what asking costs, how models are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Vectors
from selfstudy.data.oracles import HiddenLabels, Program
from selfstudy.evaluation.probes import linear_probe
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead, MlpHead
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.tasks.pools import PoolTask, pool_task

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def clouds(count: int, seed: int) -> Vectors:
    """Three clouds of points that do not touch."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = np.eye(3)[labels] * 4 + random.normal(size=(count, 3)) * 0.3
    return Vectors("clouds", values.astype(np.float32), labels, CLASSES)


def clouds_task(**fields: int) -> PoolTask:
    splits = {"train": clouds(60, 0), "validation": clouds(12, 1), "test": clouds(30, 2)}
    return pool_task("clouds", dict(splits), **{"labels": 6, **fields})


def test_hidden_labels_are_not_in_the_pool() -> None:
    """Oracle: 6 of 60 labels were asked for; all that a method can see is compared with the truth."""
    task, truth = clouds_task(), clouds(60, 0).labels
    assert (task.pool.labels == UNKNOWN).all() and task.pool.classes == ()
    assert len(task.labelled) == 6 and (task.given[task.labelled] == truth[task.labelled]).all()
    assert np.bincount(task.given[task.labelled]).tolist() == [2, 2, 2]
    assert (len(task.validation), len(task.test)) == (12, 30)


def test_asking_gives_the_truth_and_counts_it(tmp_path: Path) -> None:
    """Oracle: the labels the pool was made of; a resumed run reads them back without asking again."""
    for _ in range(2):
        with Run(tmp_path) as run:
            task = clouds_task().metered(run.meter)
            labels, names = task.ask(run, "first", np.array([5, 40]))
            assert labels.tolist() == clouds(60, 0).labels[[5, 40]].tolist() and names == CLASSES
            assert task.confirm(run, "sure", np.array([0, 1]), np.array([0, 0])).tolist() == [1, 0]
            assert run.meter.snapshot()["oracle_labels"] == 4


def test_a_query_that_the_budget_does_not_cover_is_not_put(tmp_path: Path) -> None:
    """Oracle: three labels in the budget, two asked for twice."""
    asked: list[int] = []

    def told(places: object) -> list[str]:
        asked.append(len(list(places)))  # type: ignore[call-overload]
        return ["a", "b"]

    with Run(tmp_path, budget=Budget(oracle_labels=3)) as run:
        task = clouds_task().metered(run.meter)
        task._oracle = Program(told)
        task.ask(run, "one", np.array([0, 1]))
        with pytest.raises(BudgetSpent):
            task.ask(run, "two", np.array([2, 3]))
    assert asked == [2] and run.meter.snapshot()["oracle_labels"] == 2


def test_new_classes_are_added_where_they_may_be(tmp_path: Path) -> None:
    """Oracle: the third class is not enrolled; not known is "not sure" unless new ones are allowed."""
    task = clouds_task(enrolled=2, labels=4)
    assert task.classes == CLASSES[:2] and set(task.given) == {UNKNOWN, 0, 1}
    with Run(tmp_path) as run:
        task = task.metered(run.meter)
        labels, names = task.ask(run, "closed", np.array([2, 3]))
        assert (labels.tolist(), names) == ([UNKNOWN, 0], ("a", "b"))
        labels, names = task.ask(run, "open", np.array([2, 3]), allow_new=True)
        assert (labels.tolist(), names) == ([2, 0], CLASSES)
    # Items of the third class are not judged: nobody said that it exists.
    assert len(task.test) == 20


def test_an_answer_that_is_no_class_is_refused(tmp_path: Path) -> None:
    """Oracle: an oracle that says "d"."""

    class Wrong:
        kind = "asked"

        def answers(self, query: object, directory: Path) -> list[str]:
            return ["d"]

    with Run(tmp_path) as run:
        task = clouds_task().metered(run.meter)
        task._oracle = Wrong()
        with pytest.raises(DataError, match="'d' is none of the classes: a, b, c"):
            task.ask(run, "q", np.array([0]))


def test_an_encoder_is_judged_by_a_probe_and_a_classifier_by_itself() -> None:
    """Oracle: the probe of the given labels, fitted here; clouds that do not touch; a head of zeros."""
    task = clouds_task()
    encoder = task.prepared(FlatEncoder())
    at = task.labelled
    probe = linear_probe(torch.from_numpy(task.pool.values[at]), torch.from_numpy(task.given[at]), 3)
    right = probe.predict(torch.from_numpy(clouds(30, 2).values)).numpy() == clouds(30, 2).labels
    assert task.evaluate(encoder).values == tuple(right.astype(float))
    constant = FeatureClassifier(encoder, LinearHead(width=3, classes=3), CLASSES)
    assert task.evaluate(constant).values == tuple((clouds(30, 2).labels == 0).astype(float))
    assert len(task.evaluate(constant, split="validation", limit=5).values) == 5
    with pytest.raises(UsageError, match="no split 'train'"):
        task.evaluate(constant, split="train")


def test_a_limited_pool_keeps_its_labels_and_its_oracle(tmp_path: Path) -> None:
    """Oracle: vectors compared one by one with the whole pool."""
    task, whole = clouds_task().limited(20), clouds(60, 0)
    assert len(task.pool) == 20 and (task.given != UNKNOWN).sum() == 6 and len(task.ids) == 20
    assert all(int(name) < 60 for name in task.ids)
    assert (task.pool.values == whole.values[[int(name) for name in task.ids]]).all()
    with Run(tmp_path) as run:
        places = np.arange(20)
        labels, _ = task.metered(run.meter).ask(run, "all", places)
        assert labels.tolist() == whole.labels[[int(name) for name in task.ids]].tolist()


def test_the_map_is_shown_where_training_moved_the_features() -> None:
    """Oracle: a frozen encoder has no map; one whose features changed has."""
    task = clouds_task()
    encoder = task.prepared(FlatEncoder())
    frozen = FeatureClassifier(encoder, LinearHead(width=3, classes=3), CLASSES)
    assert task.look(encoder, frozen, {}) == {"metrics": {}, "pictures": []}

    class Turned(FlatEncoder):
        def embed_vectors(self, values: torch.Tensor) -> torch.Tensor:
            return values.flip(1)

    moved = FeatureClassifier(Turned(width=3), MlpHead(width=3, hidden=[], classes=3), CLASSES)
    assert len(task.look(encoder, moved, {})["pictures"]) == 1


def test_numbers_that_the_set_does_not_have() -> None:
    """Oracle: 60 items of three classes."""
    for fields, words in (
        ({"train": 61}, "train=61 must be from 1 to 60"),
        ({"enrolled": 1}, "enrolled=1 must be from 2 to 2"),
        ({"labels": 2}, "labels=2 of 'clouds' must be from 3"),
    ):
        with pytest.raises(UsageError, match=words):
            clouds_task(**fields)


def test_all_labels_are_given_where_none_are_counted() -> None:
    """Oracle: 0 is all that the drawn items of enrolled classes have."""
    task = clouds_task(labels=0, train=30, enrolled=2)
    assert len(task.labelled) == int((task.given != UNKNOWN).sum()) == int((clouds_truth(task) < 2).sum())


def clouds_truth(task: PoolTask) -> np.ndarray:
    """Return the truth of drawn items, found by their vectors."""
    whole = clouds(60, 0)
    places = [int((whole.values == one).all(1).argmax()) for one in task.pool.values]
    return whole.labels[places]


def test_a_split_may_be_empty() -> None:
    """Oracle: no items, no figures, and the model is not asked."""
    splits = {"train": clouds(60, 0), "validation": clouds(0, 1), "test": clouds(30, 2)}
    task = pool_task("clouds", dict(splits), labels=6)
    assert task.evaluate(object(), split="validation").values == ()


def test_a_table_of_labels_names_all_items() -> None:
    """Oracle: by hand, with the classes of the task and with others."""
    task = clouds_task()
    labels = np.zeros(60, dtype=np.int64)
    table = task.label_table(labels, np.ones(60), ["predicted"] * 60)
    assert table.ids == task.ids and table.names() == ["a"] * 60 and table.shown[7] == "clouds 7"
    other = task.label_table(labels, np.ones(60), ["given"] * 60, classes=("z",))
    assert other.names() == ["z"] * 60 and other.sources == ("given",) * 60


def test_the_name_makes_the_task_again() -> None:
    """Oracle: the task itself."""
    task = selfstudy.task("pool:digits?labels=20&draw=3&train=200&test=50&enrolled=8")
    again = selfstudy.task(task.name)
    assert (again.given == task.given).all() and again.classes == task.classes == tuple("01234567")
    assert len(task.pool) == 200 and (again.pool.images == task.pool.images).all()


def test_what_an_oracle_says_that_knows_less(tmp_path: Path) -> None:
    """Oracle: a hidden column with gaps."""
    gaps = clouds(60, 0).labels.copy()
    gaps[7] = UNKNOWN
    with Run(tmp_path) as run:
        task = clouds_task().metered(Meter())
        task._oracle = HiddenLabels(gaps, CLASSES)
        assert task.ask(run, "q", np.array([6, 7]))[0].tolist() == [0, UNKNOWN]
