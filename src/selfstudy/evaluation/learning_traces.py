"""Learning curves predicted while they grow, and a rule that says when to stop.

A trend of level l is a curve c - a x^(-b) fitted to the first l observations; the asymptotes of successive
trends are the backbone. Once the backbone is calm (the working level), each further fit is anchored at
infinity to the asymptote before; once that asymptote is feasible (the prediction level), predictions may be
asked for; once what it predicts above the present accuracy is small (the convergence level), one may stop.
Vilares Ferro, Darriba Bilbao, Ribadas Pena 2017, arXiv 2402.02515.

    trace = LearningTrace(nu=2e-5, tau=1.0)
    for words, accuracy in observations:  # in points, on a fixed test set, of nested samples
        if trace.add(words, accuracy).converged:
            break
    trace.predict(800_000)

Everything is in the units of x and of accuracy: with accuracies in points (0 to 100) and x in words, nu is in
points a word and tau in points.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.power_trends import LEAST, PatternName, Trend, fit_trend

MIXED = (50.0, 200.0)  # times that a percentage is of the same accuracy as a fraction, with room for growth


class Status(NamedTuple):
    """Where a trace is after an observation; levels count observations, from 1.

    Attributes:
        level: l, observations so far.
        working: omega, the level at which the backbone was seen to be calm; None before.
        prediction: rho, the level from which predictions are given; None before.
        converged: the first level whose layer is at most tau; None before.
        asymptote: alpha, of the last trend; None before level 3 and for invalid trends.
        layer: chi, the gain over the last observation's place that the trend predicts; None before the
            prediction level.
        degenerate: whether all observations are equal.
    """

    level: int
    working: int | None
    prediction: int | None
    converged: int | None
    asymptote: float | None
    layer: float | None
    degenerate: bool = False


class LearningTrace:
    """The trends of a growing learning curve, and when they may be believed.

    Args:
        nu: verticality threshold, in accuracy a unit of x; between 0 and 1. The backbone is calm while it
            changes by no more than s / (1 - s) a unit, s = nu^(1 / sigma); that is about nu where sigma is 1.
        sigma: slow-down; smaller values ask for a calmer backbone.
        lam: look-ahead: so many calm changes in a row make the working level.
        tau: the layer, in accuracy, at which the trace has converged.
        upper: what no accuracy can exceed: 100 for points, 1 for shares, None for scores without a bound.
        anchored: whether fits are anchored from the working level on.
        pattern: the family of the trends.

    Attributes:
        xs, ys: observations, without those that were no numbers.
        trends: by level from 3.
        status: after the last observation.

    Raises:
        UsageError: thresholds outside of their ranges.
    """

    def __init__(
        self,
        nu: float = 2e-5,
        sigma: float = 1.0,
        lam: int = 5,
        tau: float = 1.0,
        upper: float | None = 100.0,
        *,
        anchored: bool = True,
        pattern: PatternName = "power",
    ) -> None:
        if not (0 < nu < 1 and sigma > 0 and lam >= 1 and tau > 0):
            raise UsageError(
                f"A learning trace was given nu={nu:g}, sigma={sigma:g}, lam={lam} and tau={tau:g}: nu must "
                "be between 0 and 1, sigma and tau above 0, and lam at least 1."
            )
        steepness = nu ** (1 / sigma)
        self.bound = steepness / (1 - steepness)
        self.lam, self.tau, self.upper = lam, tau, upper
        self.anchored, self.pattern = anchored, pattern
        self.xs: list[float] = []
        self.ys: list[float] = []
        self.trends: list[Trend] = []
        self.status = Status(0, None, None, None, None, None)

    def add(self, x: float, y: float) -> Status:
        """Take in the accuracy y of the learner trained on x units of data, and return where the trace is.

        Raises:
            DataError: x does not rise, y is above `upper`, or accuracies look mixed of shares and points.
        """
        if not math.isfinite(y):
            warnings.warn(f"The observation at {x:g} is {y}, no number: it is left out.", stacklevel=2)
            return self.status
        self._check(x, y)
        self.xs.append(float(x))
        self.ys.append(float(y))
        before, level = self.status, len(self.xs)
        if level < LEAST:
            self.status = before._replace(level=level)
            return self.status
        anchor = before.asymptote if self.anchored and before.working else None
        trend = fit_trend(self.xs, self.ys, anchor, self.pattern)
        self.trends.append(trend)
        working = before.working or (level if self._calm() else None)
        valid = trend.state != "invalid"
        feasible = valid and (self.upper is None or trend.c <= self.upper)
        prediction = before.prediction or (level if feasible and working and level > working else None)
        layer = abs(trend.predict(x) - trend.c) if prediction and valid else None
        close = layer is not None and feasible and layer <= self.tau
        self.status = Status(
            level,
            working,
            prediction,
            before.converged or (level if close else None),
            trend.c if valid else None,
            layer,
            trend.state == "constant",
        )
        return self.status

    @property
    def backbone(self) -> list[tuple[float, float]]:
        """(x, asymptote) of each level from 3; not a number where the trend is invalid."""
        return [(x, trend.c) for x, trend in zip(self.xs[LEAST - 1 :], self.trends, strict=True)]

    @property
    def trend(self) -> Trend:
        """The last trend.

        Raises:
            DataError: predictions may not be given yet, or not any more, as the observations fall.
        """
        missing = self._missing()
        if missing:
            raise DataError(
                f"After {self.status.level} observations there is no prediction yet: {missing}. Add "
                "observations."
            )
        return self.trends[-1]

    def _missing(self) -> str | None:
        """Return what a prediction still needs, in words; None where it can be given."""
        level, working, prediction, _, asymptote, *_ = self.status
        if level < LEAST:
            return f"a trend needs {LEAST}"
        if asymptote is None:
            return "they do not rise, so that they have no trend"
        if prediction is not None:
            return None
        if working is None:
            return "the asymptotes of the trends are too few, or still move too much"
        if self.upper is not None and asymptote > self.upper:
            return f"the asymptote is {asymptote:g}, above the largest accuracy possible, {self.upper:g}"
        return "the asymptotes have only just come to rest"

    def predict(self, x: Any) -> Any:
        """Return the accuracy that is predicted at x.

        Raises:
            DataError: before the prediction level, or where the observations fall.
        """
        return self.trend.predict(x)

    def inverse(self, y: float) -> float:
        """Return how much data the accuracy y is predicted to need.

        Raises:
            DataError: before the prediction level, or y is not below the asymptote.
        """
        return self.trend.inverse(y)

    def _calm(self) -> bool:
        last = self.backbone[-self.lam - 1 :]
        if len(last) <= self.lam:
            return False
        x, asymptotes = np.array(last).T
        return bool((np.abs(np.diff(asymptotes)) <= self.bound * np.diff(x)).all())

    def _check(self, x: float, y: float) -> None:
        if not (math.isfinite(x) and x > 0) or (self.xs and x <= self.xs[-1]):
            raise DataError(
                f"An observation at {x:g} came after {self.xs[-1:] or 'none'}: amounts of data must "
                "rise, from above 0. Sort the observations, and keep one for each amount."
            )
        if self.upper is not None and y > self.upper:
            raise DataError(
                f"The accuracy {y:g} at {x:g} is above the largest possible, {self.upper:g}. Give "
                "accuracies in points with upper=100, in shares with upper=1."
            )
        low, high = sorted((y, self.ys[-1])) if self.ys else (y, y)
        if self.upper == 100 and 0 < low <= 1 and MIXED[0] <= high / low <= MIXED[1]:
            raise DataError(
                f"The accuracies {self.ys[-1]:g} and {y:g} in a row look like a share and points mixed. "
                "Give all in points, or all in shares with upper=1."
            )


class Ranked(NamedTuple):
    """A system's accuracy as its trace predicts it, and the layer, which bounds the error of that."""

    name: str
    predicted: float
    layer: float


def compare(traces: Mapping[str, LearningTrace], x_star: float) -> list[Ranked]:
    """Return systems by the accuracy predicted at x_star, the best first.

    Raises:
        DataError: a trace has not converged.
    """
    early = [name for name, trace in traces.items() if trace.status.converged is None]
    if early:
        raise DataError(
            f"Of {', '.join(traces)} not all have converged: {', '.join(early)} need more observations, or a "
            "larger tau, before they are compared."
        )
    found = [Ranked(name, trace.predict(x_star), trace.status.layer or 0.0) for name, trace in traces.items()]
    return sorted(found, key=lambda ranked: -ranked.predicted)
