"""Masked autoencoders: a vision transformer that sees some patches, and a decoder that tells the others.

He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377. The networks are
transformers' `ViTMAEForPreTraining`, which itself always hides patches; here the caller says which are seen.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.models.encoders.base import AS_DATA, ImageEncoder

BLANK = 8  # patches on a side before the size of the images is known
FEATURES = ("cls", "mean")


class MaskedImageEncoder(ImageEncoder):
    """An encoder of images that carries the decoder it was pre-trained with.

    Attributes:
        autoencoder: transformers' `ViTMAEForPreTraining`: encoder and decoder.
    """

    autoencoder: Any

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The blocks of the encoder, first to last."""
        return {f"stage{place}": part for place, part in enumerate(self.autoencoder.vit.layers, 1)}

    @property
    def patches(self) -> int:
        """T, of an image."""
        return self.autoencoder.vit.embeddings.patch_embeddings.num_patches

    def seen(self, images: torch.Tensor) -> torch.Tensor:
        """Return images [B, C, H, W], 0 to 1, as the network reads them: normalised, of its own size."""
        return self.sized((images - self.mean) / self.deviation)

    def sized(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return normalised images in the size that the network reads."""
        return inputs

    def tokens(self, inputs: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return the last normalised states of [CLS] and of the patches that are seen: [B, 1 + K, width].

        Args:
            inputs: [B, C, S, S], as `seen` makes them.
            kept: [B, K], places of the patches that are seen; None is all of them, in their own order.
        """
        vit = self.autoencoder.vit
        place = vit.embeddings.position_embeddings
        states = vit.embeddings.patch_embeddings(inputs) + place[:, 1:]
        if kept is not None:
            states = states.gather(1, kept[:, :, None].expand(-1, -1, states.shape[2]))
        first = (vit.embeddings.cls_token + place[:, :1]).expand(len(states), -1, -1)
        states = torch.cat([first, states], 1)
        for layer in vit.layers:
            states = layer(states)
        return vit.layernorm(states)

    def told(self, tokens: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return what the decoder tells of every patch: [B, T, pixels of a patch].

        Args:
            tokens: [B, 1 + K, width], as `tokens` makes them.
            kept: [B, K], places of the patches that were seen.
        """
        # Where each patch stands once those that are seen come first: the decoder puts them back by it.
        order = torch.full((len(kept), self.patches), kept.shape[1], device=kept.device)
        order.scatter_(1, kept, torch.arange(kept.shape[1], device=kept.device).expand_as(kept))
        return self.autoencoder.decoder(tokens, order).logits

    def pixels_of(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the pixels of each patch: [B, T, pixels of a patch]."""
        return self.autoencoder.patchify(inputs)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images: nothing hidden, nothing shuffled."""
        tokens = self.tokens(self.sized(inputs))
        return tokens[:, 0] if self.config["features"] == "cls" else tokens[:, 1:].mean(1)


class MaskedAutoencoder(MaskedImageEncoder):
    """A small masked autoencoder, to be trained from scratch.

    Args:
        channels: of the images; 0 is as the data have.
        size: of the images in pixels; 0 is as the data have.
        patch: side of a patch in pixels; must divide the size.
        hidden: width of a patch's vector, and of the features; a multiple of 4 and of `heads`.
        layers: of the encoder.
        heads: of the attention, in encoder and decoder.
        decoder_hidden: width of the decoder; a multiple of 4 and of `heads`.
        decoder_layers: of the decoder.
        features: "cls", the state of [CLS], or "mean", that over the patches.
        seed: of the first weights.

    Raises:
        UsageError: sizes that do not divide.
    """

    kind: ClassVar[str] = "mae"

    def __init__(
        self,
        *,
        channels: int = AS_DATA,
        size: int = AS_DATA,
        patch: int = 4,
        hidden: int = 96,
        layers: int = 4,
        heads: int = 4,
        decoder_hidden: int = 64,
        decoder_layers: int = 1,
        features: str = "cls",
        seed: int = 0,
    ) -> None:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        super().__init__(
            channels=channels,
            size=size,
            patch=patch,
            hidden=hidden,
            layers=layers,
            heads=heads,
            decoder_hidden=decoder_hidden,
            decoder_layers=decoder_layers,
            features=features,
            seed=seed,
        )
        self._check()
        config = ViTMAEConfig(
            image_size=size or BLANK * patch,
            patch_size=patch,
            num_channels=self.channels,
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            decoder_hidden_size=decoder_hidden,
            decoder_intermediate_size=4 * decoder_hidden,
            decoder_num_hidden_layers=decoder_layers,
            decoder_num_attention_heads=heads,
        )
        with self.first_weights():
            self.autoencoder = ViTMAEForPreTraining(config)
            _set_positions(self.autoencoder)
        self.width = hidden

    def _check(self) -> None:
        size, patch, heads = (self.config[name] for name in ("size", "patch", "heads"))
        if size % patch:
            below = size // patch * patch
            near = " or ".join(str(side) for side in (below, below + patch) if side)
            raise UsageError(
                f"Images of {size} x {size} pixels cannot be cut into patches of {patch} x {patch}. Resize "
                f"them to {near} pixels, or take a patch that divides {size}, as in {self.kind}?patch=N."
            )
        for name in ("hidden", "decoder_hidden"):
            if self.config[name] % heads or self.config[name] % 4:
                raise UsageError(
                    f"The model {self.kind!r} has {name} {self.config[name]} and heads {heads}: give a "
                    "multiple of 4 that the heads divide."
                )
        if self.config["features"] not in FEATURES:
            raise UsageError(
                f"The model {self.kind!r} has no features {self.config['features']!r}: take "
                f"{' or '.join(FEATURES)}."
            )


def _set_positions(autoencoder: Any) -> None:
    """Give a new network the fixed positions of its patches, which transformers 5 leaves at zero.

    It does so only for a new one: the positions of one that is loaded are in its weights.
    """
    embeddings = autoencoder.vit.embeddings
    embeddings.patch_embeddings.projection._is_hf_initialized = False  # else it returns at once
    embeddings.initialize_weights()
    autoencoder.decoder.initialize_weights(embeddings.patch_embeddings.num_patches)
