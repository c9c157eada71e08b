"""Intervals and differences against closed forms, scipy and their own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.statistics import (
    Difference,
    auc,
    curve_area,
    paired_bootstrap,
    paired_interval,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (180, 200), (1, 2000)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_against_scipy(successes: int, n: int, confidence: float) -> None:
    """Oracle: scipy's binomial test with method "wilson"."""
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(deadline=None)  # the first call imports scipy
@given(st.integers(1, 500), st.data())
def test_wilson_is_symmetric_and_holds_the_share(n: int, data: st.DataObject) -> None:
    """Oracle: swapping right and wrong mirrors the interval."""
    successes = data.draw(st.integers(0, n))
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_paired_interval_against_scipy() -> None:
    """Oracle: scipy's paired t test and its confidence interval."""
    a, b = np.array([0.5, 0.61, 0.43, 0.7, 0.52]), np.array([0.41, 0.5, 0.44, 0.6, 0.5])
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    found = paired_interval(a - b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.n) == (pytest.approx(np.mean(a - b)), 5)


def test_degenerate_pairs() -> None:
    """Oracle: one pair says nothing about spread; equal pairs have none."""
    assert paired_interval([0.3]) == Difference(0.3, -math.inf, math.inf, 1)
    assert paired_interval([0.3]).to_json() == {"mean": 0.3, "low": None, "high": None, "n": 1}
    assert paired_interval([0.25] * 4) == Difference(0.25, 0.25, 0.25, 4)


def test_bootstrap_against_the_central_limit() -> None:
    """Oracle: for 2,000 items the normal interval of a mean, within a twentieth of its width."""
    rng = np.random.default_rng(0)
    a, b = rng.random(2000) < 0.6, rng.random(2000) < 0.5
    values = a.astype(float) - b
    half = 1.96 * values.std() / math.sqrt(2000)
    found = paired_bootstrap(a.tolist(), b.tolist())
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=half / 10
    )
    assert found == paired_bootstrap(a.tolist(), b.tolist())


def test_many_distinct_figures_are_resampled_as_few() -> None:
    """Oracle: counts of the five distinct figures. All become distinct by a millionth, and the ends move by
    chance alone, whose standard error is a hundred-and-fortieth of the width."""
    rng = np.random.default_rng(0)
    figures, zeros = rng.integers(0, 5, 500).astype(float), [0.0] * 500
    few, many = (paired_bootstrap(a, zeros) for a in (figures, figures + 1e-6 * rng.random(500)))
    assert (many.low, many.high) == pytest.approx((few.low, few.high), abs=(few.high - few.low) / 20)


def test_bootstrap_is_paired() -> None:
    """Oracle: two contestants that agree on every item differ by exactly nothing."""
    same = [True, False, True, True]
    assert paired_bootstrap(same, same) == Difference(0.0, 0.0, 0.0, 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auc_against_counting_pairs(rows: list[tuple[int, bool]]) -> None:
    """Oracle: the share of positive-negative pairs in the right order, ties as half."""
    positive = [score for score, label in rows if label]
    negative = [score for score, label in rows if not label]
    scores, labels = zip(*rows, strict=True)
    if not positive or not negative:
        with pytest.raises(UsageError, match="at least one positive"):
            auc(scores, labels)
        return
    wins = sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
    assert auc(scores, labels) == pytest.approx(wins / (len(positive) * len(negative)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: paired_interval([]),
        lambda: paired_interval([0.1, math.nan]),
        lambda: paired_bootstrap([1], [1, 0]),
    ],
)
def test_bad_input_is_named(call) -> None:
    """Oracle: the documented errors."""
    with pytest.raises(UsageError):
        call()


@given(st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=2, max_size=9))
def test_the_area_of_a_curve(points: list[tuple[int, float]]) -> None:
    """Oracle: scipy's trapezoids; a level curve has its own height, and fewer points have no area."""
    x, y = np.cumsum([step for step, _ in points]).tolist(), [height for _, height in points]
    assert curve_area(x, y) == pytest.approx(integrate.trapezoid(y, x) / (x[-1] - x[0]))
    assert curve_area(x, [0.25] * len(x)) == pytest.approx(0.25)
    for wrong in ((x[:1], y[:1]), (x[::-1], y), (x, y[:-1])):
        with pytest.raises(UsageError, match="x rises"):
            curve_area(*wrong)
