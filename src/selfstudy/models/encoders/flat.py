"""Inputs as their own features: vectors as they are, images as the numbers of their pixels."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import ImageSet, channels_first, largest
from selfstudy.data.items import Vectors
from selfstudy.data.items import vectors as as_vectors
from selfstudy.models.small import SmallModel

AS_DATA = 0  # a width that the data decide


class FlatEncoder(SmallModel):
    """An encoder that hands vectors on, and images pixel by pixel, from 0 to 1.

    Args:
        width: of the vectors; `AS_DATA` leaves it to `made_for`.

    Raises:
        UsageError: a width below 0.
    """

    kind: ClassVar[str] = "flat"

    def __init__(self, *, width: int = AS_DATA) -> None:
        super().__init__(width=width)
        if width < 0:
            raise UsageError(f"width={width} of model 'flat' must be 0 or more.")
        self.width = width

    def made_for(self, items: Vectors | ImageSet) -> Self:
        """Return the encoder for vectors or images of this width.

        Raises:
            UsageError: it was made for another one.
        """
        width = int(np.prod(items.shape if isinstance(items, ImageSet) else items.values.shape[1:]))
        if self.width not in (AS_DATA, width):
            raise UsageError(
                f"The model {self.name!r} takes {self.width} numbers; those of {items.name!r} are {width}."
            )
        return type(self)(width=width)

    def embed_vectors(self, values: torch.Tensor) -> torch.Tensor:
        """Return vectors [N, d] as they are."""
        return values.float()

    def embed_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Return images [N, C, H, W] as [N, C * H * W]."""
        return images.flatten(1)

    def embed(self, inputs: Any) -> np.ndarray:
        """Return vectors [N, d] as they are, images [N, H, W] or [N, H, W, C] as numbers from 0 to 1."""
        array = np.asarray(inputs)
        if array.ndim == 2:
            return as_vectors(array, "The input").values
        white = largest(array, "The input")
        return (channels_first(array).reshape(len(array), -1) / white).astype(np.float32)
