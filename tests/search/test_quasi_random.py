"""Halton points: named, spread, and with the marginals that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from selfstudy.core.errors import UsageError
from selfstudy.search.quasi_random import Choice, LogUniform, Space, Uniform, halton_points

SPACE: Space = {"rate": LogUniform(1e-4, 1e-1), "share": Uniform(-1, 3), "kind": Choice(("a", "b", "c"))}


def test_points_are_a_function_of_the_key() -> None:
    """Oracle: the same call again; and the first points of a longer sequence."""
    first = halton_points(SPACE, 20, 3, "trials")
    assert first == halton_points(SPACE, 20, 3, "trials")
    assert first == halton_points(SPACE, 30, 3, "trials")[:20]
    assert first != halton_points(SPACE, 20, 4, "trials")


def test_two_spaces_share_the_cube() -> None:
    """Oracle: shares of the way, which do not depend on the ends."""
    other: Space = {"rate": LogUniform(1e-2, 1e3), "gap": Uniform(0, 1), "kind": Choice((1, 2, 3))}
    for one, two in zip(halton_points(SPACE, 8, 0), halton_points(other, 8, 0), strict=True):
        shares = (
            np.log(float(one["rate"]) / 1e-4) / np.log(1e3),
            np.log(float(two["rate"]) / 1e-2) / np.log(1e5),
        )
        assert shares[0] == pytest.approx(shares[1])
        assert (float(one["share"]) + 1) / 4 == pytest.approx(two["gap"])
        assert "abc".index(str(one["kind"])) + 1 == two["kind"]


def test_marginals() -> None:
    """Oracle: Kolmogorov and Smirnov's test against the log-uniform law, and equal counts of a choice."""
    points = halton_points(SPACE, 600, 1)
    rates = [point["rate"] for point in points]
    assert stats.kstest(rates, stats.loguniform(1e-4, 1e-1).cdf).pvalue > 0.2
    assert stats.kstest([point["share"] for point in points], stats.uniform(-1, 4).cdf).pvalue > 0.2
    counts = np.unique([point["kind"] for point in points], return_counts=True)[1]
    assert counts.min() >= 195


def test_points_are_more_even_than_random_ones() -> None:
    """Oracle: the discrepancy that scipy measures, of points drawn uniformly."""
    space: Space = {"a": Uniform(0, 1), "b": Uniform(0, 1)}
    cube = np.array([list(point.values()) for point in halton_points(space, 64, 0)], dtype=float)
    drawn = np.random.default_rng(0).random((64, 2))
    assert stats.qmc.discrepancy(cube) < 0.5 * stats.qmc.discrepancy(drawn)


def test_an_empty_space_has_empty_points() -> None:
    """Oracle: nothing to set."""
    assert halton_points({}, 2) == [{}, {}]


def test_bad_spaces() -> None:
    """Oracle: the error's kind."""
    for wrong in (lambda: Uniform(1, 1), lambda: LogUniform(0, 1), lambda: Choice(())):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UsageError, match="at least one point"):
        halton_points(SPACE, 0)
