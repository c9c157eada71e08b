"""Systematic resampling: a fixed number of draws with given expected counts, from one random number."""

from __future__ import annotations

import numpy as np

DIGITS = 9  # after the point, to which places are rounded: sums of equal weights then fall on whole numbers


def systematic_counts(weights: np.ndarray, draws: int, uniform: float) -> np.ndarray:
    """Return how often each of J terms is drawn, [J].

    The points (u + k) / L, k = 0 .. L-1, are looked up in the cumulative weights (Kitagawa, 1996). The
    expected count of a term is L w_j / W, and its count is that number rounded down or up.

    Args:
        weights: [J], 0 or more; W is their sum.
        draws: L.
        uniform: u, in [0, 1).

    >>> systematic_counts(np.array([0.5, 0.25, 0.25]), 4, 0.3).tolist()
    [2, 1, 1]
    >>> systematic_counts(np.zeros(2), 4, 0.3).tolist()
    [0, 0]
    """
    total = weights.sum()
    if not total:
        return np.zeros(len(weights), dtype=np.int64)
    ends = np.round(draws * np.cumsum(weights / total), DIGITS)
    ends[-1] = draws
    # Points before each end. Not ceil(end - u), which loses one to rounding where u is almost 1.
    below = np.floor(ends)
    below += ends - below > uniform
    return np.diff(below, prepend=0.0).astype(np.int64)
