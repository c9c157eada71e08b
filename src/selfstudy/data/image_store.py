"""Images on disk that are read a batch at a time, for sets that are larger than memory.

`$SELFSTUDY_CACHE/images/<key>/` (by default under ~/.cache/selfstudy) holds the bytes of all images of a set,
one after the other, and an index. It is written once, whole or not at all.
"""

from __future__ import annotations

import fcntl
import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from selfstudy.core.errors import MachineError
from selfstudy.core.files import read_json, remove_leftovers, write_json, write_whole
from selfstudy.core.machine import cache_folder

PIXELS, INDEX = "pixels.bin", "index.json"


class StoredImages:
    """Images [N, C, H, W], uint8, in a file: indexing reads the images that are asked for, and no others.

    They are read by position, not mapped into memory: what was read is freed with the array that it is in.

    Args:
        path: a file of bytes, one image after the other.
        image: C, H and W.
        rows: [N], int64: which images of the file these are.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, path: Path, image: tuple[int, int, int], rows: np.ndarray) -> None:
        self.path = path
        self.image = image
        self.rows = rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """N, C, H and W."""
        return (len(self.rows), *self.image)

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, at: np.ndarray | slice) -> StoredImages:
        """Return the images at these places, unread."""
        return StoredImages(self.path, self.image, self.rows[at])

    def __getitem__(self, at: np.ndarray | slice) -> np.ndarray:
        """Read the images at these places: [B, C, H, W].

        Raises:
            MachineError: the file is gone, or shorter than it was.
        """
        rows = self.rows[at]
        found = np.empty((len(rows), *self.image), np.uint8)
        # Neighbours in the file are read at once.
        ends = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        try:
            with open(self.path, "rb", buffering=0) as file:
                for first, last in itertools.pairwise(ends):
                    if first < last:
                        file.seek(int(rows[first]) * math.prod(self.image))
                        _fill(file, found[first:last].data.cast("B"))
        except (OSError, EOFError) as error:
            raise MachineError(
                f"The stored images {self.path} cannot be read ({error}). Delete that folder, and start "
                "again: it is written anew, and a run goes on where it was."
            ) from None
        return found


def _fill(file: Any, view: memoryview) -> None:
    while view:
        count = file.readinto(view)
        if not count:
            raise EOFError("the file ends too early")
        view = view[count:]


def stored(
    key: str, write: Callable[[BinaryIO], dict[str, Any]], *, most: int
) -> tuple[Path, dict[str, Any]]:
    """Return the file of images stored under `key`, and its index; written now if it is not there.

    Args:
        key: names everything that the bytes depend on.
        write: writes all images to an open file and returns the index, JSON data.
        most: bytes that it writes at most.

    Raises:
        MachineError: the disk has no room for them.
    """
    folder = cache_folder() / "images" / key

    def write_folder(temporary: Path) -> None:
        temporary.mkdir()
        with open(temporary / PIXELS, "wb") as file:
            index = write(file)
        write_json(temporary / INDEX, index)

    if not folder.is_dir():
        with _alone(folder.parent):
            if not folder.is_dir():  # another process may have written it meanwhile
                remove_leftovers(folder.parent)
                _require_room(folder.parent, most)
                write_whole(folder, write_folder)
    return folder / PIXELS, read_json(folder / INDEX)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process writes to `folder`; a killed one lets go of its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_room(folder: Path, most: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < most:
        raise MachineError(
            f"The images take up to {most / 2**30:.2f} GiB on disk, and {folder} has {free / 2**30:.2f} GiB "
            "free. Set $SELFSTUDY_CACHE to a folder on a larger disk, or give a smaller size=."
        )
