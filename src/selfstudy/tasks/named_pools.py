"""Pools by name: `pool:digits?labels=20`, `pool:images:photos`, `pool:vectors:features.npz`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.functions import user_function
from selfstudy.data.image_sets import SETS, UNKNOWN, image_splits
from selfstudy.data.items import Vectors, raw, vectors
from selfstudy.data.label_store import Person
from selfstudy.data.labelled import balanced_places
from selfstudy.data.oracles import HiddenLabels, Oracle, Program
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.data.text_sets import NAMES, text_splits
from selfstudy.tasks.image_folders import folder
from selfstudy.tasks.images import labelled_splits
from selfstudy.tasks.pools import PoolTask, pool_task

IMAGES, VECTORS = "images:", "vectors:"


def pool(
    name: str,
    *,
    labels: int = 30,
    draw: int = 0,
    train: int = 0,
    test: int = 0,
    enrolled: int = 0,
    size: int = 32,
    grey: bool = False,
    oracle: str = "",
) -> PoolTask:
    """Return the pool of a set of images or texts, of a folder of images, or of a file of vectors.

    Args:
        name: of a set, or "images:" and a folder, or "vectors:" and an .npz file.
        labels: labels given at the start, of each class as many as of the others; 0 is all that there are.
        draw: names which items are drawn and which of them are labelled.
        train: items of the pool, drawn from the training split; 0 is all.
        test: test items, the first ones; 0 is all.
        enrolled: classes that the task knows of a set, the first ones; 0 is all.
        size: pixels a side to which the images of a folder are brought.
        grey: whether the images of a folder lose their colour.
        oracle: of a folder or a file: "person", who is asked at the labelling page; "labels", those that
            were not given at the start; or "module:function", which takes a list of texts, images
            [H, W, C] or vectors and returns the name of a class each, None where it is not sure. Empty is
            the person where something has no label.

    Raises:
        UsageError: no such set, or numbers that it does not have.
        DataError: files that cannot be used.
    """
    if name.startswith((IMAGES, VECTORS)):
        if train or test or enrolled:
            raise UsageError("The fields train, test and enrolled are for sets by name, not for your own.")
        kind, _, path = name.partition(":")
        fields: dict[str, object] = {"labels": labels, "draw": draw, "oracle": oracle}
        ids: tuple[str, ...] = ()
        splits: dict[str, Any]
        if kind == "images":
            fields |= {"size": size, "grey": grey}
            photos = folder(path, size=size, grey=grey)
            splits, ids = labelled_splits(photos), photos.names
        else:
            splits = read_vectors(path)
        return own_pool(f"pool:{quote(name, safe='/:.')}", fields, splits, labels, draw, oracle, ids)
    if oracle:
        raise UsageError("The field oracle is for your own images and vectors; those of a set are all known.")
    if name not in (*SETS, *NAMES):
        raise UsageError(f"There is no pool {name!r}. {nearest(name, [*SETS, *NAMES, IMAGES, VECTORS])}")
    splits = dict(image_splits(name) if name in SETS else text_splits(name))
    known = labels or len(splits["train"])
    return pool_task(
        f"pool:{name}", splits, labels=known, draw=draw, train=train, test=test, enrolled=enrolled
    )


def own_pool(
    name: str,
    fields: dict[str, object],
    splits: dict[str, Any],
    labels: int,
    draw: int,
    oracle: str,
    ids: tuple[str, ...] = (),
) -> PoolTask:
    """Return the pool of a user's own items, of which some have labels.

    Args:
        name: of the specification.
        fields: of the specification.
        splits: "train", with items that have no label, "validation" and "test", without such.
        labels: given at the start, of the training split; 0 is all.
        draw: names which.
        oracle: as in `pool`.
        ids: of the items of the training split.

    Raises:
        UsageError: another oracle, or more labels than there are.
        DataError: fewer than two classes, or one without a label.
    """
    if oracle not in ("", "person", "labels") and ":" not in oracle:
        raise UsageError(f"oracle={oracle} must be person, labels or module:function.")
    train = splits["train"]
    classes = train.classes
    if len(classes) < 2:
        raise DataError(f"{train.name} has {len(classes)} class: give labels of two or more.")
    require_each_class(train.name, train.labels, classes)
    count = labels or int((train.labels != UNKNOWN).sum())
    at = balanced_places(train.labels, count, draw, train.name)
    given = np.full(len(train), UNKNOWN)
    given[at] = train.labels[at]
    asked = _oracle(oracle, train)
    held = {split: splits[split] for split in ("validation", "test")}
    text = "&".join(f"{field}={quote(str(value), safe='/:.,')}" for field, value in fields.items() if value)
    return PoolTask(f"{name}?{text}" if text else name, train, given, classes, held, asked, ids=ids)


def _oracle(oracle: str, train: Any) -> Oracle:
    if ":" in oracle:
        function = user_function(oracle, "oracle")
        return Program(lambda places: function([raw(train, place) for place in places]))
    if oracle == "person" or (not oracle and bool((train.labels == UNKNOWN).any())):
        return Person()
    return HiddenLabels(train.labels, train.classes)


def require_each_class(name: str, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuse classes of which no item to learn from has the label.

    Raises:
        DataError: names them.
    """
    missing = [one for code, one in enumerate(classes) if not (labels == code).any()]
    if missing:
        raise DataError(
            f"No item of {name} that is learnt from is labelled {', '.join(map(repr, missing[:5]))}. Label "
            "at least one of each class (equal texts and those held out for the test do not count), or take "
            "the class out."
        )


def read_vectors(path: str) -> dict[str, Vectors]:
    """Return the vectors of an .npz file, in splits by a hash of each vector.

    It holds `features` [N, d], `labels` [N] (names, or whole numbers of which those below 0 are unknown; an
    empty name is unknown too).

    Raises:
        DataError: it cannot be read, or is not of that form.
    """
    file = Path(path).expanduser()
    try:
        with np.load(file, allow_pickle=False) as data:
            features, labels = data["features"], data["labels"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as vectors ({error}). Write it with numpy.savez(path, features=[N, d], "
            "labels=[N])."
        ) from None
    if labels.shape != features.shape[:1]:
        raise DataError(f"{path} has {len(features)} features and labels of the shape {labels.shape}.")
    names = ["" if str(one) == "" or (labels.dtype.kind in "iu" and one < 0) else str(one) for one in labels]
    classes = tuple(sorted({one for one in names if one}))
    codes = {one: code for code, one in enumerate(classes)}
    known = np.array([codes.get(one, UNKNOWN) for one in names], dtype=np.int64)
    whole = vectors(features, file.stem, known.tolist())
    whole = Vectors(whole.name, whole.values, known, classes)
    splits = np.array([split_of(row.tobytes().hex()) for row in whole.values])
    splits[known == UNKNOWN] = "train"
    return {split: whole.only(np.flatnonzero(splits == split)) for split in SPLITS}
