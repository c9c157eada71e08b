"""Random views of inputs, made on whole batches.

Each sample's view is a function of its own 64-bit key alone, not of the batch that it is in, so that a view
can be made again and a run that was cut off sees the views that it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, uniforms

# The draws of one view, by number; each has a stream of its own, so that switching a step off leaves the
# others as they are.
_DRAWS = (
    "area", "ratio", "top", "left", "flip", "angle", "jitter", "brightness", "contrast", "saturation",
    "hue", "grey", "blur", "sigma", "solarise", "shift_x", "shift_y",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageViews:
    """How views of images are made; steps whose probability or strength is 0 are left out.

    The order is crop with flip, rotation and shift (one resampling), colour jitter, grey, blur, solarise.
    Grey images have no saturation, hue or grey step.
    """

    crop: tuple[float, float] = (0.45, 1.0)
    """Share of the area that a crop keeps, from and to; 1,1 is none."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop, from and to."""
    flip: float = 0.5
    """Probability of a mirror image, left to right."""
    rotation: float = 0.0
    """Largest turn in degrees, either way."""
    shift: float = 0.0
    """Largest shift as a share of the side, either way."""
    jitter: float = 0.8
    """Probability that brightness, contrast, saturation and hue are changed."""
    brightness: float = 0.4
    """Largest change of brightness, as a factor's distance from 1."""
    contrast: float = 0.4
    """Largest change of contrast, about the image's mean grey."""
    saturation: float = 0.2
    """Largest change of saturation."""
    hue: float = 0.1
    """Largest change of hue, in turns of the colour circle."""
    grey: float = 0.2
    """Probability of a grey image."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    sigma: tuple[float, float] = (0.1, 2.0)
    """Width of the blur in pixels, from and to."""
    solarise: float = 0.0
    """Probability that pixels above one half are inverted."""

    def validate(self) -> None:
        """Raise a UsageError for a probability outside 0 to 1 or a range that is none."""
        for name in ("flip", "jitter", "grey", "blur", "solarise", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"ImageViews.{name} is {getattr(self, name)}; it must be from 0 to 1.")
        for name, most in (("crop", 1.0), ("ratio", math.inf), ("sigma", math.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise UsageError(f"ImageViews.{name} is {low},{high}; give two numbers above 0 in order.")
        if not (0 <= self.hue <= 0.5 and 0 <= self.shift < 1 and 0 <= self.rotation <= 180):
            raise UsageError(
                f"ImageViews has hue {self.hue}, shift {self.shift}, rotation {self.rotation}: they must be "
                "from 0 to 0.5, 1 and 180."
            )

    def __call__(self, images: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Return one view of each image.

        Args:
            images: [B, C, H, W], 0 to 1.
            keys: [B], uint64: the view's stream of each image.

        Returns:
            [B, C, H, W], 0 to 1.
        """
        numbers = uniforms(np.asarray(keys)[:, None], np.arange(len(_DRAWS)))
        drawn = _Drawn(torch.from_numpy(numbers).to(images.device, images.dtype))
        images = self._placed(images, drawn)
        if self.brightness or self.contrast or self.saturation or self.hue:
            images = drawn.some(images, "jitter", self.jitter, self._coloured)
        if images.shape[1] == 3:
            images = drawn.some(images, "grey", self.grey, _greyed)
        images = drawn.some(images, "blur", self.blur, self._blurred)
        return drawn.some(images, "solarise", self.solarise, _solarised)

    def _placed(self, images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
        """Resample once for crop, flip, rotation and shift."""
        if self.crop == (1.0, 1.0) and not (self.flip or self.rotation or self.shift):
            return images
        log_low, log_high = (math.log(ratio) for ratio in self.ratio)
        area = drawn.between("area", *self.crop)
        root = torch.exp(drawn.between("ratio", log_low, log_high) / 2)
        cropped = self.crop != (1.0, 1.0)
        width = (area.sqrt() * root).clamp(max=1) if cropped else torch.ones_like(area)
        height = (area.sqrt() / root).clamp(max=1) if cropped else torch.ones_like(area)
        mirrored = 1 - 2 * drawn.happens("flip", self.flip).to(images.dtype)
        angle = math.radians(1) * drawn.between("angle", -self.rotation, self.rotation)
        cos, sin = torch.cos(angle), torch.sin(angle)
        x = (1 - width) * drawn.between("left", -1, 1) + 2 * drawn.between("shift_x", -self.shift, self.shift)
        y = (1 - height) * drawn.between("top", -1, 1) + 2 * drawn.between("shift_y", -self.shift, self.shift)
        # From places of the view to places of the image, both from -1 to 1.
        rows = [width * mirrored * cos, -width * sin, x, height * mirrored * sin, height * cos, y]
        places = torch.stack(rows, 1).view(-1, 2, 3)
        grid = functional.affine_grid(places, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _coloured(self, images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
        """Change brightness, contrast, saturation and hue, in this order, as Pillow does.

        The first three are blends with black, with the image's mean grey, and with its grey.
        """
        if self.brightness:
            images = (images * drawn.factor("brightness", self.brightness)).clamp_(0, 1)
        if self.contrast:
            mean = lightness(images).mean((1, 2, 3), keepdim=True)
            images = torch.lerp(mean, images, drawn.factor("contrast", self.contrast)).clamp_(0, 1)
        if images.shape[1] != 3:
            return images
        if self.saturation:
            factor = drawn.factor("saturation", self.saturation)
            images = torch.lerp(lightness(images), images, factor).clamp_(0, 1)
        return _turned_hue(images, drawn.between("hue", -self.hue, self.hue)) if self.hue else images

    def _blurred(self, images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
        import kornia.filters

        sigma = drawn.between("sigma", *self.sigma)[:, None].expand(-1, 2)
        # Wide enough for the widest blur, or for the image.
        side = min(2 * math.ceil(2 * self.sigma[1]) + 1, 2 * ((min(images.shape[2:]) - 1) // 2) + 1)
        return kornia.filters.gaussian_blur2d(images, (side, side), sigma)


def lightness(images: torch.Tensor) -> torch.Tensor:
    """Return how light each pixel is: [B, 1, H, W]."""
    import kornia.color

    return kornia.color.rgb_to_grayscale(images) if images.shape[1] == 3 else images.mean(1, keepdim=True)


def _greyed(images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
    return lightness(images).expand_as(images)


def _turned_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Add turns [B] of the colour circle to the hue of each pixel; value and saturation stay.

    In place of kornia's `adjust_hue`, which takes 3.4 times as long, and then half of the time of a view.
    """
    most, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = most - least
    red, green, blue = images.split(1, 1)
    # Where on the circle, of length 6, with red at 0, green at 2 and blue at 4.
    hue = torch.where(green == most, blue - red + 2 * spread, red - green + 4 * spread)
    hue = torch.where(red == most, green - blue, hue).div_(spread.clamp(min=1e-12))
    hue += 6 * turns[:, None, None, None]
    away = hue - hue.new_tensor([0, 2, 4])[:, None, None]
    away = away.sub_(torch.round(away / 6), alpha=6).abs_()
    return torch.addcmul(most, spread, away.sub_(1).clamp_(0, 1), value=-1)


def _solarised(images: torch.Tensor, drawn: _Drawn) -> torch.Tensor:
    return torch.where(images >= 0.5, 1 - images, images)


@dataclass(frozen=True, kw_only=True)
class VectorViews:
    """Views of vectors by Gaussian noise and by dropped numbers."""

    noise: float = 0.1
    """Standard deviation of what is added to each number."""
    dropout: float = 0.0
    """Probability that a number becomes 0; the others grow, so that the mean stays."""

    def validate(self) -> None:
        """Raise a UsageError for noise below 0, or a probability that is none."""
        if not (self.noise >= 0 and 0 <= self.dropout < 1):
            raise UsageError(
                f"VectorViews has noise {self.noise} and dropout {self.dropout}: they must be at least 0, "
                "and from 0 to below 1."
            )

    def __call__(self, inputs: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Return one view of each vector [B, m], by its key in `keys` [B]."""
        width = inputs.shape[1]
        drawn = torch.from_numpy(uniforms(keys[:, None], np.arange(1, 2 * width + 1)))
        radius = torch.sqrt(-2 * torch.log1p(-drawn[:, 0::2]))  # Box and Muller 1958
        normal = radius * torch.cos(2 * math.pi * drawn[:, 1::2])
        noisy = inputs + self.noise * normal.to(inputs)
        if not self.dropout:
            return noisy
        chances = torch.from_numpy(uniforms(keys[:, None], np.arange(2 * width + 1, 3 * width + 1)))
        return noisy * (chances >= self.dropout).to(inputs) / (1 - self.dropout)


def view_keys(key: int, ids: np.ndarray) -> np.ndarray:
    """Return the stream of each sample's view: [B], uint64.

    Args:
        key: of the step and the view, as `run.key("view", 1, step)`.
        ids: [B], which samples.
    """
    return derive(key, ids)


class _Drawn:
    """The uniform numbers [B, draws] of a batch of views."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._numbers = numbers

    def between(self, name: str, low: float, high: float) -> torch.Tensor:
        """Return uniform numbers [B]."""
        return low + (high - low) * self._numbers[:, _DRAWS.index(name)]

    def factor(self, name: str, strength: float) -> torch.Tensor:
        """Return factors about 1: [B, 1, 1, 1]."""
        return self.between(name, 1 - strength, 1 + strength)[:, None, None, None]

    def happens(self, name: str, probability: float) -> torch.Tensor:
        """Return whether it does, for each image: [B]."""
        return self._numbers[:, _DRAWS.index(name)] < probability

    def some(
        self,
        images: torch.Tensor,
        name: str,
        probability: float,
        change: Callable[[torch.Tensor, _Drawn], torch.Tensor],
    ) -> torch.Tensor:
        """Return the images [B, C, H, W] with those changed for which it happens; the others cost nothing."""
        rows = self.happens(name, probability).nonzero()[:, 0]
        if not len(rows):
            return images
        return images.index_copy(0, rows, change(images[rows], _Drawn(self._numbers[rows])))
