"""Whether features still tell inputs apart: their rank, spread, uniformity and alignment."""

from __future__ import annotations

import torch
from torch.nn import functional


def effective_rank(features: torch.Tensor) -> float:
    """Return exp of the entropy of the normalised singular values of centred features (Roy, Vetterli 2007).

    Between 1, where all inputs lie on a line, and d; 0 where all features are alike.

    >>> round(effective_rank(torch.eye(4) - 0.25), 3)
    3.0
    """
    centred = features.double() - features.double().mean(0)
    values = torch.linalg.svdvals(centred)
    total = values.sum()
    if total <= 1e-12:
        return 0.0
    shares = values[values > 1e-12 * values.max()] / total
    return float(torch.exp(-(shares * shares.log()).sum()))


def least_variance(features: torch.Tensor) -> float:
    """Return the smallest variance of a feature over inputs; 0 for a dead one."""
    return float(features.var(0, correction=0).min())


def uniformity(features: torch.Tensor) -> float:
    """Return log of the mean of exp(-2 |u - v|^2) over pairs on the unit sphere (Wang, Isola 2020).

    0 where all are alike, and where there is one alone; lower the more evenly they lie.
    """
    if len(features) < 2:
        return 0.0
    unit = functional.normalize(features.double(), dim=1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())


def alignment(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the mean squared distance of two views of an input on the unit sphere (Wang, Isola 2020)."""
    apart = functional.normalize(first.double(), dim=1) - functional.normalize(second.double(), dim=1)
    return float(apart.square().sum(1).mean())
