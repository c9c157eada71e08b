"""Learning traces: their levels, when predictions are given, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.evaluation.learning_traces import LearningTrace, Status, compare
from selfstudy.evaluation.power_trends import fit_power

STEP = 5000.0
X = STEP * np.arange(1, 42)
EXACT = 97 - 50 * X**-0.3


def traced(ys: Any, **fields: Any) -> tuple[LearningTrace, list[Status]]:
    """A trace through accuracies at the levels of X, and its statuses."""
    trace = LearningTrace(**fields)
    return trace, [trace.add(x, y) for x, y in zip(X, ys, strict=False)]


def test_levels_on_exact_data() -> None:
    """Oracle: the backbone is constant, so that the look-ahead alone decides: five changes are known at level
    8, predictions start one later, and the layer is a x^(-b), which is the distance to the limit."""
    trace, statuses = traced(EXACT)
    assert statuses[1].asymptote is None and statuses[2].asymptote is not None
    assert [status.working for status in statuses] == [None] * 7 + [8] * 34
    assert [status.prediction for status in statuses] == [None] * 8 + [9] * 33
    assert all(value == pytest.approx(97, abs=1e-6) for _, value in trace.backbone)
    layers = [status.layer for status in statuses]
    assert layers[:8] == [None] * 8
    assert layers[8:] == pytest.approx(50 * X[8:] ** -0.3, abs=1e-6)
    converged = next(at for at, x in enumerate(X) if 50 * x**-0.3 <= 1.5) + 1
    _, other = traced(EXACT, tau=1.5)
    assert [status.converged for status in other] == [None] * (converged - 1) + [converged] * (42 - converged)
    assert traced(EXACT, lam=2)[1][-1].working == 5


def test_no_prediction_before_its_level() -> None:
    """Oracle: predictions are refused up to level 8 and given from 9."""
    trace = LearningTrace()
    for level, (x, y) in enumerate(zip(X[:9], EXACT, strict=False), 1):
        trace.add(x, y)
        if level <= 8:
            with pytest.raises(DataError, match=f"After {level} observations there is no prediction yet"):
                trace.predict(X[-1])
    assert trace.predict(X[-1]) == pytest.approx(EXACT[-1])
    assert trace.inverse(95) == pytest.approx(25 ** (1 / 0.3))
    with pytest.raises(DataError, match="98 is not reachable under the model"):
        trace.inverse(98)


def test_an_outlier() -> None:
    """Oracle: three points more at level 4 lift the asymptote above 100 and make the working level later than
    it is without; from level 15 the accuracy at twice the data is predicted within half a point."""
    moved = EXACT.copy()
    moved[3] += 3
    trace, statuses = traced(moved[:15])
    assert statuses[3].asymptote is not None and statuses[3].asymptote > 100
    assert statuses[-1].prediction is not None and statuses[-1].prediction > 9
    assert trace.predict(X[29]) == pytest.approx(EXACT[29], abs=0.5)


def test_infeasible_asymptotes_give_no_prediction() -> None:
    """Oracle: with the asymptote 104 there is a working level and no prediction; without a bound there is."""
    y = 104 - 80 * X[:20] ** -0.2
    assert traced(y)[1][-1].working == 8
    assert traced(y)[1][-1].prediction is None
    with pytest.raises(DataError, match=r"is 104.*, above the largest accuracy possible, 100"):
        traced(y)[0].predict(1e6)
    assert traced(y, upper=None)[1][-1].prediction == 9


def test_anchoring_starts_after_the_working_level() -> None:
    """Oracle: fits by hand, each with the asymptote before it as its anchor from level 9."""
    y = EXACT + 0.003 * np.sin(np.arange(41))
    trace, statuses = traced(y[:14], nu=0.5)
    assert statuses[-1].working == 8
    anchor = fit_power(X[:8], y[:8]).c
    for level in range(9, 15):
        by_hand = fit_power(X[:level], y[:level], anchor)
        assert trace.trends[level - 3] == by_hand
        anchor = by_hand.c
    free, _ = traced(y[:14], nu=0.5, anchored=False)
    assert free.trends[-1] == fit_power(X[:14], y[:14])


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_thresholds(seed: int) -> None:
    """Oracle: a larger tau never stops later, and a larger nu never makes the working level later."""
    y = 95 - 300 * X[:20] ** -0.5 + generator("order", seed).normal(0, 0.1, 20)
    never = 99
    stops = [traced(y, tau=tau)[1][-1].converged or never for tau in (0.3, 1.0, 3.0)]
    assert stops == sorted(stops, reverse=True)
    works = [traced(y, nu=nu)[1][-1].working or never for nu in (1e-6, 2e-5, 1e-3)]
    assert works == sorted(works, reverse=True)


def test_the_working_level() -> None:
    """Oracle: the first level at which each of the last three changes of asymptotes fitted by hand is at most
    the bound, where single changes are before."""
    y = EXACT[:30] + generator("calm").normal(0, 0.05, 30)
    asymptotes = [fit_power(X[:level], y[:level]).c for level in range(3, 31)]
    calm = np.abs(np.diff(asymptotes)) <= LearningTrace(nu=1e-4).bound * STEP
    by_hand = next(level for level in range(6, 31) if calm[level - 6 : level - 3].all())
    assert calm[: by_hand - 4].any() and by_hand > 6
    assert traced(y, nu=1e-4, lam=3)[1][-1].working == by_hand


def test_the_bound_of_calm() -> None:
    """Oracle: s / (1 - s) with s = nu^(1 / sigma), in accuracy a unit of x."""
    assert LearningTrace(nu=0.04, sigma=2).bound == pytest.approx(0.2 / 0.8)
    assert LearningTrace(nu=2e-5).bound == pytest.approx(2e-5, rel=1e-4)


def test_constant_and_falling_curves() -> None:
    """Oracle: a constant curve is its own asymptote, with a layer of 0; a falling one has no trend, waits,
    and is not calm by having none."""
    trace, statuses = traced([80.0] * 9)
    assert statuses[-1].degenerate and statuses[-1].asymptote == 80 and statuses[-1].layer == 0
    assert statuses[-1].converged == 9 and trace.predict(1e6) == 80
    with pytest.raises(DataError, match="not reachable"):
        trace.inverse(80)
    falling, after = traced([90.0 - level for level in range(12)])
    assert after[-1] == Status(12, None, None, None, None, None)
    assert falling.trends[-1].state == "invalid"
    with pytest.raises(DataError, match="do not rise"):
        falling.trends[-1].predict(1e6)


def test_a_curve_that_falls_in_the_end() -> None:
    """Oracle: from the first level whose fit has no a > 0 nothing is predicted, as there is no trend, and
    its layer is no reason to stop; the levels that were reached stay."""
    trace, statuses = traced(np.concatenate([EXACT[:12], 60.0 - 5 * np.arange(8)]))
    assert statuses[11].prediction == statuses[-1].prediction == 9
    assert trace.trends[-1].state == "invalid"
    assert statuses[-1].layer is None and statuses[-1].converged is None
    with pytest.raises(DataError, match="no prediction yet: they do not rise"):
        trace.predict(1e6)


def test_bad_observations() -> None:
    """Oracle: each is refused by name; what is no number is left out with a warning."""
    trace = LearningTrace()
    trace.add(10, 50)
    with pytest.raises(DataError, match="must rise"):
        trace.add(10, 51)
    with pytest.raises(DataError, match="a share and points mixed"):
        trace.add(20, 0.6)
    with pytest.raises(DataError, match="above the largest possible, 100"):
        trace.add(20, 101)
    with pytest.warns(UserWarning, match="no number"):
        assert trace.add(20, math.nan).level == 1
    assert LearningTrace(upper=1).add(10, 0.5).level == 1
    with pytest.raises(UsageError, match="tau"):
        LearningTrace(tau=0)
    with pytest.raises(UsageError, match="nu"):
        LearningTrace(nu=1)


def test_comparing_systems() -> None:
    """Oracle: two exact curves that cross: the one that is behind so far wins at a million."""
    slow, fast = traced(97 - 50_000 * X[:30] ** -0.9, tau=5)[0], traced(94 - 4e6 * X[:30] ** -1.8, tau=5)[0]
    assert slow.ys[4] < fast.ys[4]
    ranked = compare({"fast": fast, "slow": slow}, 1e6)
    assert [one.name for one in ranked] == ["slow", "fast"]
    assert ranked[0].predicted == pytest.approx(97 - 50_000 * 1e6**-0.9)
    with pytest.raises(DataError, match="early need more observations"):
        compare({"fast": fast, "early": traced(EXACT[:5])[0]}, 1e6)
