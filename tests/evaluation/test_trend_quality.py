"""How right predictions were: by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.evaluation.power_trends import Trend
from selfstudy.evaluation.trend_quality import percentage_error, ranking_reliability

X = np.array([1e4, 4e4, 1e6])
SLOW, FAST = Trend(50.0, 0.5, 97.0), Trend(1.0, 2.0, 96.6)


def test_percentage_error() -> None:
    """Oracle: 0 on the curve itself; a mean of two ratios by hand; nothing later is refused."""
    assert percentage_error(SLOW, X, 97 - 50 * X**-0.5) == 0
    assert percentage_error(SLOW, X[:2], [100.0, 96.0]) == pytest.approx(100 * (3.5 / 100 + 0.75 / 96) / 2)
    for wrong in ([], [96.0, 0.0]):
        with pytest.raises(DataError, match="later observations"):
            percentage_error(SLOW, X[: len(wrong)], wrong)
    with pytest.raises(DataError, match="do not rise"):
        percentage_error(Trend(math.nan, 1.0, math.nan, state="invalid"), X, X)


def test_ranking_reliability() -> None:
    """Oracle: pairs of three systems, counted by hand: told are 96.5, 96.75, 96.95 against 96.6, so that
    the order turns after the first level; ties are left out."""
    trends = {"slow": SLOW, "fast": FAST, "low": Trend(1.0, 1.0, 50.0)}
    curves = {"slow": [90.0, 96.0, 97.0], "fast": [91.0, 97.0, 97.0], "low": [40.0, 41.0, 98.0]}
    # slow-fast: right, wrong, tie; slow-low: right, right, wrong; fast-low: right, right, wrong
    assert ranking_reliability(trends, X, curves) == pytest.approx(5 / 8)
    with pytest.raises(DataError, match="two systems"):
        ranking_reliability({"slow": SLOW}, X, curves)
