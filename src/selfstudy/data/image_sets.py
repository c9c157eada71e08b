"""Sets of images as whole bytes: in memory, or on disk where they are larger than that.

`digits` comes with scikit-learn; `fashion-mnist` and `cifar10` are files of `$SELFSTUDY_DATA`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.image_store import StoredImages
from selfstudy.data.library import VARIABLE, library_file

AT_ONCE, NUMBERS = 1024, 2**24  # images, and numbers, that `mapped` has in memory at most
UNKNOWN = -1  # the label of an image that has none


@dataclass(frozen=True)
class ImageSet:
    """Images of one size with their labels.

    Attributes:
        name: of the set.
        images: [N, C, H, W], uint8; in memory, or on disk and read where it is indexed.
        labels: [N], int64, from 0; `UNKNOWN` where there is none.
        classes: the names of the labels; none where nothing is labelled.
    """

    name: str
    images: np.ndarray | StoredImages
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def pixels(self, at: np.ndarray | slice) -> torch.Tensor:
        """Return the images at these places: [B, C, H, W], float32, 0 to 1."""
        return torch.from_numpy(np.ascontiguousarray(self.images[at])).float().div_(255)

    def mapped(self, work: Callable[[torch.Tensor, np.ndarray], torch.Tensor]) -> torch.Tensor:
        """Return `work(pixels, places)` of all images, [N, ...]; a part of them is in memory at a time."""
        every, at_once = np.arange(len(self)), max(1, min(AT_ONCE, NUMBERS // math.prod(self.shape)))
        parts = [every[start : start + at_once] for start in range(0, max(1, len(every)), at_once)]
        return torch.cat([work(self.pixels(at), at) for at in parts])

    def only(self, at: np.ndarray | slice) -> ImageSet:
        """Return the set of the images at these places; those in memory are copied by an array of places."""
        images = self.images.only(at) if isinstance(self.images, StoredImages) else self.images[at]
        return ImageSet(self.name, images, self.labels[at], self.classes)


def image_splits(name: str) -> dict[str, ImageSet]:
    """Return a set by name, in the splits "train", "validation" and "test" that share no image.

    Raises:
        UsageError: no set of that name.
        DataError: its files are not on this machine.
    """
    if name not in SETS:
        raise UsageError(f"There is no set of images {name!r}. {nearest(name, SETS)}")
    return SETS[name]()


def split_images(images: ImageSet, shares: Sequence[float] = (0.7, 0.1, 0.2)) -> dict[str, ImageSet]:
    """Return the splits of a set, 70/10/20 % unless told, in an order that depends on its size alone."""
    order = generator("image set", len(images)).permutation(len(images))
    ends = [round(end * len(images)) for end in np.cumsum(shares)[:2]]
    parts = zip(("train", "validation", "test"), np.split(order, ends), strict=True)
    return {split: images.only(np.sort(at)) for split, at in parts}


def read_archive(name: str, file: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `images` and `labels` of an .npz file of `$SELFSTUDY_DATA`, as they lie there.

    Raises:
        DataError: it is not there.
    """
    path = library_file(file)
    if path is None:
        raise DataError(
            f"The images of {name!r} are not on this machine: set ${VARIABLE} to a folder that holds {file}, "
            f"with `images` and `labels` ({source}). The set 'digits' needs no files."
        )
    with np.load(path, allow_pickle=False) as data:
        return data["images"], data["labels"].astype(np.int64)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Return images [N, H, W] or [N, H, W, C] as [N, C, H, W]."""
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@functools.cache
def _digits() -> dict[str, ImageSet]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)
    whole = ImageSet("digits", channels_first(images), found.target.astype(np.int64), _counted(10))
    return split_images(whole)


@functools.cache
def _archive(
    name: str, folder: str, source: str, classes: tuple[str, ...], validation: int
) -> dict[str, ImageSet]:
    """Read `train.npz` and `test.npz` of a folder; the last `validation` images of the first validate."""
    images, labels = read_archive(name, f"{folder}/train.npz", source)
    train = ImageSet(name, channels_first(images), labels, classes)
    test, test_labels = read_archive(name, f"{folder}/test.npz", source)
    return {
        "train": train.only(slice(len(train) - validation)),
        "validation": train.only(slice(len(train) - validation, None)),
        "test": ImageSet(name, channels_first(test), test_labels, classes),
    }


def _counted(classes: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(classes))


CLOTHES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SETS: dict[str, Callable[[], dict[str, ImageSet]]] = {
    "digits": _digits,
    "fashion-mnist": lambda: _archive(
        "fashion-mnist", "fashion_mnist", "zalando-datasets/fashion_mnist", CLOTHES, 5000
    ),
    "cifar10": lambda: _archive("cifar10", "cifar10_subset", "uoft-cs/cifar10", THINGS, 1000),
}


def require_images(images: np.ndarray, source: str) -> None:
    """Refuse arrays that are no images.

    Raises:
        DataError: another shape or type, none at all, or values that are not finite.
    """
    if images.ndim not in (3, 4) or not len(images):
        raise DataError(
            f"{source} has the shape {images.shape}; give images [N, H, W] or [N, H, W, C], at least one."
        )
    if images.dtype != np.uint8:
        finite = np.isfinite(images.reshape(len(images), -1)).all(1)
        if not finite.all():
            raise DataError(
                f"{source} has {len(finite) - finite.sum()} images with values that are not finite, the "
                f"first at index {int((~finite).argmax())}. Leave them out."
            )


def largest(images: np.ndarray, source: str) -> int:
    """Return what stands for white: 255 where images are whole numbers, else 1.

    Raises:
        DataError: they are no images, or have numbers outside that range.
    """
    require_images(images, source)
    white = 255 if np.issubdtype(images.dtype, np.integer) else 1
    low, high = images.min(), images.max()
    if low < 0 or high > white:
        raise DataError(
            f"{source} has {images.dtype} numbers from {low:g} to {high:g}; give whole ones from 0 to 255, "
            "or others from 0 to 1."
        )
    return white


def as_bytes(images: np.ndarray, source: str) -> np.ndarray:
    """Return images as uint8: bytes as they are, numbers from 0 to 1 times 255.

    Raises:
        DataError: they are no images, or have numbers outside their range.
    """
    if largest(images, source) == 1:
        return np.round(images * 255).astype(np.uint8)
    return images.astype(np.uint8, copy=False)


def image_file(path: Path) -> np.ndarray:
    """Return an image file as [H, W, 3] bytes, upright: the first picture of it, on white where it is clear.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
                grey = np.asarray(image, dtype=np.int64).clip(0, 65535) // 257
                return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged file makes decoders raise anything
        raise DataError(f"{path} is no image that can be read ({error}).") from None
