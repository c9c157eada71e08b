"""Curves of the report, as plotly traces: what the run logged, and accuracy against tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from selfstudy.app.rows import rows

Line = dict[str, Any]
MOST_TICKS = 20  # up to here every whole number of an axis is marked
MOST_POINTS = 1000  # a curve of more is thinned evenly; a screen shows no more


def charts_of(metrics: list[Line], summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the charts that there are data for: losses by stage, accuracy by round and by tokens."""
    charts = [
        _logged(metrics, "loss", "step", "Loss"),
        _logged(metrics, "mse", "epoch", "Validation error of the value model (mean square)"),
        _rounds(metrics, summary),
        _tokens(summary),
    ]
    return [chart for chart in charts if chart["traces"]]


def _logged(metrics: list[Line], key: str, by: str, title: str) -> dict[str, Any]:
    """One trace of the figure `key` for each stage and part that logged it with the counter `by`."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in metrics:
        if isinstance(line.get(key), int | float) and by in line:
            stage = str(line.get("stage", ""))
            part = str(line.get("part", ""))
            name = "/".join(filter(None, (stage, "" if part in stage else part)))
            series.setdefault(name or key, []).append((line[by], line[key]))
    traces = [_line(name, points) for name, points in series.items()]
    few = all(x <= MOST_TICKS for points in series.values() for x, _ in points)
    whole = {"xaxis": {"dtick": 1}} if few else {}
    return {"id": f"chart-{key}", "title": title, "x": by, "y": key, "traces": traces, **whole}


def _rounds(metrics: list[Line], summary: dict[str, Any]) -> dict[str, Any]:
    series: dict[str, list[tuple[float, float]]] = {}
    for line in metrics:
        if "accuracy" in line and "round" in line:
            name = str(line.get("name") or line.get("method") or line.get("split") or "accuracy")
            series.setdefault(name, []).append((line["round"], line["accuracy"]))
    listed = [row for row in summary.get("rounds") or [] if isinstance(row, dict) and "accuracy" in row]
    if not series and listed:
        base = [summary["base"]] if summary.get("base") else []
        first = 0 if base else 1
        series["accuracy"] = [(first + i, row["accuracy"]) for i, row in enumerate([*base, *listed])]
    traces = [{**_line(name, points), "mode": "lines+markers"} for name, points in series.items()]
    more = {"xaxis": {"dtick": 1}, "yaxis": {"tickformat": ".0%"}}
    return {
        "id": "chart-rounds",
        "title": "Accuracy by round",
        "x": "round",
        "y": "accuracy",
        "traces": traces,
        **more,
    }


def _tokens(summary: dict[str, Any]) -> dict[str, Any]:
    """Accuracy against tokens written per problem: searchers measured at several budgets become lines."""
    traces = []
    searchers = summary.get("searchers") or {}
    named = (
        searchers.items() if isinstance(searchers, dict) else ((row.get("name"), row) for row in searchers)
    )
    groups = [(str(name), value if isinstance(value, list) else [value]) for name, value in named]
    if groups:
        others = ((name, row) for name, row in rows({k: v for k, v in summary.items() if k != "searchers"}))
        groups = [*((name, [row]) for name, row in others), *groups]
    for name, found in groups:
        measured = [
            row for row in found if row.get("count") and row.get("generated_tokens") and "accuracy" in row
        ]
        measured.sort(key=lambda row: row["generated_tokens"] / row["count"])
        if measured:
            traces.append(_with_intervals(name, measured))
    more = {"xaxis": {"rangemode": "tozero"}, "yaxis": {"tickformat": ".0%", "rangemode": "tozero"}}
    x = "tokens written per problem"
    return {
        "id": "chart-tokens",
        "title": "Accuracy against tokens",
        "x": x,
        "y": "accuracy",
        "traces": traces,
        **more,
    }


def comparison_chart(result: dict[str, Any]) -> dict[str, Any]:
    """Return accuracy against what was spent, a line for each method and seed."""
    unit = next(iter(result["budget"])).replace("_", " ")
    traces = []
    for index, (slug, found) in enumerate(result["results"].items()):
        for seed, curve in enumerate(found["curves"]):
            shared = {
                "legendgroup": slug,
                "showlegend": seed == 0,
                "line": {"color": PALETTE[index % len(PALETTE)]},
            }
            traces.append({**_line(slug, curve), "mode": "lines+markers", **shared})
    more = {"yaxis": {"tickformat": ".0%"}}
    title = f"Accuracy against {unit}"
    return {"id": "chart-budget", "title": title, "x": unit, "y": "accuracy", "traces": traces, **more}


PALETTE = ("#2f72d6", "#e08a1e", "#2a9d6f", "#b65bc4", "#d1495b", "#4fb3c8")  # as in report.js


def _with_intervals(name: str, measured: list[Line]) -> dict[str, Any]:
    above = [row.get("high", row["accuracy"]) - row["accuracy"] for row in measured]
    below = [row["accuracy"] - row.get("low", row["accuracy"]) for row in measured]
    trace = _line(name, ((row["generated_tokens"] / row["count"], row["accuracy"]) for row in measured))
    errors = {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1,
        "width": 4,
    }
    return {**trace, "mode": "lines+markers", "marker": {"size": 9}, "error_y": errors}


def _line(name: str, points: Iterable[Any]) -> dict[str, Any]:
    found = list(points)
    step = -(-len(found) // MOST_POINTS) or 1
    kept = found[::step]
    # Names reach plotly as text with markup: a stage or a method named with brackets must stay text.
    text = name.replace("&", "&amp;").replace("<", "&lt;")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": text,
        "x": [p[0] for p in kept],
        "y": [p[1] for p in kept],
    }
