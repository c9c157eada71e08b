"""Optimisers by name, and those that torch does not have."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from selfstudy.core.errors import UsageError, nearest

SHORT = (torch.float16, torch.bfloat16)
CACHED = 2**16  # numbers of each tensor that a core works on at a time
SMALL = 2**12  # numbers of a tensor below which the call costs more than the work


def loss_of(closure: Callable[[], float] | None) -> float | None:
    """Return the loss that a step's closure computes anew, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


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
        loss = loss_of(closure)
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
    "exp_avg", half of Adam's. Rates are 3 to 10 times smaller than AdamW's, and decays as many times larger.
    Weights without a gradient are left out, their decay too. All gradients times one number give the same
    steps, so that clipping and scaling the loss change little.

    On a CPU weights go through the cache part by part, elsewhere all at once.

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
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of weights; weights of 16 bits are warned of, for small steps are lost in them."""
        super().add_param_group(param_group)
        lr, betas, decay = (self.param_groups[-1][name] for name in ("lr", "betas", "weight_decay"))
        if not (lr >= 0 and decay >= 0 and len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
            raise UsageError(
                f"Lion has lr {lr}, betas {betas} and weight_decay {decay}: rate and decay must be at "
                "least 0, betas two numbers from 0 to below 1."
            )
        short = {str(w.dtype) for w in self.param_groups[-1]["params"] if w.dtype in SHORT}
        if short:
            warnings.warn(
                f"Lion moves weights of type {', '.join(sorted(short))}, in which a step of the size of the "
                "rate is lost beside a weight a few hundred times as large. Keep the weights in float32, and "
                "compute in 16 bits under autocast.",
                stacklevel=4,
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure` computes the loss anew, if given.

        Raises:
            UsageError: a sparse gradient.
        """
        loss = loss_of(closure)
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
        lists = [[_held_here(tensor) for tensor in tensors] for tensors in (weights, gradients, momenta)]
        betas, rate = group["betas"], group["lr"]
        kept = 1 - rate * group["weight_decay"]
        if weights[0].device.type != "cpu":
            _lion_together(lists[0], lists[1], lists[2], rate, betas, kept)
            return
        triples = list(zip(*lists, strict=True))
        small = [same for same in triples if same[0].numel() < SMALL]
        if small:
            some, of_some, remembered = (list(tensors) for tensors in zip(*small, strict=True))
            _lion_together(some, of_some, remembered, rate, betas, kept)
        spare: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}
        for weight, gradient, momentum in _in_cache([same for same in triples if same[0].numel() >= SMALL]):
            kind = weight.shape, weight.dtype
            if kind not in spare:
                spare[kind] = torch.empty_like(weight)
            step = torch.mul(momentum, betas[0], out=spare[kind])
            step.add_(gradient, alpha=1 - betas[0]).sign_()
            if kept != 1:
                weight.mul_(kept)
            weight.add_(step, alpha=-rate)
            momentum.mul_(betas[1]).add_(gradient, alpha=1 - betas[1])


Tensors = list[torch.Tensor]


def _held_here(tensor: Any) -> torch.Tensor:
    """Return this process's shard of a tensor, or the tensor where it is whole."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _lion_together(
    weights: Tensors, gradients: Tensors, momenta: Tensors, rate: float, betas: Any, kept: float
) -> None:
    """Take a step of Lion on all tensors at once; the decay leaves `kept` of the weights."""
    steps = torch._foreach_mul(momenta, betas[0])
    torch._foreach_add_(steps, gradients, alpha=1 - betas[0])
    torch._foreach_sign_(steps)
    if kept != 1:
        torch._foreach_mul_(weights, kept)
    torch._foreach_add_(weights, steps, alpha=-rate)
    torch._foreach_mul_(momenta, betas[1])
    torch._foreach_add_(momenta, gradients, alpha=1 - betas[1])


def _in_cache(triples: list[tuple[torch.Tensor, ...]]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield tensors of the same shape as they are, or in pieces where they are larger than the cache."""
    room = CACHED * torch.get_num_threads()
    for same in triples:
        if same[0].numel() < 2 * room or not all(tensor.is_contiguous() for tensor in same):
            yield same
        else:
            yield from zip(*(tensor.view(-1).split(room) for tensor in same), strict=True)


OptimizerName = Literal["sgd", "heavy-ball", "adam", "adamw", "nadamw", "lars", "lion"]
"""Of `OPTIMIZERS`."""
# Groups of weights -> an optimiser, whose rate is set at every step. "sgd" is with Nesterov's momentum.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "heavy-ball": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadamw": partial(torch.optim.NAdam, decoupled_weight_decay=True),
    "lars": Lars,
    "lion": Lion,
}
WITH_BETAS = ("adam", "adamw", "nadamw", "lion")
FUSED = ("adam", "adamw")


def named_optimizer(
    name: OptimizerName,
    groups: Any,
    betas: tuple[float, float] | None = None,
    *,
    weight_decay: float = 0.0,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Return an optimiser of `groups` with its usual moments, at rate 0; the rate is set at each step.

    Args:
        name: of `OPTIMIZERS`.
        groups: weights, or groups of them.
        betas: of its two moments; None is its own. "sgd", "heavy-ball" and "lars" have none.
        weight_decay: of weights whose group says none.
        fused: take a step of Adam or AdamW in one pass over the memory, which rounds differently. Gradients
            must be laid out in memory as their weights are, which those of convolutions may not be.

    Raises:
        UsageError: no such optimiser, or betas for one without.
    """
    check_optimizer(name, betas)
    more: dict[str, Any] = {} if betas is None else {"betas": betas}
    if name in FUSED:
        more["fused"] = fused
    return OPTIMIZERS[name](groups, lr=0.0, weight_decay=weight_decay, **more)


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
