"""Losses of redundancy reduction: embeddings of two views correlate in each column, and columns do not.

Zbontar et al. 2021, "Barlow Twins", arXiv 2103.03230.
"""

from __future__ import annotations

import torch

EPSILON = 1e-5  # added to a column's variance


def standardised(embeddings: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Return [B, D] with mean 0 and (biased) variance 1 in each column, in float32 or wider."""
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    variance, mean = torch.var_mean(wide, dim=0, correction=0)
    return (wide - mean) * torch.rsqrt(variance + epsilon)


def cross_correlation(first: torch.Tensor, second: torch.Tensor, *, epsilon: float = EPSILON) -> torch.Tensor:
    """Return C [D, D]: the correlation of each column of `first` with each of `second`, both [B, D]."""
    return standardised(first, epsilon).T @ standardised(second, epsilon) / len(first)


def barlow_terms(correlation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the invariance and the redundancy term of C [D, D]: sums of (C_ii - 1)^2, and of C_ij^2.

    >>> [float(term) for term in barlow_terms(torch.tensor([[1.0, 0.5], [0.0, 0.0]]))]
    [1.0, 0.25]
    """
    diagonal = correlation.diagonal()
    return (diagonal - 1).square().sum(), correlation.square().sum() - diagonal.square().sum()


def barlow_loss(correlation: torch.Tensor, redundancy_weight: float) -> torch.Tensor:
    """Return sum_i (C_ii - 1)^2 + lambda sum_(i != j) C_ij^2, a sum that grows with D (section 2.1).

    Args:
        correlation: C [D, D].
        redundancy_weight: lambda.
    """
    invariance, redundancy = barlow_terms(correlation)
    return invariance + redundancy_weight * redundancy
