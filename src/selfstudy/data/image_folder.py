"""A folder of image files as one set of square images of one size.

Files are jpg, png, bmp, webp and gif. Each is turned upright, cut to its middle square and resized. A set
that is larger than the memory it may take is written to disk once, and read a batch at a time.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.machine import cores
from selfstudy.data.image_sets import image_file
from selfstudy.data.image_store import StoredImages, stored

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
BAD_ALLOWED = 0.05  # of the files; above that something else is wrong
NAMED = 5  # files that a message names
AT_ONCE = 256  # files that are read ahead
VERSION = 1  # of how a file becomes pixels; a new one makes stored images anew

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFile:
    """One image file.

    Attributes:
        path: where it is.
        name: from its folder on, with slashes; what it is known by.
    """

    path: Path
    name: str

    @property
    def first(self) -> str:
        """The sub-folder that it is in, directly or deeper; empty where it is in none."""
        head, slash, _ = self.name.partition("/")
        return head if slash else ""


def image_files(folder: Path) -> list[ImageFile]:
    """Return all image files in and below `folder`, in the order of their names; hidden ones are left out.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        found = "is a file" if folder.is_file() else "is not there"
        raise DataError(f"{folder} {found}. Give a folder of images.")
    names = []
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and not _circle(place, name)]
        below = Path(place).relative_to(folder)
        names += [
            (below / name).as_posix()
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    if not names:
        raise DataError(f"{folder} has no image files ({', '.join(SUFFIXES)}), nor have its sub-folders.")
    return [ImageFile(folder / name, _text(name)) for name in sorted(names)]


def _circle(place: str, name: str) -> bool:
    """Tell whether a sub-folder is a link to a folder that it is in."""
    path = Path(place, name)
    return path.is_symlink() and Path(place).resolve().is_relative_to(path.resolve())


def _text(name: str) -> str:
    # Names of files are bytes, which need not be text.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def squared(image: np.ndarray, size: int, channels: int) -> np.ndarray:
    """Return the middle square of an image at another size, smoothed where it shrinks.

    Args:
        image: [H, W, 3], uint8.
        size: in pixels.
        channels: 3, or 1 for grey (0.299 red, 0.587 green, 0.114 blue).

    Returns:
        [size, size, 3], or [size, size] for one channel.

    Raises:
        UsageError: no such size or number of channels.
    """
    from PIL import Image

    if size < 1 or channels not in (1, 3):
        raise UsageError(
            f"An image cannot be made {size} x {size} with {channels} channels: give a size of 1 or more, "
            "and 1 or 3 channels. An encoder that was made for no images yet has no size: made_for(images)."
        )
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    square = square if channels == 3 else square.convert("L")
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))


def read_images(
    files: Sequence[ImageFile], source: str, *, size: int, channels: int, memory: float
) -> tuple[np.ndarray | StoredImages, np.ndarray]:
    """Return the images of these files, and which files they are of.

    Args:
        files: to be read.
        source: where they come from, for messages.
        size: height and width in pixels.
        channels: 3 or 1.
        memory: GiB that the images may take; more stay on disk.

    Returns:
        Images [N, C, size, size], and the places [N] of their files in `files`. Files that cannot be read are
        left out with a warning that names them.

    Raises:
        DataError: over 5 % of the files cannot be read.
    """
    image, most = (channels, size, size), len(files) * channels * size**2

    def write(file: BinaryIO) -> dict[str, Any]:
        return {"bad": _read_into(files, source, image, lambda _, pixels: file.write(pixels.tobytes()))}

    if most > memory * 2**30:
        path, index = stored(_key(files, image), write, most=most)
        bad = index["bad"]
        images: np.ndarray | StoredImages = StoredImages(path, image, np.arange(len(files) - len(bad)))
    else:
        whole = np.empty((len(files), *image), np.uint8)
        bad = _read_into(files, source, image, whole.__setitem__)
        images = whole[: len(files) - len(bad)]
    if bad:
        _log.warning("%s: left out %d of %d files. %s", source, len(bad), len(files), _named(files, bad))
    kept = np.ones(len(files), dtype=bool)
    kept[[place for place, _ in bad]] = False
    return images, np.flatnonzero(kept)


def _read_into(
    files: Sequence[ImageFile],
    source: str,
    image: tuple[int, int, int],
    keep: Callable[[int, np.ndarray], Any],
) -> list[tuple[int, str]]:
    """Call `keep` with the number and the pixels [C, H, W] of each good image; return the bad files."""
    bad: list[tuple[int, str]] = []
    for place, pixels in enumerate(_read(files, image)):
        if isinstance(pixels, np.ndarray):
            keep(place - len(bad), pixels)
            continue
        bad.append((place, pixels))
        if len(bad) > BAD_ALLOWED * len(files):
            raise DataError(
                f"Over {BAD_ALLOWED:.0%} of the {len(files)} image files of {source} cannot be read. "
                f"{_named(files, bad)} Mend them, or take them out."
            )
    return bad


def _read(files: Sequence[ImageFile], image: tuple[int, int, int]) -> Iterator[np.ndarray | str]:
    """Yield the pixels of each file, or why it cannot be read."""
    channels, size, _ = image

    def one(file: ImageFile) -> np.ndarray | str:
        try:
            pixels = squared(image_file(file.path), size, channels)
        except DataError as error:
            return str(error)
        return pixels.reshape(size, size, channels).transpose(2, 0, 1)

    with ThreadPoolExecutor(cores()) as pool:  # decoders let other threads run
        for start in range(0, len(files), AT_ONCE):
            yield from pool.map(one, files[start : start + AT_ONCE])


def _named(files: Sequence[ImageFile], bad: Sequence[tuple[int, str]]) -> str:
    more = f" And {len(bad) - NAMED} more." if len(bad) > NAMED else ""
    return " ".join(reason for _, reason in bad[:NAMED]) + more


def _key(files: Sequence[ImageFile], image: tuple[int, int, int]) -> str:
    """Name the stored images by all that they depend on."""
    digest = hashlib.blake2b(repr((VERSION, image)).encode(), digest_size=16)
    for file in files:
        status = file.path.stat()
        digest.update(repr((str(file.path.resolve()), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()
