"""How right predictions of learning curves were, on observations that came after them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.evaluation.power_trends import Numbers, Trend


def percentage_error(trend: Trend, xs: Numbers, ys: Numbers) -> float:
    """Return the mean of |y - trend(x)| / |y| over control levels, in percent (MAPE).

    >>> percentage_error(Trend(50.0, 0.5, 97.0), [100, 10_000], [90, 96.5])
    1.1111111111111112

    Args:
        trend: fitted to earlier observations alone.
        xs: [n], amounts of data that the trend has not seen.
        ys: [n], accuracies there, none of them 0.

    Raises:
        DataError: there is none, or the trend is invalid.
    """
    y = np.asarray(ys, dtype=float)
    if not len(y) or not y.all():
        raise DataError("A percentage error needs later observations, and none of them 0.")
    return float(np.mean(np.abs(y - trend.predict(np.asarray(xs, dtype=float))) / np.abs(y)) * 100)


def ranking_reliability(trends: Mapping[str, Trend], xs: Numbers, curves: Mapping[str, Numbers]) -> float:
    """Return the share of pairs of systems, at all control levels, that the trends put in the right order.

    Pairs whose accuracies are equal at a level are not counted there.

    Args:
        trends: by system, fitted to earlier observations alone.
        xs: [n], amounts of data that the trends have not seen, the same for all systems.
        curves: by system, [n], accuracies there.

    Raises:
        DataError: no pair differs at any level.
    """
    x = np.asarray(xs, dtype=float)
    right = []
    for one, other in itertools.combinations(trends, 2):
        found = np.asarray(curves[one], dtype=float) - np.asarray(curves[other], dtype=float)
        told = trends[one].predict(x) - trends[other].predict(x)
        right += (np.sign(told) == np.sign(found))[found != 0].tolist()
    if not right:
        raise DataError("A ranking needs two systems whose accuracies differ at a control level.")
    return float(np.mean(right))
