"""Small convolutional encoders for images of 8 to 64 pixels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from selfstudy.models.encoders.base import AS_DATA, ImageEncoder


class ConvEncoder(ImageEncoder):
    """Convolutions of 3 x 3 with batch normalisation, halved in between, averaged at the end.

    Args:
        channels: of the images; 0 is as the data have.
        size: of the images in pixels; 0 is as the data have.
        first: width of the first convolution; each later one has twice the width of the one before.
        stages: how many.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "conv"

    def __init__(
        self, *, channels: int = AS_DATA, size: int = AS_DATA, first: int = 16, stages: int = 3, seed: int = 0
    ) -> None:
        super().__init__(channels=channels, size=size, first=first, stages=stages, seed=seed)
        widths = [first * 2**stage for stage in range(stages)]
        layers: list[nn.Module] = []
        with self.first_weights():
            for before, width in zip([self.channels, *widths], widths, strict=False):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
                # Ahead of the ReLU: the outcome is the same, and the ReLU has a quarter of the work.
                if width != widths[-1]:
                    layers.append(nn.MaxPool2d(2, ceil_mode=True))
                layers.append(nn.ReLU())
            self.network = nn.Sequential(*layers)
        self.width = widths[-1]

    @property
    def grain(self) -> int:
        """Images of any side are encoded as they are."""
        return 1

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The convolutions, each after its ReLU."""
        ends = [part for part in self.network if isinstance(part, nn.ReLU)]
        return {f"stage{place}": part for place, part in enumerate(ends, 1)}

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images."""
        return self.network(inputs).mean((2, 3))


class ResidualEncoder(ImageEncoder):
    """A residual network for small images (He et al. 2016, section 4.2): a 3 x 3 stem without pooling.

    ResNet-8, -14, -20 have 1, 2, 3 blocks in each of 3 stages; ResNet-18 has 2 blocks in each of 4 stages
    of width 64 first.

    Args:
        channels: of the images; 0 is as the data have.
        size: of the images in pixels; 0 is as the data have.
        first: width of the first stage; each later one has twice the width and half the side.
        stages: how many.
        blocks: of two convolutions in each stage.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "resnet"

    def __init__(
        self,
        *,
        channels: int = AS_DATA,
        size: int = AS_DATA,
        first: int = 16,
        stages: int = 3,
        blocks: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(channels=channels, size=size, first=first, stages=stages, blocks=blocks, seed=seed)
        with self.first_weights():
            self.stem = nn.Sequential(
                nn.Conv2d(self.channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
            )
            parts, before = [], first
            for stage in range(stages):
                width = first * 2**stage
                for block in range(blocks):
                    stride = 2 if stage and not block else 1
                    parts.append(_Block(before, width, stride))
                    before = width
            self.blocks = nn.Sequential(*parts)
        self.width = before

    @property
    def grain(self) -> int:
        """Images of any side are encoded as they are."""
        return 1

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The last block of each stage."""
        every = self.config["blocks"]
        ends = [*self.blocks][every - 1 :: every]
        return {f"stage{place}": part for place, part in enumerate(ends, 1)}

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images."""
        return self.blocks(self.stem(inputs)).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        # As in Goyal et al. 2017: each block starts as the identity.
        nn.init.zeros_(self.second_norm.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first_norm(self.first(inputs)))
        return torch.relu(self.second_norm(self.second(hidden)) + self.shortcut(inputs))
