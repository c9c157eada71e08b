"""A multilayer perceptron on pixels, for images of 8 to 28 pixels."""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from torch import nn

from selfstudy.models.encoders.base import AS_DATA, ImageEncoder

BLANK = 8  # pixels a side before the size of the images is known


class PerceptronEncoder(ImageEncoder):
    """Fully connected layers with ReLUs on the pixels; the cheapest network that learns features.

    Args:
        channels: of the images; 0 is as the data have.
        size: of the images in pixels; 0 is as the data have.
        hidden: width of every layer.
        layers: how many.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "mlp"

    def __init__(
        self,
        *,
        channels: int = AS_DATA,
        size: int = AS_DATA,
        hidden: int = 128,
        layers: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(channels=channels, size=size, hidden=hidden, layers=layers, seed=seed)
        widths = [self.channels * (size or BLANK) ** 2, *[hidden] * layers]
        parts: list[nn.Module] = [nn.Flatten()]
        with self.first_weights():
            for before, width in itertools.pairwise(widths):
                parts += [nn.Linear(before, width), nn.ReLU()]
            self.network = nn.Sequential(*parts)
        self.width = hidden

    @property
    def stages(self) -> dict[str, nn.Module]:
        """No features on the way: they have no places of an image."""
        return {}

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images."""
        return self.network(inputs)
