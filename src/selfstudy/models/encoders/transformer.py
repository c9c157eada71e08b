"""A small vision transformer for images of 8 to 64 pixels."""

from __future__ import annotations

from typing import ClassVar

import torch

from selfstudy.core.errors import UsageError
from selfstudy.models.encoders.base import AS_DATA, ImageEncoder

BLANK = 8  # patches on a side before the size of the images is known


class VisionTransformer(ImageEncoder):
    """The vision transformer of Dosovitskiy et al. 2021, as transformers' ViTModel, with averaged patches.

    Features are the mean of the patches after the last normalisation (Beyer et al. 2022), so there is no
    pooling layer to be trained.

    Args:
        channels: of the images; 0 is as the data have.
        size: of the images in pixels; 0 is as the data have.
        patch: side of a patch in pixels; must divide the size.
        hidden: width of a patch's vector, and of the features.
        layers: how many.
        heads: of the attention; must divide `hidden`.
        seed: of the first weights.

    Raises:
        UsageError: sizes that do not divide.
    """

    kind: ClassVar[str] = "vit"

    def __init__(
        self,
        *,
        channels: int = AS_DATA,
        size: int = AS_DATA,
        patch: int = 4,
        hidden: int = 64,
        layers: int = 4,
        heads: int = 4,
        seed: int = 0,
    ) -> None:
        from transformers import ViTConfig, ViTModel

        super().__init__(
            channels=channels, size=size, patch=patch, hidden=hidden, layers=layers, heads=heads, seed=seed
        )
        if size % patch or hidden % heads:
            raise UsageError(
                f"The model {self.kind!r} has size {size} with patch {patch}, and hidden {hidden} with heads "
                f"{heads}: patch must divide the size, and heads must divide hidden."
            )
        config = ViTConfig(
            image_size=size or BLANK * patch,
            patch_size=patch,
            num_channels=self.channels,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
        )
        with self.first_weights():
            self.network = ViTModel(config, add_pooling_layer=False)
        self.width = hidden

    @property
    def grain(self) -> int:
        """The patch: positions are those of the whole grid, resized to the patches that there are."""
        return int(self.config["patch"])

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images."""
        resized = inputs.shape[-1] != self.network.config.image_size
        tokens = self.network(inputs, interpolate_pos_encoding=resized).last_hidden_state
        # The first token belongs to no patch.
        return tokens[:, 1:].mean(1)
