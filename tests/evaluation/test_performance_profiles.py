"""Performance profiles against hand-made tables, an integral taken by numbers, and laws of ratios."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.performance_profiles import (
    Profiles,
    Times,
    bootstrap_scores,
    cut_ratios,
    median_time,
    performance_profiles,
    profile_integrals,
    speedups,
)

INF = math.inf
TABLES = arrays(np.float64, (3, 4), elements=st.floats(0.1, 100) | st.just(INF)).filter(
    lambda table: bool(np.isfinite(table).any(0).all())
)


def named(table: np.ndarray) -> Times:
    return {f"s{i}": {f"w{j}": float(time) for j, time in enumerate(row)} for i, row in enumerate(table)}


def test_two_by_two() -> None:
    """Oracle: worked by hand, (1 + (4 - 2) / 3) / 2 for both."""
    found = performance_profiles({"a": {"x": 1, "y": 2}, "b": {"x": 2, "y": 1}})
    assert found.ratios.tolist() == [[1, 2], [2, 1]]
    assert found.scores == pytest.approx({"a": 5 / 6, "b": 5 / 6})


def test_ends_and_points_of_the_score() -> None:
    """Oracle: worked by hand: fastest 1, never 0, four times 0, two and a half times one half."""
    times = {"first": 1.0, "never": INF, "four": 4.0, "half": 2.5, "five": 5.0}
    found = performance_profiles({name: {"x": time} for name, time in times.items()}).scores
    assert found == {"first": 1.0, "never": 0.0, "four": 0.0, "half": pytest.approx(0.5), "five": 0.0}


def test_a_ratio_of_four_is_within_four() -> None:
    """Oracle: the profile is right-continuous and the cut is above r_max, so that rho(4) counts it."""
    found = performance_profiles({"a": {"x": 1.0}, "b": {"x": 4.0}, "c": {"x": 4.0001}})
    assert found.share([3.9999, 4.0])[1:].tolist() == [[0, 1], [0, 0]]


@settings(deadline=None)
@given(TABLES)
def test_closed_form_is_the_integral(table: np.ndarray) -> None:
    """Oracle: the mean of rho over 1e5 points, and that rho is a non-decreasing step function."""
    found = performance_profiles(named(table))
    factors = np.linspace(1, 4, 100_001)
    shares = found.share(factors)
    assert np.trapezoid(shares, factors, axis=1) / 3 == pytest.approx(list(found.scores.values()), abs=1e-4)
    assert (np.diff(shares, axis=1) >= 0).all()
    steps = np.unique(found.ratios[np.isfinite(found.ratios)])
    # Continuous from the right: from a step until just before the next one it stays as it is.
    assert (found.share(steps)[:, :-1] == found.share(np.nextafter(steps[1:], 0))).all()


@settings(deadline=None)
@given(TABLES, st.floats(0.01, 100), st.integers(0, 3))
def test_scale_of_a_workload_does_not_matter(table: np.ndarray, factor: float, workload: int) -> None:
    """Oracle: ratios are free of units; scores may move where rounding crosses the cut, of height 0."""
    scaled = table.copy()
    scaled[:, workload] *= factor
    first, second = (performance_profiles(named(times)).scores for times in (table, scaled))
    assert second == pytest.approx(first, abs=1e-9)


def test_medians_with_infinities() -> None:
    """Oracle: the middle of the sorted list; between finite and infinite is infinite."""
    assert median_time([1, INF, INF]) == INF
    assert median_time([1, 2, INF]) == 2
    assert median_time([INF, 1, 3, 2]) == 2.5
    assert median_time([1, INF]) == INF


def test_variant_miss_sets_the_base_to_infinity() -> None:
    """Oracle: the rule, by hand: a miss and a time above four times the fastest; not a slower one."""
    times = {
        "kept": {"x": 2.0, "y": 1.0, "x, tanh": 3.9},
        "missed": {"x": 1.0, "y": 1.0, "x, tanh": INF},
        "slow": {"x": 1.0, "y": 1.0, "x, tanh": 4.1},
        "fast": {"x": 4.0, "y": 1.0, "x, tanh": 1.0},
    }
    found = performance_profiles(times, variants={"x": ["x, tanh"]})
    assert found.workloads == ("x", "y")
    # The cut is before the rule (4 is within 4 times 1); the fastest is looked for after it.
    assert found.ratios[:, 0].tolist() == [1.0, INF, INF, 2.0]
    assert found.ratios[:, 1].tolist() == [1.0] * 4
    assert performance_profiles(times).workloads == ("x", "y", "x, tanh")


def test_what_nobody_reaches_is_dropped() -> None:
    """Oracle: the scores of the table without that workload."""
    with pytest.warns(UserWarning, match="1 of 2 workloads count"):
        found = performance_profiles({"a": {"x": 1, "y": INF}, "b": {"x": 2, "y": INF}})
    assert found.dropped == ("y",)
    assert found.scores == performance_profiles({"a": {"x": 1}, "b": {"x": 2}}).scores
    with pytest.warns(UserWarning, match="0 of 1"):
        assert performance_profiles({"a": {"x": INF}}).scores == {}


def test_unreached_targets_are_in_no_mean() -> None:
    """Oracle: the geometric mean of 2 and 8 over the two workloads that both reach."""
    times = {"a": {"x": 1, "y": 1, "z": INF, "v": 3}, "b": {"x": 2, "y": 8, "z": 1, "v": INF}}
    assert speedups(times, "b")["a"] == (pytest.approx(4.0), 2, 1, 1)
    assert speedups({"a": {"x": INF}, "b": {"x": 1}}, "b")["a"] == (None, 0, 0, 1)


def test_bootstrap_of_studies() -> None:
    """Oracle: studies that are all alike give the score itself; a few draws counted one by one."""
    alike = {"a": {"x": [1.0] * 3, "y": [2.0] * 3}, "b": {"x": [2.0] * 3, "y": [1.0] * 3}}
    low, high = bootstrap_scores(alike)["a"]
    assert low == high == pytest.approx(5 / 6)
    apart = {"a": {"x": [1.0, 1.0, INF]}, "b": {"x": [1.0, 1.0, 1.0]}}
    # A median of three draws is infinite with probability 7/27: above 2.5 %, so the interval ends at 0.
    assert bootstrap_scores(apart)["a"] == (0.0, 1.0)
    assert bootstrap_scores(apart)["b"] == (1.0, 1.0)
    with pytest.raises(DataError, match="two studies"):
        bootstrap_scores({"a": {"x": [1.0]}})


def test_ratios_keep_leading_axes() -> None:
    """Oracle: each table by itself."""
    tables = np.array([[[1.0, 2], [2, 1]], [[1, INF], [9, INF]]])
    together = cut_ratios(tables)
    assert (together == np.stack([cut_ratios(table) for table in tables])).all()
    assert together[1].tolist() == [[1, INF], [INF, INF]]
    assert profile_integrals(together).shape == (2, 2)
    assert isinstance(performance_profiles(named(tables[0])), Profiles)


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan])
def test_times_that_are_none(time: float) -> None:
    """Oracle: the error's kind."""
    with pytest.raises(DataError, match="above 0"):
        performance_profiles({"a": {"x": time}})


def test_tables_that_do_not_fit() -> None:
    """Oracle: the error's kind and what it names."""
    with pytest.raises(DataError, match="y"):
        performance_profiles({"a": {"x": 1, "y": 1}, "b": {"x": 1}})
    with pytest.raises(DataError, match="contestant"):
        performance_profiles({})
    with pytest.raises(DataError, match="'z'"):
        performance_profiles({"a": {"x": 1}}, variants={"x": ["z"]})
    with pytest.raises(DataError, match="'c'"):
        speedups({"a": {"x": 1}}, "c")
    with pytest.raises(UsageError, match="r_max"):
        performance_profiles({"a": {"x": 1}}, r_max=1.0)
