"""Pictures of a learning trace: the observations with the trends through them, and the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.evaluation.learning_traces import LearningTrace, Status
from selfstudy.evaluation.pictures import Picture, line, moving_picture, picture, points
from selfstudy.evaluation.power_trends import LEAST

DRAWN = 120  # points of a curve
ROOM = 0.1  # of the height, above and below


def trace_pictures(
    trace: LearningTrace, statuses: Sequence[Status], ahead: float, unit: str
) -> list[Picture]:
    """Return the trends level by level, and the backbone with its levels; none before there is a trend.

    Args:
        trace: after its observations.
        statuses: what `add` returned for each of them.
        ahead: how far the curves are drawn, in units of data.
        unit: what is counted, such as "words".
    """
    if not any(trend.state != "invalid" for trend in trace.trends):
        return []
    return [_trends(trace, ahead, unit), _backbone(trace, statuses, unit)]


def _trends(trace: LearningTrace, ahead: float, unit: str) -> Picture:
    x = np.linspace(trace.xs[0], max(ahead, trace.xs[-1]), DRAWN)
    frames: list[tuple[str, list[Any]]] = []
    highest = max(trace.ys)
    for level, trend in enumerate(trace.trends, LEAST):
        if trend.state == "invalid":
            continue
        y = trend.predict(x)
        highest = max(highest, float(y[-1])) if level == len(trace.xs) else highest
        seen = [
            points("used for the trend", trace.xs[:level], trace.ys[:level], marker={"size": 9}),
            points("later", trace.xs[level:], trace.ys[level:], marker={"size": 7, "symbol": "circle-open"}),
            line("trend", x, y),
            line("its asymptote", x[[0, -1]], [trend.c, trend.c], line={"dash": "dot"}),
        ]
        frames.append((str(level), seen))
    room = ROOM * (highest - min(trace.ys) or 1.0)
    return moving_picture(
        "Trends of the learning curve",
        frames[::-1],
        over="observations",
        x=unit,
        y="accuracy, points",
        note="The curve is fitted to the full points alone. Move the slider to see what was predicted when.",
        layout={"yaxis": {"range": [min(trace.ys) - room, highest + 2 * room]}},
        milliseconds=400,
    )


def _backbone(trace: LearningTrace, statuses: Sequence[Status], unit: str) -> Picture:
    shown = [(x, alpha) for x, alpha in trace.backbone if np.isfinite(alpha)]
    traces = [
        points("accuracy", trace.xs, trace.ys),
        line("asymptote of the trend", *zip(*shown, strict=True), mode="lines+markers"),
    ]
    layers = [
        (x, status.asymptote - status.layer)
        for x, status in zip(trace.xs, statuses, strict=True)
        if status.layer is not None and status.asymptote is not None
    ]
    if layers:
        traces.append(line("what the trend has here", *zip(*layers, strict=True)))
    last = statuses[-1]
    named = {"working": last.working, "prediction": last.prediction, "convergence": last.converged}
    heights = [alpha for _, alpha in shown if abs(alpha) < 2 * max(map(abs, trace.ys))] or list(trace.ys)
    for name, level in named.items():
        if level is not None:
            at = trace.xs[level - 1]
            spread = [min(trace.ys), max(heights)]
            traces.append(line(f"{name} level", [at, at], spread, line={"dash": "dot", "width": 1}))
    return picture(
        "The backbone",
        traces,
        x=unit,
        y="points",
        note="Predictions are given from the prediction level on. The gap between the asymptote and what the "
        "trend has at the last observation is the gain still to come; training stops when it is small.",
        layout={"yaxis": {"range": [min(trace.ys) - 1, max([*heights, *trace.ys]) + 1]}},
    )
