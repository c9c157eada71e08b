"""Tests of paired differences over seeds: how probable they are by chance, how large, and corrected for many.

Student's t test of a mean of 0 (Student 1908), Hedges' effect size (Hedges 1981), and Holm's correction (Holm
1979), which keeps the chance of any false finding among all pairs of methods below the level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError

ROUNDING = 1e-12  # spread below this share of the largest difference is that of rounding


@dataclass(frozen=True, slots=True)
class PairedTest:
    """What a paired t test says; None is what cannot be told.

    Nothing is told of a single pair, nor where all differences are the same, since the test holds their mean
    against their spread: figures that are counts of a few items are often the same by chance.

    Attributes:
        t: the mean over its standard error.
        p: two-sided: how often chance alone gives a |t| as large.
        effect: Hedges' g of the differences: their mean in standard deviations, corrected for few pairs. 0.2
            is called small, 0.8 large. Of two pairs it is not told: the correction takes three.
    """

    t: float | None = None
    p: float | None = None
    effect: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


def paired_test(differences: Sequence[float]) -> PairedTest:
    """Return the t test of the hypothesis that the differences have a mean of 0.

    >>> found = paired_test([1.0, 2.0, 4.0])
    >>> round(found.t, 3), round(found.p, 3), round(found.effect, 3)
    (2.646, 0.118, 0.862)

    Args:
        differences: n of them, usually one a seed.

    Raises:
        UsageError: none, or one that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if not values.size or not np.isfinite(values).all():
        raise UsageError("A paired test needs at least one difference, and only finite ones.")
    n, mean = len(values), float(values.mean())
    spread = float(values.std(ddof=1)) if n > 1 else 0.0
    if spread <= ROUNDING * float(np.abs(values).max()):
        return PairedTest()
    from scipy.stats import t as student

    t = mean / (spread / math.sqrt(n))
    effect = mean / spread * _few(n - 1) if n > 2 else None
    return PairedTest(t, float(2 * student.sf(abs(t), n - 1)), effect)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p values of a family of tests, corrected by Holm's step-down rule.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none gets below one before it, none
    above 1. What is not known stays so, and does not count among the m.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        corrected[place] = least
    return corrected


def _few(degrees: int) -> float:
    """Return Hedges' correction for v > 1 degrees: sqrt(2 / v) gamma(v / 2) / gamma((v - 1) / 2)."""
    return math.sqrt(2 / degrees) * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2))
