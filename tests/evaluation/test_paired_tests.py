"""Paired tests, effect sizes and Holm's correction against scipy and statsmodels on the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.paired_tests import holm, paired_test
from selfstudy.evaluation.statistics import paired_bootstrap, paired_interval, wilson

NUMBERS = st.floats(-100, 100).map(lambda value: round(value, 3))
PROBABILITIES = st.floats(0, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(NUMBERS, min_size=2, max_size=12).filter(lambda values: np.ptp(values) > 1e-3))
def test_the_t_test_is_that_of_scipy_and_statsmodels(differences: list[float]) -> None:
    """Oracle: scipy's one-sample test, and the statistic, p value and interval of statsmodels."""
    found = paired_test(differences)
    scipys = scipy.stats.ttest_1samp(differences, 0.0)
    assert (found.t, found.p) == pytest.approx((scipys.statistic, scipys.pvalue), rel=1e-9, abs=1e-12)
    described = DescrStatsW(differences)
    assert (found.t, found.p) == pytest.approx(described.ttest_mean(0.0)[:2], rel=1e-9, abs=1e-12)
    interval = paired_interval(differences)
    assert (interval.low, interval.high) == pytest.approx(described.tconfint_mean(), rel=1e-9, abs=1e-9)


def test_a_test_of_two_contestants_is_that_of_their_differences() -> None:
    """Oracle: scipy's test of two paired samples."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 9), rng.normal(0, 1, 9)
    scipys = scipy.stats.ttest_rel(a, b)
    found = paired_test(a - b)
    assert (found.t, found.p) == pytest.approx((scipys.statistic, scipys.pvalue), rel=1e-12)


def test_the_effect_is_unbiased() -> None:
    """Oracle: the true effect 0.8; the mean over 40,000 draws of 5 differences, whose standard error is
    0.004, is within 0.016 of it, and the plain ratio is not: it is 1.25 times as large."""
    draws = np.random.default_rng(1).normal(0.8, 1, (40_000, 5))
    ratios = draws.mean(1) / draws.std(1, ddof=1)
    correction = paired_test(draws[0]).effect / ratios[0]
    assert abs(correction * ratios.mean() - 0.8) < 0.016 < ratios.mean() - 0.8


def test_few_or_equal_differences() -> None:
    """Oracle: by definition nothing is told of one pair, nor of equal ones, which have no spread, also where
    they are equal but for rounding; of two pairs there is a t of 1 over 1/2 and no effect."""
    for alike in ([0.3], [0.0, 0.0, 0.0], [-0.5, -0.5, -0.5], [0.9 - 0.8, 0.8 - 0.7]):
        assert paired_test(alike).to_json() == {"t": None, "p": None, "effect": None}
    two = paired_test([0.5, 1.5])
    assert two.t == pytest.approx(2.0) and two.p == pytest.approx(0.2952, abs=1e-4) and two.effect is None
    with pytest.raises(UsageError, match="finite"):
        paired_test([1.0, math.nan])


@settings(max_examples=30, deadline=None)
@given(st.lists(PROBABILITIES, min_size=1, max_size=10))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    """Oracle: statsmodels' multipletests."""
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_holm_leaves_out_what_is_not_known() -> None:
    """Oracle: the correction of the known ones alone."""
    assert holm([0.02, None, 0.03]) == [0.04, None, 0.04]
    assert holm([]) == [] and holm([None]) == [None]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    """Oracle: statsmodels' interval of a proportion."""
    assert wilson(*counts) == pytest.approx(proportion_confint(*counts, method="wilson"), abs=1e-12)


def test_the_bootstrap_is_that_of_scipy() -> None:
    """Oracle: scipy's percentile interval of the mean of 60 differences. Both draw 20,000 resamples: an end
    has a standard error below 0.004, and they must agree within 0.02."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.2, 1, 60), rng.normal(0, 1, 60)
    ours = paired_bootstrap(a, b, draws=20_000)
    scipys = scipy.stats.bootstrap(
        (a - b,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.02)
