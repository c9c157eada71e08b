"""Digits that were turned, whose label is the angle: images with an ordered or cyclic label and no files."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.image_sets import ImageSet, image_splits

KINDS = (2, 3, 4, 5, 7)  # digits that look like no other when turned by up to 90 degrees
MARGIN = 1  # pixels of black around an image, so that corners stay within
HALF, FULL = tuple(range(-90, 91, 5)), tuple(range(-180, 180, 10))  # degrees


@functools.lru_cache(maxsize=2)
def turned_digits(degrees: tuple[int, ...]) -> np.ndarray:
    """Return all images of `KINDS`, turned by each angle: [images, angles, 10, 10], uint8."""
    splits = image_splits("digits")
    images = np.concatenate([splits[split].images[:] for split in splits])
    labels = np.concatenate([splits[split].labels for split in splits])
    upright = torch.from_numpy(images[np.isin(labels, KINDS)]).double()
    padded = functional.pad(upright, (MARGIN,) * 4)  # [n, 1, 10, 10]
    turned = [_turned(padded, angle) for angle in degrees]
    return torch.stack(turned, 1)[:, :, 0].round().to(torch.uint8).numpy()


def _turned(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Return images [n, 1, H, W] turned against the clock, by bilinear interpolation."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], dtype=images.dtype)
    grid = functional.affine_grid(back.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def rotated_splits(
    degrees: tuple[int, ...], *, train: int = 500, validation: int = 100, draw: int = 0
) -> dict[str, ImageSet]:
    """Return each image at all angles, in splits by image: "train", "validation" and "test", the others.

    Raises:
        UsageError: not so many images.
    """
    turned = turned_digits(degrees)
    count, angles = turned.shape[:2]
    if not (train > 0 and validation >= 0 and train + validation < count):
        raise UsageError(f"train={train} and {validation} images to validate must leave some of {count}.")
    order = generator("rotated digits", draw).permutation(count)
    names = tuple(map(str, degrees))
    ends = [train, train + validation]

    def split(at: np.ndarray) -> ImageSet:
        images = turned[at].reshape(-1, 1, *turned.shape[2:])
        return ImageSet("rotated-digits", images, np.tile(np.arange(angles), len(at)), names)

    parts = zip(("train", "validation", "test"), np.split(order, ends), strict=True)
    return {name: split(np.sort(at)) for name, at in parts}
