"""Pools of one's own: `pool:images:photos`, `pool:vectors:features.npz`, and what files of texts share."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.functions import user_function
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Vectors, raw, vectors
from selfstudy.data.label_store import Person
from selfstudy.data.labelled import balanced_places
from selfstudy.data.oracles import HiddenLabels, Oracle, Program
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.tasks.image_folders import folder
from selfstudy.tasks.images import labelled_splits
from selfstudy.tasks.pools import PoolTask


def images(
    path: str, *, labels: int = 0, draw: int = 0, size: int = 32, grey: bool = False, oracle: str = ""
) -> PoolTask:
    """Return the pool of a folder of images, whose sub-folders are classes; "unlabelled" is none.

    Args:
        path: of the folder.
        labels: labels given at the start, of the training split; 0 is all.
        draw: names which.
        size: pixels a side to which images are brought.
        grey: whether they lose their colour.
        oracle: "person", who is asked at the labelling page; "labels", those that were not given at the
            start; or "module:function", which takes a list of images [H, W, C] and returns the name of a
            class each, None where it is not sure. Empty is the person where something has no label.

    Raises:
        UsageError: fields that cannot be right.
        DataError: files that cannot be used.
    """
    photos = folder(path, size=size, grey=grey)
    fields = {"labels": labels, "draw": draw, "size": size, "grey": grey, "oracle": oracle}
    name = f"pool:images:{quote(path, safe='/:.')}"
    pool = own_pool(name, fields, labelled_splits(photos), labels, draw, oracle, photos.names)
    pool.files = photos.files
    return pool


def features(path: str, *, labels: int = 0, draw: int = 0, oracle: str = "") -> PoolTask:
    """Return the pool of a file of vectors; see `read_vectors`, and `images` for the fields."""
    fields = {"labels": labels, "draw": draw, "oracle": oracle}
    name = f"pool:vectors:{quote(path, safe='/:.')}"
    return own_pool(name, fields, read_vectors(path), labels, draw, oracle)


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
        oracle: as in `images`.
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
