"""Batches of images mixed in pairs: mixup and CutMix, each with the share of the first image that is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch

Mix = Literal["none", "mixup", "cutmix"]


class Mixed(NamedTuple):
    """A batch of which each image is mixed with another.

    Attributes:
        images: [B, C, H, W].
        order: [B], which image of the batch each is mixed with.
        share: of the first image in every mixture, 0 to 1.
    """

    images: torch.Tensor
    order: torch.Tensor
    share: float

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows [B, ...], such as targets, mixed as the images are."""
        return self.share * rows + (1 - self.share) * rows[self.order]

    def larger(self, places: np.ndarray) -> np.ndarray:
        """Return the place [B] of the image that has the larger part in each mixture."""
        return places if self.share >= 0.5 else places[self.order.numpy()]


def mixup(images: torch.Tensor, rng: np.random.Generator) -> Mixed:
    """Return weighted means of pairs, the weight uniform (Zhang et al. 2018, arXiv 1710.09412)."""
    share, order = float(rng.uniform()), torch.from_numpy(rng.permutation(len(images)))
    return Mixed(share * images + (1 - share) * images[order], order, share)


def cutmix(images: torch.Tensor, rng: np.random.Generator) -> Mixed:
    """Return images with a box of another pasted in, its area uniform (Yun et al. 2019, arXiv 1905.04899).

    The box is cut off at the border; the share is that of what is left.
    """
    height, width = images.shape[2:]
    side = np.sqrt(1 - rng.uniform())
    order = torch.from_numpy(rng.permutation(len(images)))
    rows, columns = (_range(size, side, rng) for size in (height, width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixed(mixed, order, 1 - pasted / (height * width))


def _range(size: int, share: float, rng: np.random.Generator) -> slice:
    half, middle = round(size * share / 2), int(rng.integers(size))
    return slice(max(0, middle - half), min(size, middle + half))


MIXES: dict[str, Callable[[torch.Tensor, np.random.Generator], Mixed]] = {"mixup": mixup, "cutmix": cutmix}
