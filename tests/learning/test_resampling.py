"""Systematic resampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.learning.resampling import systematic_counts

WEIGHTS = st.lists(st.floats(0, 10), min_size=1, max_size=20).map(np.array)
UNIFORM = st.floats(0, 1, exclude_max=True)


@given(WEIGHTS, st.integers(1, 40), UNIFORM)
def test_each_count_is_its_expectation_rounded_down_or_up(weights, draws, uniform) -> None:
    """Oracle: floor and ceiling of L w / W; L draws in all; nothing of weight 0."""
    counts = systematic_counts(weights, draws, uniform)
    if not weights.sum():
        assert not counts.any()
        return
    expected = draws * (weights / weights.sum())
    assert counts.sum() == draws
    assert (np.abs(counts - expected) < 1 + 1e-6).all()  # floor or ceiling, but for rounding
    assert not counts[weights == 0].any()


@given(st.integers(1, 300), UNIFORM)
def test_as_many_draws_as_equal_weights(count, uniform) -> None:
    """Oracle: each is drawn once, wherever the points begin; sums of 1/M are not whole numbers."""
    assert (systematic_counts(np.full(count, 1 / count), count, uniform) == 1).all()


def test_expected_counts() -> None:
    """Oracle: the mean over an even grid of u is L w / W, to the grid's own error of 1/1000."""
    weights = np.array([0.05, 1.3, 0.0, 0.4, 2.25])
    grid = (np.arange(1000) + 0.5) / 1000
    mean = np.mean([systematic_counts(weights, 7, u) for u in grid], axis=0)
    assert mean == pytest.approx(7 * weights / weights.sum(), abs=2e-3)


def test_against_the_points_themselves() -> None:
    """Oracle: a plain second implementation: the points (u + k) / L looked up in the cumulative weights."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights, u, draws = rng.random(9), rng.random(), int(rng.integers(1, 30))
        found = np.searchsorted(np.cumsum(weights / weights.sum()), (u + np.arange(draws)) / draws)
        assert (systematic_counts(weights, draws, u) == np.bincount(found, minlength=9)).all()
