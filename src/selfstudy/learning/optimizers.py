"""Optimisers by name, and those that torch does not have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from selfstudy.core.errors import UsageError, nearest


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


class Lion(torch.optim.Optimizer):
    """Steps of one size by the sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675).

    A weight w with gradient g and momentum m, which starts at 0, takes

        w <- w (1 - lr weight_decay)
        w <- w - lr sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    so the momentum is renewed after the step, with a coefficient of its own. State is one tensor a weight,
    half of Adam's. Rates are 3 to 10 times smaller than AdamW's, and decays as many times larger. Weights
    without a gradient are left out, their decay too.

    Args:
        params: weights, or groups of them.
        lr: learning rate, the size of a step in every coordinate.
        betas: beta1 of the step and beta2 of the momentum; the authors take 0.95, 0.98 for language models.
        weight_decay: decoupled.

    Raises:
        UsageError: a rate or decay below 0, or a beta outside [0, 1).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        if not (lr >= 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise UsageError(
                f"Lion has lr {lr}, betas {betas} and weight_decay {weight_decay}: rate and decay must be at "
                "least 0, betas from 0 to below 1."
            )
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure` computes the loss anew, if given.

        Raises:
            UsageError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if any(weight.grad.is_sparse for weight in weights):
                raise UsageError("Lion takes dense gradients only: make the embedding with sparse=False.")
            if weights:
                self._move(weights, [weight.grad for weight in weights], group)
        return loss

    def _move(
        self, weights: list[torch.Tensor], gradients: list[torch.Tensor], group: dict[str, Any]
    ) -> None:
        for weight in weights:
            if "exp_avg" not in self.state[weight]:
                self.state[weight]["exp_avg"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["exp_avg"] for weight in weights]
        (beta1, beta2), rate = group["betas"], group["lr"]
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        steps = torch._foreach_mul(momenta, beta1)
        torch._foreach_add_(steps, gradients, alpha=1 - beta1)
        torch._foreach_sign_(steps)
        torch._foreach_add_(weights, steps, alpha=-rate)
        torch._foreach_mul_(momenta, beta2)
        torch._foreach_add_(momenta, gradients, alpha=1 - beta2)


OptimizerName = Literal["sgd", "heavy-ball", "adam", "adamw", "nadamw", "lars", "lion"]
"""Of `OPTIMIZERS`."""
# Groups of weights -> an optimiser, whose rate is set at every step. "sgd" is with Nesterov's momentum.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "heavy-ball": partial(torch.optim.SGD, momentum=0.9),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "nadamw": partial(torch.optim.NAdam, decoupled_weight_decay=True),
    "lars": Lars,
    "lion": Lion,
}
WITH_BETAS = ("adam", "adamw", "nadamw", "lion")


def named_optimizer(
    name: OptimizerName, groups: Any, betas: tuple[float, float] | None = None
) -> torch.optim.Optimizer:
    """Return an optimiser of `groups` with its usual moments, at rate 0; the rate is set at each step.

    Args:
        name: of `OPTIMIZERS`.
        groups: weights, or groups of them that say their `weight_decay`.
        betas: of its two moments; None is its own. "sgd", "heavy-ball" and "lars" have none.

    Raises:
        UsageError: no such optimiser, or betas for one without.
    """
    check_optimizer(name, betas)
    more = {} if betas is None else {"betas": betas}
    return OPTIMIZERS[name](groups, lr=0.0, **more)


def check_optimizer(name: OptimizerName, betas: tuple[float, float] | None = None) -> None:
    """Raise a UsageError for an unknown optimiser, betas for one without, or betas that cannot be right."""
    if name not in OPTIMIZERS:
        raise UsageError(f"There is no optimiser {name!r}. {nearest(name, OPTIMIZERS)}")
    if betas is not None and name not in WITH_BETAS:
        raise UsageError(f"The optimiser {name!r} has no betas; {', '.join(WITH_BETAS)} have.")
    if betas is not None and not all(0 <= beta < 1 for beta in betas):
        raise UsageError(f"The betas of an optimiser are {betas}; they must be from 0 to below 1.")


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
