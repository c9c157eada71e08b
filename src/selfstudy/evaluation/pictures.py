"""Pictures of a report as plain data: plotly traces, with a slider where they change over something.

The report draws them; nothing here imports plotly. Colours come from the page unless a trace names its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError

Trace = dict[str, Any]
Picture = dict[str, Any]
DIGITS = 5  # significant ones, which is finer than a screen


def picture(
    title: str,
    traces: Sequence[Trace],
    *,
    x: str = "",
    y: str = "",
    note: str = "",
    layout: dict[str, Any] | None = None,
) -> Picture:
    """Return one picture.

    Args:
        title: above it.
        traces: as made by `line`, `points`, `bars` and `heatmap`, or any plotly traces.
        x: name of the axis.
        y: name of the other.
        note: a sentence or two below the title: what is to be seen.
        layout: more of plotly's layout, such as {"xaxis": {"type": "log"}}.
    """
    layout = dict(layout or {})
    for trace in traces:
        for axis in ("x", "y") if trace["type"] == "heatmap" else ():
            if any(isinstance(value, str) for value in trace[axis]):
                # Else plotly takes "16", "32" for numbers, and draws cells of unequal size.
                layout[f"{axis}axis"] = {"type": "category", **layout.get(f"{axis}axis", {})}
    return {"title": title, "note": note, "x": x, "y": y, "traces": list(traces), "layout": layout}


def moving_picture(
    title: str,
    frames: Sequence[tuple[str, Sequence[Trace]]],
    *,
    over: str,
    x: str = "",
    y: str = "",
    note: str = "",
    layout: dict[str, Any] | None = None,
    milliseconds: int = 120,
) -> Picture:
    """Return a picture with a slider and a button that plays it.

    Args:
        title: above it.
        frames: (label on the slider, traces); all frames have the same traces in the same order. Give the
            axes a fixed range in `layout`, or the picture jumps.
        over: what the slider goes over, such as "step".
        x: name of the axis.
        y: name of the other.
        note: what is to be seen.
        layout: more of plotly's layout.
        milliseconds: that a frame stays when it is played.

    Raises:
        UsageError: no frames, or frames with different numbers of traces.
    """
    if not frames or len({len(traces) for _, traces in frames}) != 1:
        raise UsageError("A moving picture needs frames, all with the same number of traces.")
    still = picture(title, frames[0][1], x=x, y=y, note=note, layout=layout)
    moving = [{"name": label, "data": list(traces)} for label, traces in frames]
    return {**still, "frames": moving, "over": over, "milliseconds": milliseconds}


def line(name: str, x: Iterable[Any], y: Iterable[Any], **more: Any) -> Trace:
    """Return a line; `more` is plotly's, such as line={"dash": "dot"}."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": _plain_one(name),
        "x": _plain(x),
        "y": _plain(y),
        **more,
    }


def points(name: str, x: Iterable[Any], y: Iterable[Any], **more: Any) -> Trace:
    """Return separate points."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _plain_one(name),
        "x": _plain(x),
        "y": _plain(y),
        **more,
    }


def bars(name: str, x: Iterable[Any], y: Iterable[Any], **more: Any) -> Trace:
    """Return bars."""
    return {"type": "bar", "name": _plain_one(name), "x": _plain(x), "y": _plain(y), **more}


def heatmap(z: Any, x: Iterable[Any], y: Iterable[Any], **more: Any) -> Trace:
    """Return a map of z [rows, columns] over x (columns) and y (rows)."""
    return {"type": "heatmap", "z": [_plain(row) for row in z], "x": _plain(x), "y": _plain(y), **more}


def band(name: str, x: Iterable[Any], low: Iterable[Any], high: Iterable[Any], colour: str) -> list[Trace]:
    """Return two traces that fill what lies between `low` and `high`."""
    shared = {"line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    x = list(x)
    fill = {"fill": "tonexty", "fillcolor": colour}
    return [line(name, x, low, **shared), line(name, x, high, **shared, **fill)]


def _plain(values: Iterable[Any]) -> list[Any]:
    return [_plain_one(value) for value in values]


def _plain_one(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        # Text reaches plotly as markup: words of a user's file must stay text.
        return value.replace("&", "&amp;").replace("<", "&lt;")
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
