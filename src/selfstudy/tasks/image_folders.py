"""Tasks of a user's own images: `images:FOLDER`, or arrays.

`images:photos?size=32`. Sub-folders are classes; images that lie in no sub-folder, or in one named
`unlabelled`, have none. A hash of a file's name within the folder decides its split, 70/10/20 %, so that more
files never move an image from one split to another. Folders `train` and `test` (and `validation`) are splits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_folder import ImageFile, image_files, read_images
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.tasks.image_arrays import arranged, task_of
from selfstudy.tasks.images import ImageTask

NO_CLASS = ("", "unlabelled", "unlabeled")
PARTS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}

_log = logging.getLogger(__name__)


def folder(
    path: str,
    *,
    size: int = 32,
    grey: bool = False,
    classes: bool = True,
    labels: int = 0,
    draw: int = 0,
    memory: float = 2.0,
    test: str = "",
) -> ImageTask:
    """Make a task of a folder of image files.

    Without classes, or with a single one, there is nothing to tell apart: the task has no labels then, and a
    model is judged by whether it recognises other views of an image.

    Args:
        path: of the folder.
        size: to which the middle square of each image is brought, in pixels.
        grey: whether images lose their colour.
        classes: whether sub-folders are classes.
        labels: labelled images that probes are fitted on, of the training split; 0 is all.
        draw: names which images these are.
        memory: GiB that the images may take in memory; where they need more they stay on disk.
        test: another folder with the images to test on; else a fifth is held out.

    Raises:
        DataError: no such folder, too few images, or over 5 % of them that cannot be read.
        UsageError: fields that cannot be right.
    """
    given = {name: value for name, value in locals().items() if name != "path"}
    if size < 1 or labels < 0 or memory < 0:
        raise UsageError(f"size={size} must be 1 or more, labels={labels} and memory={memory} 0 or more.")
    files = _files(path, test)
    names = _classes(path, files["train"]) if classes else ()
    every = [file for part in files.values() for file in part]
    codes = {name: code for code, name in enumerate(names)}
    known = np.array([codes.get(file.first, UNKNOWN) for file in every])
    if names:
        _require_known(files, names)
    origins = ["" if split == "train" else split for split, part in files.items() for _ in part]
    order, splits = arranged([file.name for file in every], known, origins)
    images, kept = read_images(
        [every[place] for place in order], path, size=size, channels=1 if grey else 3, memory=memory
    )
    task = task_of(
        _name(path, given),
        Path(path).expanduser().resolve().name,
        images,
        known[order][kept],
        splits[kept],
        names,
        labels=labels,
        draw=draw,
    )
    trained = [every[place] for place in order[kept][: len(task.train)]]
    task.names = tuple(file.name for file in trained)
    task.files = tuple(file.path.resolve() for file in trained)
    return task


def _files(path: str, test: str) -> dict[str, list[ImageFile]]:
    """Return the files of each split that the folders name; those of "train" alone are to be split."""
    every = image_files(Path(path).expanduser())
    heads = {file.first.lower() for file in every} - set(NO_CLASS)
    splits = {"train": every}
    if "train" in heads and (heads <= set(PARTS) or "test" in heads):
        splits = _split_folders(path, every, heads)
    if test:
        if "test" in splits:
            raise UsageError(f"{path} has a folder named test already; leave test={test} away.")
        splits["test"] = image_files(Path(test).expanduser())
    if splits["train"] is not every and "test" not in splits:
        raise DataError(
            f"{path} has a folder named train, but none named test. Give its place by test=FOLDER, or take "
            f"images:{Path(path) / 'train'}, of which a fifth is held out."
        )
    return splits


def _split_folders(path: str, every: Sequence[ImageFile], heads: set[str]) -> dict[str, list[ImageFile]]:
    others = sorted(heads - set(PARTS))
    if others:
        raise DataError(
            f"{path} has folders named train and test, which are splits, and beside them {', '.join(others)}."
            " Take those away, or rename what is no split."
        )
    splits: dict[str, list[ImageFile]] = {"train": []}
    for file in every:
        split = PARTS.get(file.first.lower())
        if split is None:  # without a class
            splits["train"].append(file)
        else:
            within = ImageFile(file.path, file.name.partition("/")[2])
            splits.setdefault(split, []).append(within)
    return splits


def _classes(path: str, files: Sequence[ImageFile]) -> tuple[str, ...]:
    names = tuple(sorted({file.first for file in files if file.first.lower() not in NO_CLASS}))
    if len(names) == 1:
        _log.warning(
            "%s has a single class, the folder %r, so there is nothing to tell apart: its images are taken "
            "as unlabelled.",
            path,
            names[0],
        )
        return ()
    return names


def _require_known(files: dict[str, list[ImageFile]], names: Sequence[str]) -> None:
    for split, part in files.items():
        for file in part:
            if file.first.lower() not in NO_CLASS and file.first not in names:
                raise DataError(
                    f"{file.path} is of the class {file.first!r}, which no image to train on has. The "
                    f"classes are {', '.join(names)}. Rename its folder, or take it out of the {split} "
                    "images."
                )


def _name(path: str, given: dict[str, object]) -> str:
    defaults = folder.__kwdefaults__ or {}
    fields = [
        f"{field}={quote(str(value), safe='/:.,~')}"
        for field, value in given.items()
        if value != defaults[field]
    ]
    return f"images:{quote(path, safe='/:.,~ ')}" + ("?" + "&".join(fields) if fields else "")
