"""Power trends: the pattern c - a x^(-b) of a learner's accuracy over its amount of data, by least squares.

Vilares Ferro, Darriba Bilbao, Ribadas Pena 2017, arXiv 2402.02515. `learning_traces` beside this file says
when the asymptote of a growing curve may be believed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError

PatternName = Literal["power", "exponential"]
Numbers = Sequence[float] | np.ndarray
LEAST = 3  # observations that three parameters need
COARSE = 60  # exponents that are tried before the best is refined
HALVINGS = 46  # of the interval between its neighbours


class Pattern(NamedTuple):
    """A family c - a exp(-b u(x)): positive, rising, concave and bounded for a, b > 0."""

    low: float
    high: float
    """Least and largest b, for x in units of the first observation's."""


PATTERNS: dict[str, Pattern] = {
    "power": Pattern(0.01, 5.0),  # u = log x
    "exponential": Pattern(0.001, 5.0),  # u = x
}


@dataclass(frozen=True, slots=True)
class Trend:
    """A fitted curve, c - a x^(-b), or c - a exp(-b x) where the pattern is exponential.

    Attributes:
        a: how far below its asymptote it starts, at x = 1 (at 0 where exponential).
        b: how fast it rises.
        c: its asymptote.
        pattern: its family.
        state: "rising"; "constant" where all observations are equal, with a = 0; "invalid" where the best
            fit falls, with a and c that are not numbers.
    """

    a: float
    b: float
    c: float
    pattern: PatternName = "power"
    state: Literal["rising", "constant", "invalid"] = "rising"

    def predict(self, x: Any) -> Any:
        """Return the curve at x, a number or an array; at infinity it is c.

        >>> Trend(50.0, 0.5, 97.0).predict(10_000)
        96.5

        Raises:
            DataError: the trend is invalid.
        """
        self._require_valid()
        u = np.log(x) if self.pattern == "power" else np.asarray(x, dtype=float)
        found = self.c - self.a * np.exp(-self.b * u)
        return float(found) if np.ndim(found) == 0 else found

    def inverse(self, y: float) -> float:
        """Return the x at which the curve reaches y.

        >>> round(Trend(50.0, 0.5, 97.0).inverse(96.5))
        10000

        Raises:
            DataError: the curve never reaches y, or the trend is invalid.
        """
        self._require_valid()
        if y >= self.c:
            raise DataError(
                f"{y:g} is not reachable under the model: the curve stays below its asymptote {self.c:g}, "
                "however much data it gets. Ask for less."
            )
        if self.state == "constant":
            return 0.0
        if self.pattern == "power":
            return float((self.a / (self.c - y)) ** (1 / self.b))
        return max(0.0, math.log(self.a / (self.c - y)) / self.b)

    def _require_valid(self) -> None:
        if self.state == "invalid":
            raise DataError(
                "The observations do not rise, so that no curve c - a x^(-b) with a > 0 fits them best. Wait "
                "for more of them."
            )


def fit_power(xs: Numbers, ys: Numbers, anchor: float | None = None) -> Trend:
    """Return the power trend of least squares through observations, and near `anchor` at infinity.

    >>> x = [1000.0, 2000.0, 3000.0, 4000.0]
    >>> trend = fit_power(x, [97 - 50 * at**-0.3 for at in x])
    >>> round(trend.a, 4), round(trend.b, 4), round(trend.c, 4)
    (50.0, 0.3, 97.0)

    Args:
        xs: amounts of data, rising, above 0.
        ys: accuracies; those that are not numbers are left out with a warning.
        anchor: a value expected at infinity, one more observation there: the residual c - anchor.

    Raises:
        DataError: fewer than three observations, or amounts that do not rise.
    """
    return fit_trend(xs, ys, anchor)


def fit_trend(xs: Numbers, ys: Numbers, anchor: float | None = None, pattern: PatternName = "power") -> Trend:
    """Return what `fit_power` does, for a pattern of another family too."""
    x, y = _observations(xs, ys)
    return fit_trends(x, y[None], None if anchor is None else np.array([anchor]), pattern)[0]


