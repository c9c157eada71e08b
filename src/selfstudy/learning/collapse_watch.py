"""Whether features and embeddings still tell inputs apart while an encoder is trained."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import nn

from selfstudy.core.errors import DataError
from selfstudy.learning.distributed import column_moments
from selfstudy.learning.precision import full

COLLAPSED = 0.01  # of the spread of features at the start; below it they have collapsed
PATIENCE = 100  # steps without variance after which a column is dead
NO_VARIANCE = 1e-12  # at most this, which is what rounding leaves of a constant


class CollapseWatch:
    """Tells when features stop telling inputs apart, and keeps the weights from before.

    The spread is the mean over features of their standard deviation over inputs.

    Args:
        modules: whose weights are kept, by name.
        least: share of the first spread; below it features have collapsed.
    """

    def __init__(self, modules: dict[str, nn.Module], least: float = COLLAPSED) -> None:
        self._modules, self._least = modules, least
        self._first = 0.0
        self._kept: dict[str, dict[str, torch.Tensor]] = {}
        self.collapsed_at: int | None = None
        self.done = 0  # steps taken

    def collapsed(self, features: torch.Tensor, step: int) -> bool:
        """Look at features [N, d]; where they have collapsed, bring the kept weights back and return True."""
        spread = float(features.float().std(0).mean())
        self._first = self._first or spread
        if math.isfinite(spread) and spread > self._least * self._first:
            self._kept = {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in self._modules.items()
            }
            return False
        if not self._kept:
            raise DataError(
                "The features of the untrained encoder are all alike: the inputs are constant, or the same."
            )
        for name, module in self._modules.items():
            module.load_state_dict(self._kept[name])
        self.collapsed_at = step
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the kept weights and what was found."""
        return {
            "first": self._first,
            "kept": self._kept,
            "collapsed_at": self.collapsed_at,
            "done": self.done,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._first, self._kept = state_dict["first"], state_dict["kept"]
        self.collapsed_at, self.done = state_dict["collapsed_at"], state_dict["done"]


class DeadColumns:
    """Counts for how many steps columns have had no variance over a batch, and warns once.

    A constant column carries nothing, and in losses of redundancy reduction it has no gradient.

    Args:
        patience: steps after which it warns.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._lasting = torch.zeros(0, dtype=torch.int64)
        self._warned = False

    def least_variance(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Take note of a batch of embeddings [B, D]; return the smallest variance of a column."""
        with torch.no_grad():
            variance = column_moments(full(embeddings.detach())).variance
        dead = (variance <= NO_VARIANCE).cpu()
        if len(self._lasting) != len(dead):
            self._lasting = torch.zeros(len(dead), dtype=torch.int64)
        self._lasting = torch.where(dead, self._lasting + 1, 0)
        count = int((self._lasting >= self._patience).sum())
        if count and not self._warned:
            self._warned = True
            warnings.warn(
                f"{count} of {len(dead)} columns of the embeddings have been the same for every input for "
                f"{self._patience} steps. They have no gradient any more: lower the learning rate, or take a "
                "narrower projector.",
                stacklevel=2,
            )
        return variance.min()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"lasting": self._lasting, "warned": self._warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._lasting, self._warned = state_dict["lasting"], state_dict["warned"]
