"""Tasks of images: many without labels, some with, and what the features of an encoder are worth on them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator, stream_key
from selfstudy.data.image_sets import UNKNOWN, ImageSet, image_splits
from selfstudy.data.labelled import balanced_places
from selfstudy.data.long_tail import long_tail
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.evaluation.by_class import by_class
from selfstudy.evaluation.calibration import Told, told
from selfstudy.evaluation.collapse import alignment, effective_rank, least_variance, uniformity
from selfstudy.evaluation.embedding_map import SHOWN, embedding_map
from selfstudy.evaluation.probes import linear_probe, nearest_neighbours, recognised
from selfstudy.evaluation.scores import ACCURACY, Measured, Metric
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.tasks.base import HeldOutTask, require_held

RECOGNISED = Metric(name="another view recognised", share=True)
NEIGHBOURS = 20
LOOKED_AT = 2000  # inputs that rank, uniformity and alignment are measured on


class ImageTask(HeldOutTask):
    """Unlabelled images to learn from, a labelled subset to probe with, and held-out images to judge on.

    A model is judged by the accuracy of a linear classifier on its frozen features, fitted on the labelled
    subset alone. Without labels it is judged by whether it recognises another random view of an image among
    those of all held-out images.

    Attributes:
        name: the specification that makes this task again.
        metric: accuracy, or recognised views.
        train: the images to learn from; their labels are not in it.
        labelled: the labelled subset.
        classes: the names of the labels.
        meter: where labels are counted; this task gives out none beside the subset.
        names: what each training image is called, such as the name of its file; none unless known.
        files: where each training image lies; none unless it is a file of its own.
    """

    def __init__(self, name: str, splits: dict[str, ImageSet], labelled: ImageSet) -> None:
        train = splits["train"]
        self.name = name
        self.train = ImageSet(train.name, train.images, np.full(len(train), UNKNOWN), ())
        self.labelled = labelled
        self.classes = labelled.classes
        self.metric = ACCURACY if self.classes else RECOGNISED
        self.meter = Meter()
        self.names: tuple[str, ...] = ()
        self.files: tuple[Path, ...] = ()
        self._held = {split: splits[split] for split in ("validation", "test")}
        self._train_labels = train.labels  # for what is told after training alone

    def held(self, split: str) -> int:
        """Return how many items a split holds."""
        return len(self._held[split])

    def limited(self, train: int) -> Self:
        """Return the task with the first `train` unlabelled images."""
        bound = copy.copy(self)
        bound.train = self.train.only(slice(train))
        return bound

    def prepared(self, model: ImageEncoder) -> ImageEncoder:
        """Return an encoder made for these images: their channels, size and statistics."""
        return model.made_for(self.train)

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return whether each of the first `limit` images of a split is told right; None is all.

        Args:
            model: an encoder, whose features are probed, or a classifier with `classify(images)`.
            split: "test", or "validation", which a method may look at.
            limit: how many images.
        """
        require_held(split)
        held = self._held[split].only(slice(limit))
        if not self.classes:
            first, second = self._two_views(model, held)
            return Measured(tuple(recognised(first, second).astype(float).tolist()))
        if hasattr(model, "classify"):
            told = held.mapped(lambda pixels, _: model.classify(pixels))
        else:
            told = self.probe(model).predict(_features(model, held))
        right = told.numpy() == held.labels
        return Measured(tuple(right.astype(float).tolist()))

    def judged(self, model: Any, *, split: str = "test", limit: int | None = None) -> Told:
        """Return how sure a classifier is of what it tells of a split, whether it is right, and its loss.

        Args:
            model: a classifier, with `scores(images)`.
            split: "test", or "validation", which a method may look at.
            limit: how many images; None is all.
        """
        require_held(split)
        held = self._held[split].only(slice(limit))
        return told(held.mapped(lambda pixels, _: model.scores(pixels).softmax(1)), held.labels)

    def probe(self, model: ImageEncoder) -> Any:
        """Return a linear classifier of the encoder's features, fitted on the labelled subset."""
        return linear_probe(
            _features(model, self.labelled), torch.from_numpy(self.labelled.labels), len(self.classes)
        )

    def look(self, before: Any, after: Any, parts: dict[str, Any]) -> dict[str, Any]:
        """Return what else there is to say of two encoders: `metrics` by name, and `pictures`.

        Args:
            before: the untrained one.
            after: the trained one.
            parts: what else the method gave. A part with `by_input`, a figure [N] of each unlabelled image,
                is told by class.
        """
        held = self._held["test"].only(slice(LOOKED_AT))
        features = {"before": _features(before, held), "after": _features(after, held)}
        metrics: dict[str, Any] = {}
        for when, model in (("before", before), ("after", after)):
            if self.classes:
                right = self._neighbours(model, features[when]).numpy() == held.labels
                metrics[f"nearest neighbours, {when}"] = self.metric.row(right.astype(float).tolist())
            for name, value in self._monitors(model, features[when], held).items():
                metrics[f"{name}, {when}"] = value
        pictures = []
        for name, part in parts.items():
            if self.classes and hasattr(part, "by_input"):
                labels = self._train_labels[: len(self.train)]
                found = by_class(name, part.by_input, labels, self.classes)
                metrics |= found["metrics"]
                pictures += found["pictures"]
        if len(held) < 2:
            return {"metrics": metrics, "pictures": pictures}
        shown = embedding_map(
            features["before"][:SHOWN].numpy(),
            features["after"][:SHOWN].numpy(),
            held.labels[:SHOWN],
            self.classes,
        )
        return {"metrics": metrics, "pictures": [*pictures, shown]}

    def _neighbours(self, model: ImageEncoder, queries: torch.Tensor) -> torch.Tensor:
        labels = torch.from_numpy(self.labelled.labels)
        return nearest_neighbours(
            _features(model, self.labelled), labels, queries, len(self.classes), neighbours=NEIGHBOURS
        )

    def _monitors(self, model: ImageEncoder, features: torch.Tensor, images: ImageSet) -> dict[str, float]:
        return {
            "effective rank": effective_rank(features),
            "least variance": least_variance(features),
            "uniformity": uniformity(features),
            "alignment": alignment(*self._two_views(model, images)),
        }

    @staticmethod
    def _two_views(model: ImageEncoder, images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
        def view(which: int) -> torch.Tensor:
            views, key = ImageViews(), stream_key("look", which)
            return images.mapped(lambda pixels, at: model.embed_pixels(views(pixels, view_keys(key, at))))

        return view(1), view(2)


def _features(model: Any, images: ImageSet) -> torch.Tensor:
    """Return the features [N, d] that an encoder, or a classifier's, gives a set of images."""
    return images.mapped(lambda pixels, _: model.embed_pixels(pixels))


def labelled_splits(task: ImageTask) -> dict[str, ImageSet]:
    """Return the splits that a task was made of, with all labels: to make another task of them."""
    known = ImageSet(task.train.name, task.train.images, task._train_labels, task.classes)
    return {"train": known, **task._held}


def labelled_subset(images: ImageSet, count: int, draw: int) -> ImageSet:
    """Return `count` labelled images, of each class as many as of the others or one more.

    Args:
        images: with labels.
        count: how many; classes that have too few give all they have, and others more.
        draw: names the choice.

    Raises:
        UsageError: more than there are, or fewer than two a class.
    """
    return images.only(balanced_places(images.labels, count, draw, images.name, per_class=2))


def wrong_labels(labels: np.ndarray, classes: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return labels [N] of which a share, rounded, is replaced by any other class."""
    at = rng.permutation(len(labels))[: round(share * len(labels))]
    wrong = labels.copy()
    wrong[at] = (labels[at] + rng.integers(1, classes, len(at))) % classes
    return wrong


def built_in(
    name: str,
    labels: int,
    train: int,
    draw: int,
    test: int = 0,
    tail: float = 0.0,
    noise: float = 0.0,
) -> ImageTask:
    """Return the task of a built-in set.

    Args:
        name: of the set.
        labels: labelled images that the probe is fitted on.
        train: unlabelled images, drawn from the training split; 0 is all of it. Some may be among those
            that are labelled.
        draw: names which images are drawn.
        test: test images; 0 is all.
        tail: size of the rarest class over that of the most frequent, where the unlabelled images are to be
            long-tailed, `train` of them at most; 0 leaves the classes as they are.
        noise: share of the labelled images whose label is a wrong one, any other class.

    Raises:
        UsageError: numbers that the set does not have.
    """
    splits = dict(image_splits(name))
    whole = splits["train"]
    labelled = labelled_subset(whole, labels, draw)
    if not 0 <= noise < 1:
        raise UsageError(f"noise={noise:g} must be from 0 to below 1, the share of wrong labels.")
    if noise:
        rng = generator("wrong labels", name, draw)
        labelled = replace(labelled, labels=wrong_labels(labelled.labels, len(whole.classes), noise, rng))
    if train:
        if not 0 < train <= len(whole):
            raise UsageError(
                f"train={train} must be from 1 to {len(whole)}, the training images of {name!r}."
            )
        at = generator("unlabelled", name, draw).permutation(len(whole))[:train]
        splits["train"] = whole.only(np.sort(at))
    if tail:
        splits["train"] = whole.only(long_tail(whole.labels, tail, draw=draw, total=train))
    if test:
        splits["test"] = splits["test"].only(slice(test))
    given = {"labels": labels, "train": train, "draw": draw, "test": test, "tail": tail, "noise": noise}
    fields = "&".join(f"{field}={value}" for field, value in given.items() if value or field == "labels")
    return ImageTask(f"{name}?{fields}", splits, labelled)


def digits(
    *, labels: int = 100, train: int = 0, draw: int = 0, test: int = 0, tail: float = 0.0, noise: float = 0.0
) -> ImageTask:
    """Handwritten digits of 8 x 8 pixels; see `built_in`."""
    return built_in("digits", labels, train, draw, test, tail, noise)


def fashion_mnist(
    *,
    labels: int = 1000,
    train: int = 10000,
    draw: int = 0,
    test: int = 0,
    tail: float = 0.0,
    noise: float = 0.0,
) -> ImageTask:
    """Grey pictures of clothes, 28 x 28; see `built_in`."""
    return built_in("fashion-mnist", labels, train, draw, test, tail, noise)


def cifar10(
    *, labels: int = 1000, train: int = 0, draw: int = 0, test: int = 0, tail: float = 0.0, noise: float = 0.0
) -> ImageTask:
    """Colour photographs of ten kinds of things, 32 x 32; see `built_in`."""
    return built_in("cifar10", labels, train, draw, test, tail, noise)
