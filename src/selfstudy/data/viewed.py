"""Items of a pool with the three kinds of views that training on noisy labels takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from selfstudy.data.views import view_keys

Views = Callable[[torch.Tensor, np.ndarray], torch.Tensor]
"""From inputs [B, ...] and the streams [B] of their views to one view of each."""


@dataclass(frozen=True)
class Viewed:
    """N inputs, and how views of them are made.

    Attributes:
        count: N.
        plain: from places [B] to inputs [B, ...].
        weak: views that are hardly changed: for guesses, and for labels that are trusted.
        strong: views that are contrasted.
        hard: views that a guessed label is trained on.
    """

    count: int
    plain: Callable[[np.ndarray], torch.Tensor]
    weak: Views
    strong: Views
    hard: Views

    def view(self, kind: str, at: np.ndarray, key: int) -> torch.Tensor:
        """Return a view of each input at places [B]: "weak", "strong" or "hard".

        Args:
            kind: of the views.
            at: places.
            key: of the step and the view, as `run.key` gives it.
        """
        make: Views = getattr(self, kind)
        return make(self.plain(at), view_keys(key, at))
