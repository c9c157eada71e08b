"""Tasks whose labels have distances: an error costs as much as it is far, and some labels were never seen.

Any pool becomes one by the field `metric`: `csv:reviews.csv?text=body&label=stars&metric=line`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.oracles import HiddenLabels, Oracle
from selfstudy.data.rotated_digits import FULL, HALF, rotated_splits
from selfstudy.evaluation.probes import linear_probe
from selfstudy.evaluation.scores import Measured, Metric
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead
from selfstudy.models.encoders.features import features_of
from selfstudy.models.labels.building import edges_space, embedding_space
from selfstudy.models.labels.files import label_space
from selfstudy.models.labels.rule import numbers_of
from selfstudy.models.labels.spaces import AnySpace, paired_distances
from selfstudy.tasks.base import require_held
from selfstudy.tasks.pools import AnyItems, PoolTask

SQUARED_DISTANCE = Metric(name="squared label distance", lower_is_better=True)


class GradedTask(PoolTask):
    """A pool whose labels have distances; models are judged by the squared one from the truth.

    Labels of some classes are given, the observed ones; held-out items have labels of any.

    Attributes:
        metric: squared label distance.
        space: all labels with their distances; `classes` are their names.
    """

    def __init__(
        self,
        name: str,
        pool: AnyItems,
        given: np.ndarray,
        space: AnySpace,
        held: dict[str, AnyItems],
        oracle: Oracle,
        *,
        ids: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, pool, given, space.names, held, oracle, ids=ids)
        self.space, self.metric = space, SQUARED_DISTANCE

    @property
    def observed(self) -> np.ndarray:
        """Numbers of the labels that are given of some item, in order."""
        return np.unique(self.given[self.labelled])

    @property
    def validation_items(self) -> AnyItems:
        """The held-out items that a method may look at, with their labels."""
        return self._held["validation"]

    def prepared(self, model: Any) -> Any:
        """Return an encoder made for these items; a classifier without `made_for` as it is."""
        return model.made_for(self.pool) if hasattr(model, "made_for") else model

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return by item the squared distance of the label told from the truth.

        Args:
            model: an encoder, by a linear classifier of the observed labels on its frozen features; or a
                classifier with `classify(items)`, whose `classes` are labels of the space.
            split: "test", or "validation", which a method may look at.
            limit: how many items; None is all.
        """
        require_held(split)
        held = self._held[split].only(slice(limit))
        told = self.told(model, held)
        return Measured(tuple((paired_distances(self.space, held.labels, told) ** 2).tolist()))

    def told(self, model: Any, items: AnyItems) -> np.ndarray:
        """Return the labels [N] that a model tells of items."""
        classifier = model if hasattr(model, "classify") else self.probed(model)
        return numbers_of(self.space, classifier.classes)[self._told(classifier, items)]

    def probed(self, encoder: Any) -> FeatureClassifier:
        """Return a classifier of the observed labels: a linear one of the encoder's frozen features.

        Raises:
            DataError: fewer than two labels are observed.
        """
        at, observed = self.labelled, self.observed
        features = features_of(encoder, self.pool.only(at))
        told = torch.from_numpy(np.searchsorted(observed, self.given[at]))
        probe = linear_probe(features, told, len(observed))
        head = LinearHead(width=features.shape[1], classes=len(observed))
        with torch.no_grad():
            head.mean.copy_(probe.mean)
            head.deviation.copy_(probe.deviation)
            head.linear.weight.copy_(probe.weight)
            head.linear.bias.copy_(probe.bias)
        return FeatureClassifier(encoder, head, tuple(self.classes[label] for label in observed)).eval()


