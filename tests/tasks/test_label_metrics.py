"""Tasks whose labels have distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.models.encoders.features import features_of
from selfstudy.models.labels.building import embedding_space
from selfstudy.models.labels.rule import LokiRule
from selfstudy.tasks.label_metrics import GradedTask, graded_task, rotated_digits


def test_observed_angles_of_digits() -> None:
    """Oracle: every sixth of 37 angles is given, of 20 images; the oracle knows the others."""
    task = rotated_digits(every=6, train=20, test=74)
    assert task.observed.tolist() == [0, 6, 12, 18, 24, 30, 36] and len(task.labelled) == 20 * 7
    assert task.classes[0] == "-90" and len(task.pool) == 20 * 37 and len(task.test) == 74
    assert (task.pool.labels == UNKNOWN).all() and len(task.validation) == 3700
    assert selfstudy.task(task.name).name == task.name
    with pytest.raises(UsageError, match="every=37"):
        rotated_digits(every=37)


def test_whole_circle(tmp_path: Path) -> None:
    """Oracle: distances on a ring of 36; labels asked for are the hidden ones."""
    task = rotated_digits(every=2, full=True, train=4)
    assert task.space.distances(np.array([0]))[0, [1, 18, 35]].tolist() == [1, 18, 1]
    with Run(tmp_path, {}) as run:
        told, names = task.metered(run.meter).ask(run, "q", np.arange(5))
    assert (
        told.tolist() == [0, 1, 2, 3, 4]
        and names == task.classes
        and run.meter.snapshot()["oracle_labels"] == 5
    )


def test_evaluation_is_in_squared_distance() -> None:
    """Oracle: (told - truth)^2 item by item, for a classifier whose classes are some labels by name."""
    task = rotated_digits(every=9, train=10, test=100)

    class Own:
        classes = ("45", "-90")

        def classify(self, items: object) -> torch.Tensor:
            return torch.arange(len(items)) % 2  # type: ignore[arg-type]

    told = np.where(np.arange(100) % 2, 0, 27)
    truth = np.tile(np.arange(37), 3)[:100]
    assert task.evaluate(Own()).values == tuple(((told - truth) ** 2).tolist())
    assert len(task.evaluate(Own(), split="validation", limit=7).values) == 7
    assert task.prepared(Own()).classes == Own.classes
    Own.classes = ("45", "46")
    with pytest.raises(DataError, match="no label '46'"):
        task.evaluate(Own())


def test_an_encoder_is_judged_by_observed_labels() -> None:
    """Oracle: the classifier that the probe makes tells observed labels alone, and as the probe does."""
    task = rotated_digits(every=12, train=20, test=100)
    encoder = task.prepared(selfstudy.model("flat"))
    probed = task.probed(encoder)
    assert probed.classes == ("-90", "-30", "30", "90")
    p = probed.scores(task.pool.only(task.labelled))
    right = (
        np.array([task.classes.index(probed.classes[i]) for i in p.argmax(1)]) == task.given[task.labelled]
    )
    assert right.mean() > 0.8
    told = task.told(encoder, task.validation_items)
    assert set(np.unique(told)) <= {0, 12, 24, 36}
    assert features_of(encoder, task.validation_items).shape[1] == 100


def write_reviews(folder: Path, stars: tuple[str, ...] = ("1", "2", "4", "5")) -> Path:
    words = {"1": "awful broken", "2": "poor", "3": "plain", "4": "good", "5": "great love"}
    rows = [f"{words[star]} item {number},{star}" for star in stars for number in range(30)]
    rows += [f"item {number} is somehow,\n".strip() for number in range(20)]
    file = folder / "reviews.csv"
    file.write_text("body,stars\n" + "\n".join(rows) + "\n")
    return file


def test_a_users_stars(tmp_path: Path) -> None:
    """Oracle: five labels on a line though no review has 3; predictions can be 3."""
    file = write_reviews(tmp_path)
    task = selfstudy.task(f"csv:{file}?text=body&label=stars&metric=line:1:5")
    assert isinstance(task, GradedTask) and task.classes == ("1", "2", "3", "4", "5")
    assert [task.classes[label] for label in task.observed] == ["1", "2", "4", "5"]
    assert task.metric.lower_is_better and selfstudy.task(task.name).name == task.name
    rule = LokiRule(task.space, task.observed)
    assert task.classes[rule.predict(np.array([[0, 0.5, 0.5, 0]]))[0]] == "3"
    held = task.validation_items
    assert {held.classes[label] for label in held.labels} <= {"1", "2", "4", "5"}


def test_a_part_of_the_labels_is_observed(tmp_path: Path) -> None:
    """Oracle: two of four, drawn; held-out items keep the labels of all; the draw changes which."""
    file = write_reviews(tmp_path)
    seen = set()
    for draw in range(4):
        task = selfstudy.task(f"csv:{file}?text=body&label=stars&metric=line&observed=2&draw={draw}")
        assert len(task.observed) == 2 and len(np.unique(task.validation_items.labels)) > 2
        seen.add(tuple(task.observed))
    assert len(seen) > 1
    with pytest.raises(UsageError, match="observed=5 must be from 2 to 4"):
        selfstudy.task(f"csv:{file}?text=body&label=stars&metric=line&observed=5")


def test_pools_by_name() -> None:
    """Oracle: ten digits among thirteen numbers; a class that the space does not have is named."""
    task = selfstudy.task("pool:digits?labels=30&train=50&test=20&metric=line:0:12")
    assert task.classes[-1] == "12" and len(task.classes) == 13 and task.observed.tolist() == list(range(10))
    with pytest.raises(DataError, match="no label '0'"):
        graded_task(selfstudy.task("pool:digits?labels=30&train=50"), embedding_space(np.eye(2), ["a", "b"]))


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: an unknown metric, words on a line, an unknown field of the pool itself."""
    file = write_reviews(tmp_path)
    with pytest.raises(UsageError, match="no metric 'lines'"):
        selfstudy.task(f"csv:{file}?text=body&label=stars&metric=lines")
    with pytest.raises(DataError, match="numbers; 'awful' is none"):
        file.write_text(
            "body,stars\n" + "".join(f"text {n},{'awful' if n % 2 else 'good'}\n" for n in range(40))
        )
        selfstudy.task(f"csv:{file}?text=body&label=stars&metric=line")
    with pytest.raises(UsageError, match="no field 'strs'"):
        selfstudy.task(f"csv:{file}?text=body&label=stars&strs=1&metric=line")
