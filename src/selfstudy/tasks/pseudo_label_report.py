"""What pseudo-labels were and what each step was worth: figures, pictures and tables of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.label_table import GIVEN, PREDICTED, PSEUDO, LabelTable
from selfstudy.data.pool_parts import PoolParts
from selfstudy.evaluation.labelling_pictures import doubtful_items
from selfstudy.evaluation.pictures import Picture, bars, picture
from selfstudy.signals.predictions import Predictions
from selfstudy.tasks.pools import PoolTask

MOST_CLASSES = 40  # shown, the most frequent ones


def step_accuracies(task: PoolTask, steps: Mapping[str, Any]) -> tuple[dict[str, Any], list[Picture]]:
    """Return how right the classifier of each step is on validation items, as rows and as a picture.

    Args:
        task: a pool; where it holds out no validation items nothing is returned.
        steps: classifiers by name of the step, in order.
    """
    if not len(task.validation):
        return {}, []
    values = {step: task.evaluate(model, split="validation").values for step, model in steps.items()}
    rows = {f"validation, {step}": task.metric.row(found) for step, found in values.items()}
    trace = bars("validation", list(values), [float(np.mean(found)) for found in values.values()])
    note = f"On {len(task.validation):,} validation items."
    return rows, [picture("Accuracy after each step", [trace], y=task.metric.name, note=note)]


def class_histogram(predictions: Predictions, labels: np.ndarray, classes: tuple[str, ...]) -> Picture:
    """Return the share of each class among the true labels and among the pseudo-labels."""
    told = predictions.histogram / max(1, len(predictions.places))
    given = np.bincount(labels, minlength=len(classes)) / max(1, len(labels))
    order = np.argsort(-told, kind="stable")[:MOST_CLASSES]
    names = [classes[label] for label in order]
    return picture(
        "Classes of the pool as the teacher tells them",
        [bars("true labels", names, given[order]), bars("pseudo-labels", names, told[order])],
        y="share",
        note="Where the teacher tells a class far more often than it was given, it may have a bias for it.",
        layout={"xaxis": {"type": "category"}},
    )


class Report(NamedTuple):
    """What a user takes home beside the model.

    Attributes:
        tables: "labels" of the whole pool: those given, and the final model's; and, where there were any,
            "pseudo_labels" of the unlabelled items alone, as the teacher told them.
        metrics: how right each step's classifier is on validation items, and counts.
        pictures: accuracies, classes, doubtful items.
    """

    tables: dict[str, LabelTable]
    metrics: dict[str, Any]
    pictures: list[Picture]


def pseudo_label_report(
    task: PoolTask,
    parts: PoolParts,
    steps: Mapping[str, Any],
    predictions: Predictions | None,
    trained_on: np.ndarray,
) -> Report:
    """Return what there is to say of a training with pseudo-labels.

    Args:
        task: a pool.
        parts: of it.
        steps: classifiers by name of the step; the last is the final one.
        predictions: of the teacher; None where it told nothing.
        trained_on: places of the items whose pseudo-label was trained on.
    """
    rows, pictures = step_accuracies(task, steps)
    used = np.isin(np.arange(len(task.pool)), trained_on)
    labels = final_labels(task, [*steps.values()][-1], used)
    metrics = {
        **rows,
        "labels_trained_on": len(parts.fit),
        "labels_held_out": len(parts.held),
        "unlabelled_items": len(parts.unlabelled),
    }
    if predictions is None:
        return Report({"labels": labels}, metrics, [*pictures, doubtful_items(labels)])
    at = predictions.places
    told = LabelTable(
        ids=tuple(labels.ids[place] for place in at),
        shown=tuple(labels.shown[place] for place in at),
        labels=predictions.labels,
        confidence=predictions.confidence.astype(float),
        sources=tuple(labels.sources[place] for place in at),
        classes=task.classes,
    )
    metrics["pseudo_labels_trained_on"] = int(used[at].sum())
    metrics["teacher_confidence_on_the_pool"] = float(predictions.confidence.mean())
    classes = class_histogram(predictions, parts.labels, task.classes)
    tables = {"labels": labels, "pseudo_labels": told}
    return Report(tables, metrics, [*pictures, classes, doubtful_items(labels)])


def final_labels(task: PoolTask, final: Any, used: np.ndarray) -> LabelTable:
    """Return the labels of the whole pool: those given, and elsewhere those of the classifier `final`.

    Args:
        task: a pool of N items.
        final: a classifier.
        used: [N], whether a pseudo-label of the item was trained on.
    """
    scores = final.scores(task.pool)
    given = task.given != UNKNOWN
    return task.label_table(
        np.where(given, task.given, scores.argmax(1).numpy()),
        np.where(given, 1.0, scores.max(1).values.double().numpy()),
        np.where(given, GIVEN, np.where(used, PSEUDO, PREDICTED)).tolist(),
    )
