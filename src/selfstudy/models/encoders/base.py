"""What encoders of images share: normalised inputs, features, and where they live."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet, channels_first, image_file, largest
from selfstudy.models.small import SmallModel

AS_DATA = 0  # a number of channels or pixels that the data decide
CALIBRATED = 1024  # images that the first statistics are taken from
LARGEST_BATCH, LARGEST_SIDE = 1024, 64  # images encoded at once, of at most so many pixels a side


class ImageEncoder(SmallModel):
    """An encoder of images [B, C, H, W], 0 to 1, into features [B, width].

    Its preprocessing (size, mean and deviation of each channel) is saved with the weights. A subclass names
    `kind`, hands its keyword arguments on, sets `width`, and builds its network within `first_weights`.

    Args:
        channels: C; `AS_DATA` leaves it to `made_for`.
        size: H and W; `AS_DATA` likewise.
        config: the subclass's own fields and `seed`.
    """

    kind: ClassVar[str]
    width: int
    """Of the features."""

    def __init__(self, *, channels: int, size: int, **config: Any) -> None:
        super().__init__(channels=channels, size=size, **config)
        for name, value in self.config.items():
            least = 0 if name in ("channels", "size", "seed") else 1
            if isinstance(value, int) and value < least:
                raise UsageError(
                    f"The field {name} of model {self.kind!r} is {value}; it must be at least {least}."
                )
        self.channels, self.size = channels or 1, size
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(self.channels, 1, 1))
        self.register_buffer("deviation", torch.ones(self.channels, 1, 1))

    @property
    def at_once(self) -> int:
        """Images encoded at once outside training: fewer where they are large."""
        return max(1, min(LARGEST_BATCH, LARGEST_BATCH * LARGEST_SIDE**2 // max(1, self.seen_size) ** 2))

    @property
    def seen_size(self) -> int:
        """Pixels a side that the network sees."""
        return self.size

    @property
    def grain(self) -> int:
        """What the side of images must be a multiple of to be encoded as they are; 0 is `size` alone."""
        return 0

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The parts whose outputs are features on the way, first to last: stage1, stage2, ...

        Outputs are [B, C, H, W], or [B, T, C] of T tokens.
        """
        lists = (part for part in self.modules() if isinstance(part, nn.ModuleList) and len(part) > 1)
        return {f"stage{place}": part for place, part in enumerate(next(lists, ()), 1)}

    @abstractmethod
    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images [B, C, H, W]."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of images [B, C, H, W], 0 to 1."""
        normalised = (images - self.mean) / self.deviation
        # Convolutions on CPUs are about 1.7 times as fast with the channels last in memory. `contiguous`
        # would leave the strides of a single channel as they are, and torch then takes the channels as first.
        return self.encode(normalised.clone(memory_format=torch.channels_last))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return `features`."""
        return self.features(images)

    @contextmanager
    def first_weights(self) -> Iterator[None]:
        """Draw torch's own first weights from this model's stream, inside the block."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.generator().initial_seed())
            yield
        for weight in self.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def made_for(self, images: ImageSet) -> Self:
        """Return the encoder for the channels and the size of `images`, its statistics taken from them.

        An encoder that has statistics already, of such images, is returned as it is. Batch normalisation
        gets running statistics of these images, which makes the untrained encoder a fair baseline.

        Raises:
            UsageError: it was made for other images.
        """
        channels, height, width = images.shape
        if height != width:
            raise DataError(
                f"The images of {images.name!r} have {height} x {width} pixels; make them square."
            )
        asked = self.config["channels"], self.config["size"]
        if any(own not in (AS_DATA, found) for own, found in zip(asked, (channels, height), strict=True)):
            sides = f"{asked[1]} x {asked[1]}" if asked[1] else "any"
            raise UsageError(
                f"The model {self.kind!r} takes {sides} images of {asked[0] or 'any'} channels; those of "
                f"{images.name!r} are {height} x {width} of {channels} channels."
            )
        if bool((self.mean != 0).any() or (self.deviation != 1).any()):  # statistics of no real images
            return self
        made = type(self)(**{**self.config, "channels": channels, "size": height})
        sample = images.pixels(slice(CALIBRATED))
        made.mean = sample.mean((0, 2, 3))[:, None, None]
        made.deviation = sample.std((0, 2, 3))[:, None, None].clamp(min=1e-3)
        calibrate(made, sample)
        return made.eval()

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the features of images as numbers: [N, width], float32.

        Args:
            inputs: images as [N, H, W] or [N, H, W, C] (uint8, or float from 0 to 1), an `ImageSet`, or
                paths of image files, which are cut to a square and resized.

        Raises:
            DataError: they are no such images.
        """
        if isinstance(inputs, ImageSet):
            return inputs.mapped(lambda pixels, _: self.embed_pixels(pixels)).numpy()
        return self.embed_pixels(self.prepared(inputs)).numpy()

    def embed_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images [N, C, H, W], 0 to 1, in evaluation mode: [N, width]."""
        training = self.training
        self.eval()
        with torch.inference_mode():
            found = [self.features(part).float() for part in images.split(self.at_once)]
        self.train(training)
        return torch.cat(found)

    def prepared(self, inputs: Any) -> torch.Tensor:
        """Return inputs as `embed` takes them as [N, C, H, W], 0 to 1."""
        if isinstance(inputs, ImageSet):
            return inputs.pixels(slice(None))
        if isinstance(inputs, str | Path):
            inputs = [inputs]
        if isinstance(inputs, Sequence) and inputs and isinstance(inputs[0], str | Path):
            from selfstudy.data.image_folder import squared

            inputs = np.stack([squared(image_file(Path(path)), self.size, self.channels) for path in inputs])
        images = np.asarray(inputs)
        white = largest(images, "The input")
        images = channels_first(images)
        if images.shape[1:] != (self.channels, self.size, self.size):
            raise DataError(
                f"The images are {images.shape[2]} x {images.shape[3]} with {images.shape[1]} channels; this "
                f"encoder takes {self.size} x {self.size} with {self.channels}."
            )
        return torch.from_numpy(images).float() / white


def calibrate(module: nn.Module, images: torch.Tensor) -> None:
    """Set the running statistics of batch normalisation to those of `images`."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over what is seen
    module.train()
    with torch.no_grad():
        module(images)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    module.eval()
