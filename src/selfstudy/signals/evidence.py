"""What selectors of pseudo-labels are given, what they return, and their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.signals.neighbours import Backend

SelectorName = Literal["hast", "ust", "actune", "verips", "nest", "threshold", "none"]
CHOSEN, NONE_PASSED, ONE_CLASS = "chosen", "none_passed", "one_class"  # how a selection ended


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a selector may look at: S unlabelled items, l labelled ones, and what a classifier says of both.

    Attributes:
        probabilities: [S, C].
        features: [S, e], in the classifier's own space.
        groups: [S], int64: the place among the S of the first item with the same input.
        labels: [l], of the labelled items.
        labelled_probabilities: [l, C].
        labelled_features: [l, e].
        passes: returns probabilities [S, T, C] and [l, T, C] of T Monte Carlo passes.
        verified: trains another classifier on the labelled items alone, and returns the class [S] it tells.
        earlier: [S, m], what the selector remembered of an item the last time; nan where nothing.
        progress: from 0 at the first round to 1 at the last.
        rng: for selectors that draw.
    """

    probabilities: torch.Tensor
    features: torch.Tensor
    groups: np.ndarray
    labels: np.ndarray
    labelled_probabilities: torch.Tensor
    labelled_features: torch.Tensor
    passes: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    verified: Callable[[], np.ndarray]
    earlier: torch.Tensor | None
    progress: float
    rng: np.random.Generator

    @property
    def told(self) -> np.ndarray:
        """The most likely class of each item: [S]."""
        return self.probabilities.argmax(1).numpy()


class Selection(NamedTuple):
    """Pseudo-labels."""

    places: np.ndarray
    """[K], among the S items, in rising order."""
    labels: np.ndarray
    """[K], classes."""
    weights: np.ndarray
    """[K], not yet scaled."""
    labelled_weights: np.ndarray
    """[l], of the labelled items beside them."""
    remembered: torch.Tensor | None = None
    """[S, m], `Evidence.earlier` of the next time."""
    dropout: bool = False
    """Whether the classifier that learns from them is trained with dropout."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Which unlabelled items are learnt from with the classifier's own label, and how much they weigh."""

    selector: SelectorName = "hast"
    """hast; the strategies it was compared with; "threshold": all items above `sure`; or "none"."""
    neighbours: int = 15
    """k of hast, the item itself counted."""
    vote: float = 0.5
    """hast: share of neighbours that must agree, exclusive."""
    confidence: float = 0.5
    """hast: probability that a label must exceed."""
    weight: float = 0.1
    """beta of hast: weight of a pseudo-label, before it is balanced; a label's is 1."""
    balanced: bool = True
    """hast: whether rare classes weigh more."""
    backend: Backend = "torch"
    """hast: what finds neighbours."""
    sure: float = 0.9
    """Probability (threshold, nest) or certainty (verips) that a label must reach."""
    passes: int = 10
    """T of ust, Monte Carlo passes."""
    certainty: Literal["entropy", "margin"] = "entropy"
    """verips: 1 - H(P) / log C, or the gap between the two most likely classes."""
    nest_direction: Literal["low", "high"] = "low"
    """nest takes items that diverge least from their labelled neighbours; the authors' code of hast takes
    those that diverge most."""

    def validate(self) -> None:
        """Raise a UsageError for numbers that cannot be right."""
        if self.neighbours < 2 or self.passes < 2:
            raise UsageError(
                f"PseudoLabels has neighbours {self.neighbours} and passes {self.passes}: both must be 2 or "
                "more (the item itself counts as a neighbour)."
            )
        for name in ("vote", "confidence", "sure"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"PseudoLabels.{name} is {getattr(self, name)}; it must be from 0 to 1.")
        if not 0 < self.weight < float("inf"):
            raise UsageError(f"PseudoLabels.weight is {self.weight}; it must be a number above 0.")
