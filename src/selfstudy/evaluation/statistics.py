"""Intervals: how sure a figure is, and whether one contestant is better than another.

Proportions take Wilson's score interval, which keeps its coverage near 0 and 1 and for small counts, where
the usual normal interval does not (Wilson 1927; Brown, Cai and DasGupta 2001). Differences are always
paired: by seed with Student's t, by item with the bootstrap (Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator

FEW_LEVELS = 16  # differences of right and wrong have 3
AT_ONCE = 2**20  # numbers that a bootstrap draws at once: all of them may not fit in memory


class Interval(NamedTuple):
    """A range that covers the true value with the confidence asked for."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference of pairs, with its interval; infinite bounds where n is too small to tell."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON data; a bound that is not finite becomes null."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion.

    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)

    Raises:
        UsageError: n is below 1, or successes are not within 0 to n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise UsageError(f"A proportion needs 0 <= successes <= n and n >= 1, not {successes} of {n}.")
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    share, scale = successes / n, 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the formula gives exactly 0 and 1; rounding must not leave the unit range.
    return Interval(0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> Difference:
    """Return mean and Student t interval of differences that are paired, usually by seed.

    One pair says nothing about spread: its interval is infinite.

    Raises:
        UsageError: there is no difference at all, or one is not finite.
    """
    values = _finite(differences)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)


def share_interval(shares: Sequence[float]) -> Difference:
    """Return mean and Student t interval of shares, one a seed, cut to [0, 1]; infinite for one seed.

    >>> share_interval([0.5, 0.9]).high
    1.0
    """
    found = paired_interval(shares)
    if found.n == 1:
        return found
    return Difference(found.mean, max(0.0, found.low), min(1.0, found.high), found.n)


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, draws: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Return the mean of a - b with the percentile bootstrap interval over items.

    Args:
        a: results of one contestant, an item each (0 and 1, or any figure).
        b: results of the other on the same items in the same order.
        draws: resamples.
        confidence: coverage of the interval.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        UsageError: the two do not have the same, non-zero number of items.
    """
    if len(a) != len(b):
        raise UsageError(f"Paired results need the same items: one has {len(a)}, the other {len(b)}.")
    values = _finite(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    means = _resampled_means(values, draws, generator(seed, "bootstrap"))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(float(values.mean()), float(low), float(high), len(values))


def _resampled_means(values: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the means of `draws` resamples of `values`."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) <= FEW_LEVELS:
        # A resample is a multinomial count over the distinct values. Of many, that is slower than places.
        return rng.multinomial(len(values), counts / len(values), size=draws) @ levels / len(values)
    means = np.empty(draws)
    for part in np.array_split(means, math.ceil(draws * len(values) / AT_ONCE)):  # views
        part[:] = values[rng.integers(len(values), size=(len(part), len(values)))].mean(axis=1)
    return means


def curve_area(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the area under a curve divided by its width: the mean height, of a learning curve for one.

    >>> round(curve_area([30, 40, 60], [0.5, 0.7, 0.9]), 3)
    0.733

    Raises:
        UsageError: fewer than two points, or x that does not rise.
    """
    if len(x) != len(y) or len(x) < 2 or not (np.diff(x) > 0).all():
        raise UsageError(f"An area needs two points or more whose x rises, not x = {list(x)}.")
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, ties as half.

    Raises:
        UsageError: only one of the two classes is there.
    """
    if len(set(map(bool, labels))) < 2:
        raise UsageError("The area under the curve needs at least one positive and one negative label.")
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)))


def _finite(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise UsageError("An interval needs at least one difference, and only finite ones.")
    return array
