"""How far weights have gone from where they started, and a penalty that holds them near."""

from __future__ import annotations

import torch
from torch import nn

from selfstudy.core.errors import UsageError

SHOWN = 5  # tensors that a message names


def squared_distance(model: nn.Module, origin: nn.Module) -> torch.Tensor:
    """Return the squared distance of the trained weights to those of `origin`, with gradients.

    Times a weight it is the penalty of L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483).

    Args:
        model: whose weights are trained.
        origin: of the same shape; no gradient reaches it.
    """
    pairs = zip(model.parameters(), origin.parameters(), strict=True)
    parts = [(own - other.detach()).square().sum() for own, other in pairs if own.requires_grad]
    return torch.stack(parts).sum()


def distance(model: nn.Module, origin: nn.Module) -> float:
    """Return |theta - theta_0| over the trained weights."""
    with torch.no_grad():
        return float(squared_distance(model, origin).sqrt())


def require_same_weights(model: nn.Module, other: nn.Module, *, what: str) -> None:
    """Refuse a model whose weights are not those of `model` by name and shape.

    Args:
        model: as it must be.
        other: that is looked at.
        what: it is called.

    Raises:
        UsageError: names tensors that differ.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in other.state_dict().items()}
    wrong = [
        f"{name} {found.get(name, 'missing')} for {wanted.get(name, 'none')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UsageError(
            f"{what} has other weights than the model: {'; '.join(wrong[:SHOWN])}{more}. Give one of "
            "the same architecture."
        )
