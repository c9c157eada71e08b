"""Metrics: which way is better, and the row that a table shows."""

from __future__ import annotations

import pytest

from selfstudy.evaluation.scores import ACCURACY, Metric
from selfstudy.evaluation.statistics import paired_interval, wilson

LOSS = Metric(name="squared error", lower_is_better=True)


def test_a_gain_is_above_zero_where_it_is_better() -> None:
    """Oracle: the mean difference by hand, with the sign of the metric."""
    assert ACCURACY.gain([1, 1, 1, 0], [0, 1, 0, 0]).mean == pytest.approx(0.5)
    assert LOSS.gain([1.0, 2.0], [3.0, 5.0]).mean == pytest.approx(2.5)
    assert LOSS.gain([3.0, 5.0], [1.0, 2.0]).mean == pytest.approx(-2.5)


def test_rows_carry_the_interval_of_their_kind() -> None:
    """Oracle: Wilson's interval of a share, Student's of any other mean."""
    assert (ACCURACY.row([True, False, True])["low"], ACCURACY.row([1, 0, 1])["high"]) == wilson(2, 3)
    row = LOSS.row([1.0, 2.0, 4.0], steps=3)
    expected = paired_interval([1.0, 2.0, 4.0])
    assert row == {
        "squared error": expected.mean, "count": 3, "low": expected.low, "high": expected.high, "steps": 3
    }  # fmt: skip
    assert LOSS.row([1.0])["low"] is None, "one figure has no interval"


def test_it_goes_through_json() -> None:
    """Oracle: equality."""
    assert Metric(**LOSS.to_json()) == LOSS and Metric(**ACCURACY.to_json()) == ACCURACY
