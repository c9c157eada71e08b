"""Masked autoencoders of transformers with their decoder: from the hub or a folder."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders.masked_decoder import MaskedImageEncoder
from selfstudy.models.encoders.pretrained import fitted_to


class MaskedBackbone(MaskedImageEncoder):
    """A masked autoencoder of transformers; `vision:ID` makes it, where ID is one.

    Images of any size are resized to that of the network, and grey ones are repeated in each of its channels.
    Features are the state of [CLS] with nothing hidden. `autoencoder.save_pretrained(folder)` writes the
    network for other tools.

    Args:
        channels: of the images.
        size: of the images in pixels.
        features: "cls", the state of [CLS], or "mean", that over the patches.
        source: hub id or folder that it came from.
        architecture: the transformers configuration, as JSON data.
    """

    kind: ClassVar[str] = "vision-mae"

    def __init__(
        self, *, channels: int, size: int, features: str, source: str, architecture: dict[str, Any]
    ) -> None:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        super().__init__(
            channels=channels, size=size, features=features, source=source, architecture=architecture
        )
        with self.first_weights():
            self.autoencoder = ViTMAEForPreTraining(ViTMAEConfig(**architecture))
        config = self.autoencoder.config
        self.side, self.width = config.image_size, config.hidden_size
        self.mean = torch.zeros(config.num_channels, 1, 1)
        self.deviation = torch.ones(config.num_channels, 1, 1)

    @property
    def seen_size(self) -> int:
        """Pixels a side that the network sees."""
        return self.side

    @property
    def name(self) -> str:
        """The specification that loads it anew."""
        return f"vision:{self.config['source']}"

    def made_for(self, images: ImageSet) -> Self:
        """Return the encoder for the channels and the size of `images`, with the statistics that it has.

        Raises:
            DataError: they are not square, or have channels that the network cannot take.
        """
        return fitted_to(self, images)

    def sized(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return normalised images in the size that the network reads."""
        if inputs.shape[-1] == self.side:
            return inputs
        shrinks, size = self.side < inputs.shape[-1], (self.side, self.side)
        return functional.interpolate(inputs, size, mode="bilinear", antialias=shrinks)
