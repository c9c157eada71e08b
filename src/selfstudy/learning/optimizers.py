"""Optimisers that torch does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling, as in the reference code of Barlow Twins (You et al. 2017).

    A matrix p with gradient g takes g <- g + weight_decay p, then g <- g eta |p| / |g| where neither norm is
    0; then m <- momentum m + g and p <- p - lr m. Vectors (biases, scales) have neither decay nor ratio.

    Args:
        params: weights, or groups of them.
        lr: learning rate.
        weight_decay: of matrices.
        momentum: of the update.
        eta: trust coefficient.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.2,
        weight_decay: float = 1e-6,
        momentum: float = 0.9,
        eta: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure` computes the loss anew, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)
        return loss

    def _move(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1:
            gradient = gradient + group["weight_decay"] * weight
            sizes = weight.norm(), gradient.norm()
            ratio = torch.where(
                (sizes[0] > 0) & (sizes[1] > 0), group["eta"] * sizes[0] / sizes[1], torch.ones_like(sizes[0])
            )
            gradient = gradient * ratio
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        weight.add_(state["momentum"], alpha=-group["lr"])


def decayed_groups(part: nn.Module, weight_decay: float, **more: Any) -> list[dict[str, Any]]:
    """Return the groups of a part's trained weights: matrices, which are decayed, and vectors, which are not.

    Args:
        part: a network or a piece of one.
        weight_decay: of the matrices; biases and scales of normalisation are vectors.
        more: what both groups say besides, such as a learning rate.
    """
    weights = [weight for weight in part.parameters() if weight.requires_grad]
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, **more},
        {"params": vectors, "weight_decay": 0.0, **more},
    ]
    return [group for group in groups if group["params"]]
