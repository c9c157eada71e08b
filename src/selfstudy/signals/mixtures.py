"""A mixture of two Gaussians on a line: which of two groups each number belongs to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Of a component, and between the two means; below them there is one group.
LEAST_WEIGHT, LEAST_DISTANCE = 1e-3, 0.05
_TINY = 10 * np.finfo(float).eps


class Mixture(NamedTuple):
    """Two Gaussians; the order of the components means nothing.

    Attributes:
        means, variances, weights: [2] each.
    """

    means: np.ndarray
    variances: np.ndarray
    weights: np.ndarray

    @property
    def collapsed(self) -> bool:
        """Whether there is one group: a component is all but empty, or the means are next to each other."""
        return bool(self.weights.min() < LEAST_WEIGHT or np.ptp(self.means) < LEAST_DISTANCE)

    def densities(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted density of each component, lower mean first, at values [N]: [2, N]."""
        order = np.argsort(self.means, kind="stable")
        return np.exp(_log_densities(values, self))[order]

    def posterior_high(self, values: np.ndarray) -> np.ndarray:
        """Return how likely each of values [N] is of the component with the higher mean: [N], 0 to 1."""
        logs = _log_densities(values, self)
        shares = np.exp(logs - np.logaddexp(*logs))
        return shares[int(np.argmax(self.means))]


def two_gaussians(
    values: np.ndarray, *, iterations: int = 10, tolerance: float = 1e-2, floor: float = 5e-4
) -> Mixture:
    """Fit a mixture of two Gaussians by expectation-maximisation, from the two clusters of k-means.

    Depends on the numbers alone, not on their order. With the same two clusters at the start it is what
    scikit-learn's GaussianMixture finds.

    Args:
        values: [N], finite; two or more.
        iterations: at most.
        tolerance: of the mean log-likelihood, below which it has converged.
        floor: added to both variances.
    """
    values = np.sort(np.asarray(values, dtype=np.float64))
    found = _maximised(values, _two_clusters(values), floor)
    before = -np.inf
    for _ in range(iterations):
        logs = _log_densities(values, found)
        norms = np.logaddexp(*logs)
        found = _maximised(values, np.exp(logs - norms), floor)
        likelihood = norms.mean()
        if abs(likelihood - before) < tolerance:
            break
        before = likelihood
    return found


def _two_clusters(values: np.ndarray) -> np.ndarray:
    """Return which sorted values are of the lower and of the higher cluster of k-means: [2, N], 0 or 1."""
    low, high = values[0], values[-1]
    for _ in range(100):
        upper = values > (low + high) / 2
        if not upper.any():
            break
        centres = values[~upper].mean(), values[upper].mean()
        if centres == (low, high):
            break
        low, high = centres
    return np.stack([~upper, upper]).astype(float)


def _maximised(values: np.ndarray, shares: np.ndarray, floor: float) -> Mixture:
    sizes = shares.sum(1) + _TINY
    means = shares @ values / sizes
    spread = np.square(values - means[:, None])
    variances = (shares * spread).sum(1) / sizes + floor
    return Mixture(means, variances, sizes / sizes.sum())


def _log_densities(values: np.ndarray, found: Mixture) -> np.ndarray:
    """Return the logarithm of the weighted densities: [2, N]."""
    means, variances, weights = (part[:, None] for part in found)
    spread = np.square(np.asarray(values, dtype=np.float64) - means) / variances
    return np.log(weights) - 0.5 * (np.log(2 * np.pi * variances) + spread)