def graded_task(
    task: PoolTask, space: AnySpace, *, name: str = "", observed: int = 0, draw: int = 0
) -> GradedTask:
    """Return a pool with distances between its labels.

    Args:
        task: whose classes are labels of the space, by name.
        space: the labels and distances.
        name: of the specification; empty is that of `task`.
        observed: labels of which some item's stays given, drawn; 0 is all.
        draw: names which.

    Raises:
        UsageError: more observed labels than are given, or one alone.
        DataError: classes that are not in the space.
    """
    codes = numbers_of(space, task.classes)
    given = np.where(task.given == UNKNOWN, UNKNOWN, codes[task.given])
    had = np.unique(given[given != UNKNOWN])
    if observed:
        if not 1 < observed <= len(had):
            raise UsageError(f"observed={observed} must be from 2 to {len(had)}, the labels given of items.")
        kept = generator("observed labels", draw).permutation(had)[:observed]
        given = np.where(np.isin(given, kept), given, UNKNOWN)
    held = {split: _labelled_by(items, codes, space) for split, items in task._held.items()}
    graded = GradedTask(name or task.name, task.pool, given, space, held, task._oracle, ids=task.ids)
    graded.files = task.files
    return graded


def _labelled_by(items: AnyItems, codes: np.ndarray, space: AnySpace) -> AnyItems:
    labels = np.where(items.labels == UNKNOWN, UNKNOWN, codes[items.labels])
    return replace(items, labels=labels, classes=space.names)


def graded(prefix: str, rest: str, *, metric: str, observed: int = 0, **fields: str) -> GradedTask:
    """Return the pool `PREFIX REST?fields` with distances between its labels.

    Args:
        prefix: of the pool, such as "csv:".
        rest: what follows it.
        metric: see `label_space`: line, paths, tree:FILE, embeddings:FILE, cosine:FILE, arccos:FILE,
            matrix:FILE or names.
        observed: labels of which some item's stays given, drawn by the field `draw`; 0 is all.
        fields: of the pool.

    Raises:
        UsageError: fields that cannot be right.
        DataError: files that cannot be used, or a task that is no pool.
    """
    from selfstudy.tasks.loading import task

    query = "&".join(f"{field}={quote(value, safe='/:.,')}" for field, value in fields.items())
    pool = task(f"{prefix}{quote(rest, safe='/:.,')}?{query}")
    if not isinstance(pool, PoolTask):
        raise DataError(f"{prefix}{rest} with these fields is no pool of items, so it takes no metric.")
    space = label_space(metric, pool.classes)
    said = {**fields, "metric": metric, **({"observed": str(observed)} if observed else {})}
    text = "&".join(f"{field}={quote(value, safe='/:.,')}" for field, value in said.items())
    name = f"{prefix}{quote(rest, safe='/:.,')}?{text}"
    return graded_task(pool, space, name=name, observed=observed, draw=int(fields.get("draw", 0)))


def rotated_digits(
    *, every: int = 6, full: bool = False, train: int = 500, test: int = 0, draw: int = 0
) -> GradedTask:
    """Return digits whose label is by how much they were turned, of which every so many angles are observed.

    Args:
        every: of the angles in order, the first one and each that many further on is observed.
        full: from -180 to 170 degrees in steps of 10, a circle; else from -90 to 90 in steps of 5, a line.
        train: images to learn from, each of which is there at all angles; 100 others are to validate.
        test: test images at their angles, the first ones; 0 is all.
        draw: names which images are which.

    Raises:
        UsageError: fewer than two observed angles, or not so many images.
    """
    degrees = FULL if full else HALF
    count = len(degrees)
    if not 1 <= every < count:
        raise UsageError(f"every={every} must be from 1 to {count - 1}, so that two angles are observed.")
    splits: dict[str, Any] = dict(rotated_splits(degrees, train=train, draw=draw))
    whole = splits["train"]
    names = whole.classes
    places = np.arange(count)
    if full:
        space: AnySpace = edges_space(np.stack([places, (places + 1) % count], 1), None, names)
    else:
        space = embedding_space(places[:, None], names)
    given = np.where(whole.labels % every == 0, whole.labels, UNKNOWN)
    held = {"validation": splits["validation"], "test": splits["test"].only(slice(test or None))}
    said = {"every": every, "full": str(full).lower(), "train": train, "test": test, "draw": draw}
    name = "rotated-digits?" + "&".join(f"{field}={value}" for field, value in said.items())
    return GradedTask(name, whole, given, space, held, HiddenLabels(whole.labels, names))
