"""RandAugment with a magnitude, on whole batches.

Cubuk et al. 2020, "RandAugment", arXiv 1909.13719, with the operations that grow with the magnitude and the
strengths of timm's "rand-m{magnitude}-mstd0.5-inc1". What becomes of an image depends on its own key alone.
Against timm: turns and shears are about the middle of the image, resampling is always bilinear, what comes
in from outside is always the grey of one half, and numbers between whole ones are not cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.random import uniforms
from selfstudy.data.views import lightness

LARGEST = 10.0  # magnitude
OUTSIDE = 0.5  # grey beyond the edge
_FIRST, _DRAWS = 64, 5  # counters of a key's stream: those below belong to `ImageViews`; draws an operation


@dataclass(frozen=True, kw_only=True)
class RandAugment:
    """How many operations an image goes through, and how their magnitude varies."""

    operations: int = 1
    """Operations drawn for an image, one after the other; timm has 2."""
    probability: float = 0.5
    """That a drawn operation is carried out."""
    spread: float = 0.5
    """Standard deviation of an operation's magnitude about the one asked for."""

    def validate(self) -> None:
        """Raise a UsageError for numbers that cannot be right."""
        if not (self.operations >= 0 and 0 <= self.probability <= 1 and 0 <= self.spread < math.inf):
            raise UsageError(
                f"RandAugment has operations {self.operations}, probability {self.probability} and spread "
                f"{self.spread}: operations and spread must be at least 0, the probability from 0 to 1."
            )

    def __call__(self, images: torch.Tensor, keys: np.ndarray, magnitude: float) -> torch.Tensor:
        """Return each image after its operations.

        Args:
            images: [B, C, H, W], 0 to 1, with one channel or three.
            keys: [B], uint64: the stream of each image; may be those of its `ImageViews`.
            magnitude: from 0 to 10. Operations such as inversion have none.

        Returns:
            [B, C, H, W], 0 to 1.
        """
        for place in range(self.operations):
            counters = _FIRST + place * _DRAWS + np.arange(_DRAWS)
            which, happens, sign, radius, angle = uniforms(np.asarray(keys)[:, None], counters).T
            normal = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * math.pi * angle)  # Box and Muller 1958
            level = np.clip(magnitude + self.spread * normal, 0, LARGEST) / LARGEST
            chosen = np.where(happens < self.probability, (which * len(OPERATIONS)).astype(int), -1)
            images = images.clone()
            for number, change in enumerate(OPERATIONS.values()):
                rows = np.flatnonzero(chosen == number)
                if len(rows):
                    some = torch.from_numpy(level[rows]).to(images)
                    signed = some * torch.from_numpy(np.where(sign[rows] < 0.5, -1.0, 1.0)).to(images)
                    at = torch.from_numpy(rows).to(images.device)
                    images[at] = change(images[at], some, signed).clamp_(0, 1)
        return images


Change = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From images [n, C, H, W], their levels [n] from 0 to 1, and the same with a random sign."""


def _wide(numbers: torch.Tensor) -> torch.Tensor:
    return numbers[:, None, None, None]


def _moved(
    images: torch.Tensor, a: object, b: object, x: object, c: object, d: object, y: object
) -> torch.Tensor:
    """Return images whose pixel at (u, v), from -1 to 1, is that at (a u + b v + x, c u + d v + y)."""
    rows = [torch.as_tensor(number).to(images).expand(len(images)) for number in (a, b, x, c, d, y)]
    grid = functional.affine_grid(
        torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images - OUTSIDE, grid, align_corners=False) + OUTSIDE


def _rotated(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    angle = math.radians(30) * signed
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _moved(images, cos, -sin, 0.0, sin, cos, 0.0)


def _factor(signed: torch.Tensor) -> torch.Tensor:
    return _wide((1 + 0.9 * signed).clamp(min=0.1))


def _coloured(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    return torch.lerp(lightness(images).expand_as(images), images, _factor(signed))


def _contrasted(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    return torch.lerp(lightness(images).mean((1, 2, 3), keepdim=True), images, _factor(signed))


def _sharpened(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    """Blend with a blurred image, whose edge is left as it is, as Pillow does."""
    channels = images.shape[1]
    kernel = images.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).div(13).expand(channels, 1, 3, 3)
    blurred = images.clone()
    blurred[:, :, 1:-1, 1:-1] = functional.conv2d(images, kernel, groups=channels)
    return torch.lerp(blurred, images, _factor(signed))


def _stretched(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    """Stretch each channel to the whole range; a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1e-6), images)


def _equalised(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    """Give the 256 values of each channel equal shares of the pixels, as Pillow does."""
    values = images.mul(255).round().long().flatten(2)  # [n, C, H W]
    counts = values.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, torch.ones_like(values))
    highest = counts.gather(2, values.amax(2, keepdim=True))[..., 0]
    step = (values.shape[2] - highest).div(255, rounding_mode="floor")[..., None]
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=images.device))
    return table.gather(2, values).view(images.shape).to(images) / 255


def _posterised(images: torch.Tensor, level: torch.Tensor, signed: torch.Tensor) -> torch.Tensor:
    """Keep the highest bits of each value, from 4 down to none."""
    width = _wide(2 ** (4 + (4 * level).floor()))  # of a step, in 255ths
    return (images.mul(255).round() / width).floor() * width / 255


OPERATIONS: dict[str, Change] = {
    "autocontrast": _stretched,
    "equalise": _equalised,
    "invert": lambda images, level, signed: 1 - images,
    "rotate": _rotated,
    "posterise": _posterised,
    "solarise": lambda images, level, signed: torch.where(images >= _wide(1 - level), 1 - images, images),
    "solarise, brighter": lambda images, level, signed: torch.where(
        images < 0.5, images + _wide(110 / 255 * level), images
    ),
    "colour": _coloured,
    "contrast": _contrasted,
    "brightness": lambda images, level, signed: images * _factor(signed),
    "sharpness": _sharpened,
    "shear x": lambda images, level, signed: _moved(images, 1.0, 0.3 * signed, 0.0, 0.0, 1.0, 0.0),
    "shear y": lambda images, level, signed: _moved(images, 1.0, 0.0, 0.0, 0.3 * signed, 1.0, 0.0),
    "shift x": lambda images, level, signed: _moved(images, 1.0, 0.0, 0.9 * signed, 0.0, 1.0, 0.0),
    "shift y": lambda images, level, signed: _moved(images, 1.0, 0.0, 0.0, 0.0, 1.0, 0.9 * signed),
}
