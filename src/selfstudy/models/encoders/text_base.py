"""What encoders of texts share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError
from selfstudy.data.items import LONGEST, Texts
from selfstudy.models.small import SmallModel


class Tokens(NamedTuple):
    """Texts as numbers, padded at their ends.

    Attributes:
        ids: [N, T], int64.
        mask: [N, T], 1 where there is a token, 0 behind the end.
    """

    ids: torch.Tensor
    mask: torch.Tensor

    def at(self, places: torch.Tensor) -> Tokens:
        """Return the texts at these places [B]."""
        return Tokens(self.ids[places], self.mask[places])


class TextEncoder(SmallModel):
    """An encoder of texts into features [B, width].

    A subclass names `kind`, hands its keyword arguments on and sets `width`.
    """

    width: int
    """Of the features."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features of texts, in evaluation mode and without gradients: [N, width], float32.

        Only the first `LONGEST` characters of a text are read.
        """

    def made_for(self, items: Texts) -> Self:
        """Return the encoder for these texts; one that needs nothing of them returns itself."""
        return self

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the features of a text or of several as numbers: [N, width], float32.

        Raises:
            DataError: something else than texts.
        """
        if isinstance(inputs, Texts):
            inputs = inputs.texts
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        wrong = next((place for place, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(
                f"Input {wrong} is {type(texts[wrong]).__name__}, not a text. Give texts, such as "
                '["fast and friendly", "never again"].'
            )
        return self.embed_texts([text[:LONGEST] for text in texts]).numpy()
