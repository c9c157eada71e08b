"""Power trends: exact recovery, anchors, laws, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.core.random import generator
from selfstudy.evaluation.power_trends import Trend, fit_power, fit_trend, fit_trends, projected

STEP = 5000.0
X = STEP * np.arange(1, 42)
EXACT = 97 - 50 * X**-0.3


@pytest.mark.parametrize("count", [3, 40])
def test_exact_data_are_recovered(count: int) -> None:
    """Oracle: the curve 97 - 50 x^(-0.3) that the observations are from; inverse of predict."""
    trend = fit_power(X[:count], EXACT[:count])
    assert (trend.a, trend.b, trend.c) == pytest.approx((50, 0.3, 97), abs=1e-6)
    assert trend.predict(X[-1]) == pytest.approx(EXACT[-1], abs=1e-9)
    for x in (1.0, 777.0, 8e5):
        assert trend.inverse(trend.predict(x)) == pytest.approx(x, rel=1e-9)
    assert trend.predict(math.inf) == trend.c


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 3), st.floats(10, 60), st.floats(60, 100), st.floats(1e-4, 1e6))
def test_scale_of_x(b: float, drop: float, c: float, scale: float) -> None:
    """Oracle: the law a -> a k^b of the power, with b, c and predictions unchanged."""
    y = c - drop * np.arange(1, 13) ** -b + 0.3 * np.sin(np.arange(12))
    x = STEP * np.arange(1, 13)
    one, other = fit_power(x, y), fit_power(scale * x, y)
    if one.state == "rising" and 0.02 < one.b < 4.5:
        assert (other.b, other.c) == pytest.approx((one.b, one.c), rel=1e-6)
        assert other.a == pytest.approx(one.a * scale**one.b, rel=1e-5)
        assert other.predict(scale * 3 * x) == pytest.approx(one.predict(3 * x), rel=1e-7)


def test_other_patterns() -> None:
    """Oracle: an exponential curve in closed form, in units of x itself."""
    x = np.arange(1, 9) * 100.0
    trend = fit_trend(x, 90 - 40 * np.exp(-0.004 * x), pattern="exponential")
    assert (trend.a, trend.b, trend.c) == pytest.approx((40, 0.004, 90), rel=1e-6)
    assert trend.inverse(trend.predict(1234.0)) == pytest.approx(1234)


def test_the_least_squares_of_a_and_c() -> None:
    """Oracle: numpy's least squares on the design matrix [-z, 1], with the row [0, 1] of the anchor."""
    u, y = np.log(X[:9] / X[0]), EXACT[:9] + np.sin(np.arange(9))
    for anchor in (None, 99.0):
        rows = np.stack([-np.exp(-0.7 * u), np.ones(9)], 1)
        design = rows if anchor is None else np.vstack([rows, [0, 1]])
        target = y if anchor is None else np.append(y, anchor)
        (a, c), (squared,), *_ = np.linalg.lstsq(design, target)
        found = projected(u, y, np.array(0.7), None if anchor is None else np.array(anchor))
        assert (found.a, found.c, found.squared) == pytest.approx((a, c, squared))


def test_the_slope_of_the_profile() -> None:
    """Oracle: central differences of the squared residual as a function of b alone."""
    u, y = np.log(X[:12] / X[0]), EXACT[:12] + np.cos(np.arange(12))
    for anchor in (None, np.array(98.0)):
        for b in (0.05, 0.4, 2.0):
            up, down = (projected(u, y, np.array(b + e), anchor).squared for e in (1e-6, -1e-6))
            assert projected(u, y, np.array(b), anchor).slope == pytest.approx((up - down) / 2e-6, rel=1e-5)


def test_the_exponent_is_the_best() -> None:
    """Oracle: a fine grid of exponents, with and without an anchor, many curves at once."""
    ys = EXACT[:10] + generator("best").normal(0, 0.3, (20, 10))
    anchors = generator("anchors").normal(96, 1, 20)
    grid, u = np.geomspace(0.01, 5, 2_000), np.log(X[:10] / X[0])
    for given_anchors in (None, anchors):
        for place, trend in enumerate(fit_trends(X[:10], ys, given_anchors)):
            anchor = None if given_anchors is None else given_anchors[place]
            over = projected(u, ys[place], grid, None if anchor is None else np.array(anchor))
            mine = projected(u, ys[place], np.array(trend.b), None if anchor is None else np.array(anchor))
            assert mine.squared <= over.squared.min() * (1 + 1e-9)
            alone = fit_power(X[:10], ys[place], anchor)
            assert alone == trend


def test_the_anchor_is_at_infinity() -> None:
    """Oracle: the limit of fits with one more observation at 1e6, 1e9, 1e12 times the first place."""
    x, y = X[:8], EXACT[:8] + 0.2 * np.sin(np.arange(8))
    wanted = fit_power(x, y, anchor=96.0)
    assert wanted.b >= 0.2
    far = [fit_power([*x, x[0] * times], [*y, 96.0]) for times in (1e6, 1e9, 1e12)]
    distances = [abs(trend.c - wanted.c) for trend in far]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.02
    assert fit_power(x, y, anchor=95.5).c < wanted.c < fit_power(x, y, anchor=99.0).c


def test_noise() -> None:
    """Oracle: 200 simulations with noise of 0.1 points: the asymptote's error shrinks with the level, and
    anchored asymptotes vary less over the levels than others."""
    ys = 97 - 50 * X[:25] ** -0.3 + generator("noise").normal(0, 0.1, (200, 25))
    plain: list[np.ndarray] = []
    anchored: list[np.ndarray] = []
    anchors = None
    for level in range(8, 26):
        x, y = X[:level], ys[:, :level]
        plain.append(np.array([trend.c for trend in fit_trends(x, y)]))
        anchored.append(np.array([trend.c for trend in fit_trends(x, y, anchors)]))
        anchors = np.where(np.isfinite(anchored[-1]), anchored[-1], 97)
    errors = [np.median(np.abs(asymptotes - 97)) for asymptotes in (plain[0], plain[8], plain[-1])]
    assert errors[0] > errors[1] > errors[2]
    spread = [np.median(np.stack(found)[1:].std(0)) for found in (anchored, plain)]
    assert spread[0] < 0.7 * spread[1]


def test_invalid_trends_say_so() -> None:
    """Oracle: the state of the trend."""
    with pytest.raises(DataError):
        Trend(math.nan, 1.0, math.nan, state="invalid").inverse(3)


def test_bad_observations() -> None:
    """Oracle: each is refused by name; what is no number is left out with a warning."""
    with pytest.raises(DataError, match="not enough observations: 2"):
        fit_power([1, 2], [3, 4])
    with pytest.raises(DataError, match="must rise"):
        fit_power([1, 2, 2], [3, 4, 5])
    with pytest.raises(DataError, match="are pairs"):
        fit_power([1, 2, 3], [3, 4])
    with pytest.warns(UserWarning, match="1 observations are no numbers"):
        assert fit_power(X[:4], [*EXACT[:3], math.nan]) == fit_power(X[:3], EXACT[:3])
