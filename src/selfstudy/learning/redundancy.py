"""Losses of redundancy reduction: embeddings of two views correlate in each column, and columns do not.

Zbontar et al. 2021, "Barlow Twins", arXiv 2103.03230. They compute in float32 or wider, also within autocast.
When several processes train together, statistics and correlations are those of the batch of all.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.learning.distributed import column_moments, processes, total
from selfstudy.learning.precision import full, full_precision

EPSILON = 1e-5  # added to a column's variance


def standardised(embeddings: torch.Tensor, epsilon: float = EPSILON) -> torch.Tensor:
    """Return [B, D] with mean 0 and (biased) variance 1 in each column; a constant column becomes 0."""
    wide = full(embeddings)
    mean, variance = column_moments(wide)
    return (wide - mean) * torch.rsqrt(variance + epsilon)


def cross_correlation(
    first: torch.Tensor, second: torch.Tensor, *, epsilon: float = EPSILON, row_normalise: bool = False
) -> torch.Tensor:
    """Return C [D, D]: the correlation of each column of `first` with each of `second`.

    Args:
        first: embeddings [B, D] of one view.
        second: of the other.
        epsilon: added to the variance of a column.
        row_normalise: whether each row is brought to length 1 before, as some later codes do.

    Raises:
        DataError: fewer than two rows, or embeddings of two shapes.
    """
    if first.shape != second.shape or len(first) * processes() < 2:
        raise DataError(
            f"The embeddings of two views have the shapes {tuple(first.shape)} and {tuple(second.shape)}. "
            "Correlations need two views of one batch, of two inputs or more."
        )
    if row_normalise:
        first, second = (functional.normalize(full(view), dim=1) for view in (first, second))
    return correlation_of(standardised(first, epsilon), standardised(second, epsilon))


def correlation_of(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return u^T v / B [D, D] of columns that are standardised already, both [B, D]."""
    with full_precision(first):
        return total(full(first).T @ full(second)) / (len(first) * processes())


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


def off_diagonal(correlation: torch.Tensor) -> torch.Tensor:
    """Return the mean of |C_ij| over i != j: how much columns still repeat each other.

    >>> float(off_diagonal(torch.tensor([[1.0, 0.5], [0.0, 1.0]])))
    0.25
    """
    width = len(correlation)
    outside = correlation.abs().sum() - correlation.diagonal().abs().sum()
    return outside / max(1, width * (width - 1))
