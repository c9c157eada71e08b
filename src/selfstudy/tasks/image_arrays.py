"""Tasks of images that are arrays already, and what they share with folders: splits, labels and checks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import UNKNOWN, ImageSet, as_bytes, channels_first
from selfstudy.data.image_store import StoredImages
from selfstudy.data.splits import SPLITS, split_of, text_key
from selfstudy.tasks.images import ImageTask, labelled_subset

NAMED = 5  # classes that a message names


def from_arrays(
    images: np.ndarray,
    labels: Sequence[Any] | np.ndarray | None = None,
    *,
    count: int = 0,
    draw: int = 0,
    name: str = "arrays",
) -> ImageTask:
    """Make a task of arrays.

    A hash of an image's pixels decides its split, 70/10/20 %: more images never move one from one split to
    another, and equal images are in the same split.

    Args:
        images: [N, S, S] or [N, S, S, C], C being 1 or 3: uint8, or numbers from 0 to 1.
        labels: [N], numbers or text; None or -1 for an image without. None for none at all.
        count: labelled images that probes are fitted on, of the training split; 0 is all.
        draw: names which images these are.
        name: for reports; a digest of the arrays is added, so that a run goes on with the same ones alone.

    Raises:
        DataError: arrays that are no such images, labels of another number, or too few images.
        UsageError: a count that the labels do not have.
    """
    pixels = channels_first(as_bytes(np.asarray(images), name))
    if pixels.shape[1] not in (1, 3) or pixels.shape[2] != pixels.shape[3]:
        raise DataError(
            f"{name} has images of {pixels.shape[2]} x {pixels.shape[3]} with {pixels.shape[1]} channels; "
            "give square ones with 1 or 3."
        )
    codes, classes = _codes(labels, len(pixels), name)
    keys = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels]
    order, splits = arranged(keys, codes, [""] * len(pixels))
    digest = text_key(repr((keys, codes.tolist(), classes)))
    return task_of(
        f"{name}-{digest}", name, pixels[order], codes[order], splits, classes, labels=count, draw=draw
    )


def _codes(labels: Sequence[Any] | np.ndarray | None, count: int, name: str) -> tuple[np.ndarray, tuple]:
    """Return the labels as numbers from 0, and their names."""
    if labels is None:
        return np.full(count, UNKNOWN), ()
    given = np.asarray(labels).tolist()
    if len(given) != count:
        raise DataError(f"{name} has {count} images and {len(given)} labels; give one for each.")
    known = sorted({label for label in given if label is not None and label != UNKNOWN})
    if len(known) == 1:
        raise DataError(
            f"{name} has a single label, {known[0]!r}, so there is nothing to tell apart. Give two or more, "
            "or none."
        )
    places = {label: code for code, label in enumerate(known)}
    return np.array([places.get(label, UNKNOWN) for label in given]), tuple(map(str, known))


def arranged(
    keys: Sequence[str], labels: np.ndarray, origins: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return an order of images, and the split of each in that order.

    Training images come first, then validation, then test, each in the order of a hash, so that the first
    images of a split are a fair sample of it. Where some have labels, those without are all trained on; the
    other splits have labelled images alone.

    Args:
        keys: [N], what identifies an image.
        labels: [N], from 0, or `UNKNOWN`.
        origins: [N], the split of an image, or empty where its key decides.

    Returns:
        Places [M] and the names of splits [M].
    """
    labelled = bool((labels != UNKNOWN).any())
    # Where there are test images already, those to train on give validation images alone.
    ends = {"train_end": 0.9, "validation_end": 1.0} if "test" in origins else {}
    if "validation" in origins:
        ends = {"train_end": 1.0}
    found: list[tuple[int, str, int]] = []
    for place, (key, label, origin) in enumerate(zip(keys, labels, origins, strict=True)):
        without = labelled and label == UNKNOWN
        if without and origin:
            continue
        split = origin or ("train" if without else split_of(key, **ends))
        found.append((SPLITS.index(split), text_key(key), place))
    found.sort()
    return np.array([place for _, _, place in found]), np.array([SPLITS[split] for split, _, _ in found])


def task_of(
    name: str,
    source: str,
    images: np.ndarray | StoredImages,
    known: np.ndarray,
    splits: np.ndarray,
    classes: tuple[str, ...],
    *,
    labels: int,
    draw: int,
) -> ImageTask:
    """Return the task of images that are in the order of their splits.

    Args:
        name: the specification that makes it again.
        source: what the images are called.
        images: [N, C, S, S].
        known: [N], labels.
        splits: [N], as `arranged` returns them.
        classes: the names of the labels.
        labels: labelled images that probes are fitted on; 0 is all.
        draw: names which.

    Raises:
        DataError: a split without images, or a class without an image to train on.
        UsageError: a number of labels that there is not.
    """
    least = 1 if classes else 2  # an image is recognised among others
    whole = ImageSet(source, images, known, classes)
    parts: dict[str, ImageSet] = {}
    for split in SPLITS:
        places = np.flatnonzero(splits == split)
        if len(places) < least:
            raise DataError(
                f"{source} has {len(splits)} images that can be used, and {len(places) or 'none'} of them "
                f"in the {split} split, which needs {least}{' with a class' if classes else ''}. Give more."
            )
        parts[split] = whole.only(slice(places[0], places[-1] + 1))
    return ImageTask(name, parts, _labelled(parts["train"], labels, draw))


def _labelled(train: ImageSet, labels: int, draw: int) -> ImageSet:
    if not train.classes:
        if labels:
            raise UsageError(f"{train.name!r} has no classes, so labels={labels} cannot be chosen of it.")
        return train.only(slice(0))
    counts = Counter(train.labels.tolist())
    without = [name for code, name in enumerate(train.classes) if not counts[code]]
    if without:
        more = f" and {len(without) - NAMED} more" if len(without) > NAMED else ""
        raise DataError(
            f"No image of {', '.join(without[:NAMED])}{more} falls into the train split of {train.name!r}. "
            "Give more images of each class, or take the class out."
        )
    if labels:
        return labelled_subset(train, labels, draw)
    every = train.labels != UNKNOWN
    return train if every.all() else train.only(np.flatnonzero(every))
