"""Pictures of self-sorting arrays: an array while it sorts itself, errors, detours, how types gather."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, bars, line, moving_picture, picture
from selfstudy.evaluation.pictures import band as filled
from selfstudy.evaluation.sorting import POINTS
from selfstudy.models.sorting.traces import Trace

COLOURS = {"bubble": "#2f72d6", "insertion": "#e08a1e", "selection": "#2a9d6f"}
FROZEN = "#d1495b"
GREY = "#6c757d"
_BAND = "rgba(108,117,125,0.25)"
_LINES = ("#b65bc4", "#4fb3c8", "#d1495b", "#8a8f2c", "#8d6e63", "#7a86d8")  # of mixtures
_DASHES = {"rounds": "solid", "uniform": "dot"}


def sorting_picture(
    title: str, trace: Trace, names: Sequence[str], *, note: str, frames: int, typed: bool = True
) -> Picture:
    """Return the bars of an array over its swaps, coloured by the type of the cell, frozen ones apart.

    Args:
        title: above it.
        trace: the run.
        names: of the types.
        note: below the title.
        frames: places of the slider.
        typed: whether to colour by policy; otherwise all that are not frozen are grey.
    """
    steps = np.unique(np.rint(np.linspace(0, len(trace.swaps), frames)).astype(int))
    types = trace.types if len(trace.types) else np.zeros(len(trace.values), np.int8)
    errors = trace.errors()
    n, values = len(trace.values), trace.values
    low, high = (float(values.min()), float(values.max())) if n else (0.0, 1.0)
    room = 0.03 * (high - low or 1.0)
    foot = min(low, 0.0) - room  # so that the least value has a bar too
    shown = []
    for step in steps.tolist():
        at = trace.cells_at(step)
        groups = [(name, (types[at] == code) & ~trace.frozen[at]) for code, name in enumerate(names)]
        groups.append(("frozen", trace.frozen[at]))
        traces = [
            bars(
                name,
                np.flatnonzero(here),
                trace.values[at][here] - foot,
                base=foot,
                width=0.9,
                marker={"color": FROZEN if name == "frozen" else COLOURS[name] if typed else GREY},
            )
            for name, here in groups
        ]
        shown.append((f"{step} (out of order: {errors[step]})", traces))
    return moving_picture(
        title,
        shown,
        over="after swap",
        x="position",
        y="value",
        note=note,
        layout={
            "barmode": "overlay",
            "xaxis": {"range": [-1, n]},
            "yaxis": {"range": [foot, high + room]},
        },
        milliseconds=90,
    )


def damage_pictures(records: Sequence[dict[str, Any]], scheduler: str) -> list[Picture]:
    """Return final errors of cells and classical algorithms, and detours by frozen cells for each mode.

    Args:
        records: of settings: policy, scheduler, frozen, mode, and the means `cells` and `top_down`.
        scheduler: the one whose errors are shown.
    """
    pictures = []
    shown = [record for record in records if record["scheduler"] == scheduler]
    for mode in dict.fromkeys(record["mode"] for record in shown if record["frozen"]):
        chosen = [record for record in shown if record["mode"] == mode or not record["frozen"]]
        traces = []
        for who, pattern in (("cells", ""), ("top-down", "/")):
            for policy in COLOURS:
                rows = sorted((r for r in chosen if r["policy"] == policy), key=lambda r: r["frozen"])
                figures = [row["cells" if who == "cells" else "top_down"]["error"] for row in rows]
                marker = {"color": COLOURS[policy], "pattern": {"shape": pattern}}
                traces.append(bars(f"{policy}, {who}", [r["frozen"] for r in rows], figures, marker=marker))
        pictures.append(
            picture(
                f"Final errors, {mode} frozen cells",
                traces,
                x="frozen cells",
                y="neighbours out of order at the end",
                note="Means over the arrays; hatched: the classical algorithm on the same arrays with the "
                "same broken cells.",
                layout={"xaxis": {"dtick": 1}},
            )
        )
    return pictures + _detours(records)


def _detours(records: Sequence[dict[str, Any]]) -> list[Picture]:
    pictures = []
    for mode in dict.fromkeys(record["mode"] for record in records if record["frozen"]):
        chosen = [record for record in records if record["mode"] == mode or not record["frozen"]]
        traces = []
        for policy, colour in COLOURS.items():
            for scheduler, dash in _DASHES.items():
                rows = sorted(
                    (r for r in chosen if (r["policy"], r["scheduler"]) == (policy, scheduler)),
                    key=lambda r: r["frozen"],
                )
                if rows:
                    x, y = [r["frozen"] for r in rows], [r["cells"]["gratification"] for r in rows]
                    style = {"color": colour, "dash": dash}
                    traces.append(line(f"{policy}, {scheduler}", x, y, mode="lines+markers", line=style))
        pictures.append(
            picture(
                f"Delayed gratification, {mode} frozen cells",
                traces,
                x="frozen cells",
                y="mean gain of a detour",
                note="How much more a fall of the error wins back than the rise before it had cost. Dotted: "
                "a random cell each time instead of all once a round.",
                layout={"xaxis": {"dtick": 1}},
            )
        )
    return pictures


def mixture_pictures(records: Sequence[dict[str, Any]]) -> list[Picture]:
    """Return aggregation over progress with the control's band, for each kind of mixture; and the errors."""
    progress = np.linspace(0, 100, POINTS)
    pictures = []
    for kind in dict.fromkeys(record["kind"] for record in records):
        chosen = [record for record in records if record["kind"] == kind]
        traces = []
        for record in chosen:
            control = record["controls"][record["control"]]
            if record is chosen[0]:
                traces += filled("control", progress, control["low"], control["high"], _BAND)
                style = {"color": GREY, "dash": "dash"}
                traces.append(line("control, mean", progress, control["curve"], line=style))
            traces.append(line(record["name"], progress, record["mixed"]["curve"], line=_own(record, chosen)))
        pictures.append(
            picture(
                f"Aggregation of mixed arrays, {_IN_WORDS[kind]}",
                traces,
                x="progress in percent of the swaps",
                y="cells whose right neighbour has their type",
                note="Means over the arrays. The control has one policy for all cells and random labels; at "
                "each place its band holds 95 % of its runs.",
            )
        )
        errors = [
            line(record["name"], progress, record["mixed"]["error_curve"], line=_own(record, chosen))
            for record in chosen
        ]
        pictures.append(
            picture(
                f"Error of mixed arrays, {_IN_WORDS[kind]}",
                errors,
                x="progress in percent of the swaps",
                y="neighbours out of order",
                note="Means over the arrays.",
            )
        )
    return pictures


def _own(record: dict[str, Any], records: list[dict[str, Any]]) -> dict[str, str]:
    return {"color": _LINES[records.index(record) % len(_LINES)]}


_IN_WORDS = {
    "unique": "all values different",
    "duplicates": "equal values",
    "conflict": "types that sort in opposite directions",
}
