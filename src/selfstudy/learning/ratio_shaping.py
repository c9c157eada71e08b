"""Shaped ratios, for answers that were drawn under another prompt than the one they are learnt after.

Their ratios of new to old probabilities are far from 1 from the start, so that clipping would leave almost
no gradient. A bounded function of the ratio takes its place (Nath et al. 2025, arXiv 2506.13923).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.policy_gradient import Objective, PolicyGradient, Tokens, clipped

Shape = Literal["percentile", "constant", "power", "clip"]
LEAST_GAMMA = 1e-4
ENOUGH = 32  # ratios from which a quantile is trusted
KEPT = 0.9  # of the running quantile, at each new one


@dataclass(frozen=True, kw_only=True)
class RatioShaping:
    """How ratios r of answers that were drawn with a hint enter the loss -f(r) A."""

    kind: Shape = "percentile"
    """f: r / (r + gamma) with gamma a quantile of the step's ratios ("percentile") or fixed ("constant"),
    r ** gamma ("power"), or the clipped loss of all other answers ("clip", for comparison)."""
    quantile: float = 0.9
    """Of "percentile"."""
    gamma: float = 0.1
    """Of "constant" and "power"."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if not 0 < self.quantile < 1:
            raise UsageError(f"RatioShaping.quantile is {self.quantile}; it must be between 0 and 1.")
        if self.gamma <= 0:
            raise UsageError(f"RatioShaping.gamma is {self.gamma}; it must be above 0.")


class Gamma:
    """The gamma of the steps: a state for checkpoints.

    Args:
        settings: a "percentile" follows the ratios, the others keep the fixed gamma.
    """

    def __init__(self, settings: RatioShaping) -> None:
        self._settings, self.value, self._running = settings, settings.gamma, 0.0

    def look(self, ratios: np.ndarray) -> None:
        """Set gamma for a step with these ratios, of any shape.

        Fewer than 32 are too few for a quantile: then it is the running value of the steps before, where
        there is one.
        """
        if self._settings.kind != "percentile" or not ratios.size:
            return
        found = max(LEAST_GAMMA, float(np.quantile(ratios, self._settings.quantile)))
        if ratios.size >= ENOUGH:
            self._running = KEPT * self._running + (1 - KEPT) * found if self._running else found
            self.value = found
        else:
            self.value = self._running or found

    def state_dict(self) -> dict[str, float]:
        """Return the values."""
        return {"value": self.value, "running": self._running}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Take the values over."""
        self.value, self._running = state_dict["value"], state_dict["running"]


def shaped_ratio(ratio: torch.Tensor, kind: Shape, gamma: float) -> torch.Tensor:
    """Return f(r): r / (r + gamma), for "power" r ** gamma; the gradient goes through r alone.

    >>> round(float(shaped_ratio(torch.tensor(0.1), "constant", 0.1)), 6)
    0.5
    """
    if kind == "power":
        return ratio.clamp(min=torch.finfo(ratio.dtype).tiny) ** gamma  # at 0 its slope is infinite
    return ratio / (ratio + gamma)


def shaped(settings: PolicyGradient, shaping: RatioShaping, gamma: Gamma) -> Objective:
    """Return the loss that shapes the ratios of answers drawn elsewhere, and clips the others.

    Args:
        settings: the bounds of clipping.
        shaping: the kind.
        gamma: read whenever the loss is asked.
    """
    clipping = clipped(settings)

    def loss(tokens: Tokens) -> torch.Tensor:
        others = -shaped_ratio(tokens.ratio, shaping.kind, gamma.value) * tokens.advantages
        return torch.where(tokens.elsewhere, others, clipping(tokens))

    return clipping if shaping.kind == "clip" else loss
