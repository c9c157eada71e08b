"""Kernels by name, and their spectrum: the exact one of a kernel matrix, or Nystrom's of a given rank."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator

KERNELS = ("rbf", "linear")
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From rows [n, d] and [m, d] to [n, m], symmetric and positive semi-definite."""

ASYMMETRY = 1e-8  # of a kernel matrix, beside which symmetry is taken for granted
PAIRED = 1000  # rows that the median heuristic looks at
MOST_BYTES = 6.5e9  # of a kernel matrix and its eigenvectors: 20,000 rows
DECOMPOSITION = 9  # operations of an eigendecomposition of n rows over n^3
FLAT = 1e-10  # of the largest eigenvalue; smaller ones of Nystrom's landmarks are left out


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a_i - b_j|^2 of rows [n, d] and [m, d]: [n, m]."""
    from scipy.spatial.distance import cdist

    return cdist(a, b, "sqeuclidean")


def median_gamma(rows: np.ndarray) -> float:
    """Return 1 / median squared distance of rows [n, d], or of 1,000 random ones of more; 1 if that is 0."""
    from scipy.spatial.distance import pdist

    if len(rows) > PAIRED:  # the first ones would be alike in a table that is sorted
        rows = rows[generator("median distance", len(rows)).permutation(len(rows))[:PAIRED]]
    distances = pdist(rows, "sqeuclidean")
    middle = float(np.median(distances)) if len(distances) else 0.0
    return 1 / middle if middle else 1.0


def named_kernel(name: str, gamma: float = 1.0) -> Kernel:
    """Return "rbf", exp(-gamma |a - b|^2), or "linear", the inner product.

    Raises:
        UsageError: no such kernel, or a gamma that is not above 0.
    """
    if name not in KERNELS:
        raise UsageError(f"There is no kernel {name!r}. {nearest(name, KERNELS)}")
    if not gamma > 0:
        raise UsageError(f"The kernel's gamma is {gamma}; it must be above 0.")
    if name == "linear":
        return lambda a, b: a @ b.T
    return lambda a, b: np.exp(-gamma * squared_distances(a, b))


@dataclass(frozen=True)
class Spectrum:
    """The eigenvectors of a kernel matrix of n rows, and how other rows lie in them.

    Attributes:
        values: d, [r], at least 0, rising.
        vectors: V, [n, r], of orthonormal columns; K = V diag(d) V'.
        anchors: rows [a, d] that the kernel of other rows is taken with.
        onto: [a, r]; k(x, anchors) @ onto is k(x, X) V.
    """

    values: np.ndarray
    vectors: np.ndarray
    anchors: np.ndarray
    onto: np.ndarray


def spectrum(kernel: Kernel, rows: np.ndarray, rank: int = 0, *, most_bytes: float = MOST_BYTES) -> Spectrum:
    """Return the spectrum of the kernel matrix of rows [n, d].

    Args:
        kernel: from two sets of rows to their kernel matrix.
        rows: n of them.
        rank: 0 for all n eigenvectors; else the number of rows, drawn at random, whose span stands for all
            (Williams and Seeger 2001).
        most_bytes: of the kernel matrix and its eigenvectors.

    Raises:
        DataError: the matrix would take more, or has values that are not finite.
    """
    count = len(rows)
    require_room(count, rank, most_bytes)
    if not rank or rank >= count:
        values, vectors = np.linalg.eigh(symmetric(kernel(rows, rows)))
        return Spectrum(np.maximum(values, 0), vectors, rows, vectors)
    anchors = rows[np.sort(generator("nystrom", count, rank).permutation(count)[:rank])]
    inner, turned = np.linalg.eigh(symmetric(kernel(anchors, anchors)))
    kept = inner > FLAT * inner.max()
    half = turned[:, kept] / np.sqrt(inner[kept])  # [a, r]
    features = kernel(rows, anchors) @ half  # F, [n, r]; F F' is the approximation of K
    values, right = np.linalg.eigh(features.T @ features)
    sure = values > FLAT * values.max()
    values, right = values[sure], right[:, sure]
    vectors = features @ right / np.sqrt(values)
    return Spectrum(values, vectors, anchors, half @ right * np.sqrt(values))


def spectrum_flops(count: int, rank: int = 0) -> float:
    """Return about how many operations `spectrum` takes for so many rows."""
    side = min(rank or count, count)
    return float(DECOMPOSITION * side**3 + (2 * count * side**2 if rank else 0))


def require_room(count: int, rank: int = 0, most_bytes: float = MOST_BYTES) -> None:
    """Refuse an exact decomposition of more rows than there is room for.

    Args:
        count: rows.
        rank: of Nystrom's approximation, which needs no such room; 0 is exact.
        most_bytes: of the kernel matrix and its eigenvectors.

    Raises:
        DataError: they take more.
    """
    needed = 16.0 * count**2  # two matrices of eight bytes a number
    if needed > most_bytes and not 0 < rank < count:
        raise DataError(
            f"The kernel matrix of {count:,} rows and its eigenvectors take {needed / 2**30:.1f} GiB, more "
            f"than {most_bytes / 2**30:.1f}. Give a rank for Nystrom's approximation, such as 2000, or fewer "
            "rows."
        )


def symmetric(matrix: np.ndarray) -> np.ndarray:
    """Return a square matrix as a symmetric one; where it is not nearly so, with a warning.

    Raises:
        DataError: it is not square, or has values that are not finite.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise DataError(
            f"The kernel gives a matrix of shape {matrix.shape}"
            f"{'' if np.isfinite(matrix).all() else ' with values that are not finite'}; it must be square "
            "and finite."
        )
    apart = float(np.abs(matrix - matrix.T).max(initial=0.0))
    if apart > ASYMMETRY:
        warnings.warn(
            f"The kernel matrix is not symmetric, by {apart:.1e}; the mean of both halves is taken.",
            stacklevel=2,
        )
    return (matrix + matrix.T) / 2
