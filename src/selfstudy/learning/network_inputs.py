"""What a network reads of the items of a pool: features that stay, texts, or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.features import features_of

AT_ONCE = 256  # items in evaluation


class Inputs(Protocol):
    """Items that an encoder turns into features."""

    def features(self, encoder: Any, at: np.ndarray, hidden: float = 0.0) -> torch.Tensor:
        """Return the features [B, d] of the items at these places, with gradients where there are any.

        Args:
            encoder: of the classifier.
            at: [B], places.
            hidden: share of words, pixels or numbers that are hidden, drawn from torch's generator.
        """


@dataclass(frozen=True)
class FixedFeatures:
    """Features of a frozen encoder, computed once: [N, d]."""

    values: torch.Tensor

    def features(self, encoder: Any, at: np.ndarray, hidden: float = 0.0) -> torch.Tensor:
        """Return these features; hidden numbers are 0."""
        return _with_holes(self.values[torch.from_numpy(at)], hidden)


@dataclass(frozen=True)
class TextInputs:
    """Texts for an encoder with `tokens` and `features`, such as `SmallBert`."""

    texts: Sequence[str]

    def features(self, encoder: Any, at: np.ndarray, hidden: float = 0.0) -> torch.Tensor:
        """Return the encoder's features; hidden words are its hidden token."""
        tokens = encoder.tokens([self.texts[place] for place in at])
        if hidden:
            chosen = torch.rand(tokens.ids.shape) < hidden
            words = (tokens.ids >= encoder.words.start) & (tokens.ids < encoder.words.stop)
            tokens = tokens._replace(ids=tokens.ids.masked_fill(chosen & words, encoder.hidden_token))
        return encoder.features(tokens)


@dataclass(frozen=True)
class PixelInputs:
    """Images for an `ImageEncoder`."""

    images: ImageSet

    def features(self, encoder: Any, at: np.ndarray, hidden: float = 0.0) -> torch.Tensor:
        """Return the encoder's features; hidden pixels are black."""
        return encoder.features(_with_holes(self.images.pixels(at), hidden))


def can_be_trained(encoder: Any) -> bool:
    """Return whether an encoder has weights that a loss on its features can move."""
    reads = isinstance(encoder, ImageEncoder) or (hasattr(encoder, "tokens") and hasattr(encoder, "features"))
    return reads and any(weight.requires_grad for weight in encoder.parameters())


def inputs_of(encoder: Any, items: ImageSet | Texts | Vectors, *, whole: bool) -> Inputs:
    """Return the items as the encoder reads them.

    Args:
        encoder: made for them.
        items: N of them.
        whole: whether the encoder is trained; if not, its features are computed once.

    Raises:
        DataError: features that are not finite.
    """
    if not whole:
        return FixedFeatures(features_of(encoder, items))
    if isinstance(items, Texts):
        return TextInputs(items.texts)
    assert isinstance(items, ImageSet)
    return PixelInputs(items)


def _with_holes(values: torch.Tensor, share: float) -> torch.Tensor:
    return values.masked_fill(torch.rand(values.shape) < share, 0.0) if share else values