def fit_trends(
    xs: np.ndarray, ys: np.ndarray, anchors: np.ndarray | None = None, pattern: PatternName = "power"
) -> list[Trend]:
    """Return the trends of many curves observed at the same places.

    Given b the pattern is linear in a and c, so that the squared residual is a function of b alone
    (variable projection). The best of 60 exponents, equally far apart on a logarithmic scale, is refined by
    halving the interval between its neighbours by the sign of the derivative.

    Args:
        xs: [n], rising, above 0.
        ys: [curves, n], finite.
        anchors: [curves], or None.
        pattern: the family.
    """
    low, high = PATTERNS[pattern]
    unit = float(xs[0])
    u = np.log(xs / unit) if pattern == "power" else xs / unit - 1  # [n]
    grid = np.geomspace(low, high, COARSE)
    best = projected(u, ys[:, None], grid, None if anchors is None else anchors[:, None]).squared.argmin(1)
    below, above = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, COARSE - 1)]
    for _ in range(HALVINGS):
        middle = np.sqrt(below * above)
        falls = projected(u, ys, middle, anchors).slope < 0
        below, above = np.where(falls, middle, below), np.where(falls, above, middle)
    b = np.sqrt(below * above)
    found = projected(u, ys, b, anchors)
    curves = zip(ys, found.a, b, found.c, strict=True)
    return [_trend(pattern, unit, y, float(a), float(b), float(c)) for y, a, b, c in curves]


class Projected(NamedTuple):
    """The best a and c for a given b."""

    a: np.ndarray
    c: np.ndarray
    squared: np.ndarray
    """The sum of squared residuals."""
    slope: np.ndarray
    """Its derivative by b."""


def projected(u: np.ndarray, ys: np.ndarray, b: np.ndarray, anchors: np.ndarray | None = None) -> Projected:
    """Return the least squares of c - a exp(-b u) by a and c, with an observation at infinity or without.

    Args:
        u: [n], 0 or more.
        ys: [..., n].
        b: [...], as `anchors`; all broadcast.
        anchors: [...]; the pattern is c there, whatever b is.
    """
    z = np.exp(-b[..., None] * u)  # [..., n]
    y = ys
    if anchors is not None:
        shape = np.broadcast_shapes(z.shape[:-1], ys.shape[:-1], anchors.shape)
        z = np.concatenate([np.broadcast_to(z, (*shape, len(u))), np.zeros((*shape, 1))], -1)
        last = np.broadcast_to(anchors, shape)[..., None]
        y = np.concatenate([np.broadcast_to(ys, (*shape, len(u))), last], -1)
    from_mean = z - z.mean(-1, keepdims=True)
    # Centred, the normal equations are two divisions, and stay exact where z hardly changes.
    a = -(from_mean * (y - y.mean(-1, keepdims=True))).sum(-1) / (from_mean**2).sum(-1)
    c = y.mean(-1) + a * z.mean(-1)
    residual = c[..., None] - a[..., None] * z - y
    moved = a[..., None] * u * z[..., : len(u)]  # the pattern's derivative by b
    slope = 2 * (residual[..., : len(u)] * moved).sum(-1)
    return Projected(a, c, (residual**2).sum(-1), slope)


def _observations(xs: Numbers, ys: Numbers) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(xs, dtype=float), np.asarray(ys, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(
            f"Observations are pairs: there are {x.size} amounts of data and {y.size} accuracies."
        )
    kept = np.isfinite(y)
    if not kept.all():
        warnings.warn(f"{(~kept).sum()} observations are no numbers and are left out.", stacklevel=4)
    x, y = x[kept], y[kept]
    if len(x) < LEAST:
        raise DataError(f"There are not enough observations: {len(x)}, where a trend needs {LEAST} or more.")
    if not (np.isfinite(x).all() and x[0] > 0 and (np.diff(x) > 0).all()):
        raise DataError(
            "Amounts of data must rise, from above 0. Sort the observations, one for each amount."
        )
    return x, y


def _trend(pattern: PatternName, unit: float, y: np.ndarray, a: float, b: float, c: float) -> Trend:
    """Return the trend in units of x itself."""
    if np.ptp(y) <= 1e-12 * abs(y).max():
        return Trend(0.0, b, float(y.mean()), pattern, "constant")
    if not a > 0:
        return Trend(math.nan, b, math.nan, pattern, "invalid")
    if pattern == "power":
        return Trend(a * unit**b, b, c, pattern)
    return Trend(a * math.exp(b), b / unit, c, pattern)
