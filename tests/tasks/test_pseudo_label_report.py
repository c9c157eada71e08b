"""What is reported of pseudo-labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from selfstudy.data.items import Vectors
from selfstudy.data.oracles import HiddenLabels
from selfstudy.data.pool_parts import PoolParts
from selfstudy.evaluation.scores import Measured
from selfstudy.signals.predictions import Predictions
from selfstudy.tasks.pools import PoolTask
from selfstudy.tasks.pseudo_label_report import class_histogram, pseudo_label_report

CLASSES = ("a", "b")


class Judged(PoolTask):
    """Finds the first of two held-out items right, whatever the model."""

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        return Measured((1.0, 0.0))


def task(validation: int = 2) -> PoolTask:
    pool = Vectors("v", np.zeros((4, 1), np.float32), np.full(4, -1))
    held = Vectors("h", np.zeros((validation, 1), np.float32), np.zeros(validation, int), CLASSES)
    given, oracle = np.array([0, -1, 1, -1]), HiddenLabels(np.zeros(4, int), CLASSES)
    splits: dict[str, Any] = {"validation": held, "test": held}
    return Judged("v", pool, given, CLASSES, splits, oracle, ids=("p", "q", "r", "s"))


def model(rows: list[list[float]]) -> Any:
    return SimpleNamespace(scores=lambda items: torch.tensor(rows))


PARTS = PoolParts(np.array([0, 2]), np.array([0, 1]), np.empty(0, int), np.empty(0, int), np.array([1, 3]))
TOLD = Predictions(np.array([1, 3]), torch.tensor([[0.9, 0.1], [0.4, 0.6]]))
STEPS = {"teacher": None, "final": model([[0.2, 0.8], [0.7, 0.3], [0.9, 0.1], [0.1, 0.9]])}


def test_labels_given_told_and_trained_on() -> None:
    """Oracle: by hand: given labels stay although the model says otherwise; the fourth was not trained on."""
    report = pseudo_label_report(task(), PARTS, STEPS, TOLD, np.array([1]))
    labels, told = report.tables["labels"], report.tables["pseudo_labels"]
    assert labels.labels.tolist() == [0, 0, 1, 1] and labels.sources == (
        "given",
        "pseudo",
        "given",
        "predicted",
    )
    assert np.allclose(labels.confidence, [1, 0.7, 1, 0.9])
    assert (told.ids, told.labels.tolist()) == (("q", "s"), [0, 1]) and told.sources == (
        "pseudo",
        "predicted",
    )
    assert np.allclose(told.confidence, [0.9, 0.6])
    assert report.metrics["pseudo_labels_trained_on"] == 1 and report.metrics["unlabelled_items"] == 2
    assert np.isclose(report.metrics["teacher_confidence_on_the_pool"], 0.75)
    assert report.metrics["validation, final"]["accuracy"] == 0.5
    assert [one["title"][:8] for one in report.pictures] == ["Accuracy", "Classes ", "Most dou"]


def test_without_pseudo_labels_and_without_validation_items() -> None:
    """Oracle: there is nothing to show of them."""
    report = pseudo_label_report(task(0), PARTS, STEPS, None, np.empty(0, int))
    assert set(report.tables) == {"labels"} and "predicted" in report.tables["labels"].sources
    assert [one["title"] for one in report.pictures] == ["Most doubtful items"]
    assert not [name for name in report.metrics if "validation" in name]


def test_shares_of_classes() -> None:
    """Oracle: two labels of each class, three of four pseudo-labels of the second, which comes first."""
    told = Predictions(np.arange(4), torch.tensor([[0.9, 0.1], *[[0.1, 0.9]] * 3]))
    found = class_histogram(told, np.array([0, 0, 1, 1]), CLASSES)
    assert [trace["y"] for trace in found["traces"]] == [[0.5, 0.5], [0.75, 0.25]]
    assert found["traces"][0]["x"] == ["b", "a"]
