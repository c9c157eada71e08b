"""Curves of a run's report, as plotly traces: what it logged, and accuracy against tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from selfstudy.app.rows import metric_of, rows
from selfstudy.evaluation.pictures import line
from selfstudy.evaluation.scores import Metric

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
    for logged in metrics:
        if isinstance(logged.get(key), int | float) and by in logged:
            stage = str(logged.get("stage", ""))
            part = str(logged.get("part", ""))
            name = "/".join(filter(None, (stage, "" if part in stage else part)))
            series.setdefault(name or key, []).append((logged[by], logged[key]))
    traces = [thinned(name, points) for name, points in series.items()]
    few = all(x <= MOST_TICKS for points in series.values() for x, _ in points)
    whole = {"xaxis": {"dtick": 1}} if few else {}
    return {"id": f"chart-{key}", "title": title, "x": by, "y": key, "traces": traces, **whole}


def _rounds(metrics: list[Line], summary: dict[str, Any]) -> dict[str, Any]:
    metric = metric_of(summary)
    series: dict[str, list[tuple[float, float]]] = {}
    for logged in metrics:
        if metric.name in logged and "round" in logged:
            name = str(logged.get("name") or logged.get("method") or logged.get("split") or metric.name)
            series.setdefault(name, []).append((logged["round"], logged[metric.name]))
    listed = [row for row in summary.get("rounds") or [] if isinstance(row, dict) and metric.name in row]
    if not series and listed:
        base = [summary["base"]] if summary.get("base") else []
        first = 0 if base else 1
        series[metric.name] = [(first + i, row[metric.name]) for i, row in enumerate([*base, *listed])]
    traces = [{**thinned(name, points), "mode": "lines+markers"} for name, points in series.items()]
    more = {"xaxis": {"dtick": 1}, "yaxis": axis_of(metric)}
    return {
        "id": "chart-rounds",
        "title": f"{title_of(metric)} by round",
        "x": "round",
        "y": metric.name,
        "traces": traces,
        **more,
    }


def _tokens(summary: dict[str, Any]) -> dict[str, Any]:
    """The figure against tokens written per problem: searchers measured at several budgets become lines."""
    metric = metric_of(summary)
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
            row for row in found if row.get("count") and row.get("generated_tokens") and metric.name in row
        ]
        measured.sort(key=lambda row: row["generated_tokens"] / row["count"])
        if measured:
            traces.append(_with_intervals(name, measured, metric))
    more = {"xaxis": {"rangemode": "tozero"}, "yaxis": {**axis_of(metric), "rangemode": "tozero"}}
    x = "tokens written per problem"
    return {
        "id": "chart-tokens",
        "title": f"{title_of(metric)} against tokens",
        "x": x,
        "y": metric.name,
        "traces": traces,
        **more,
    }


def title_of(metric: Metric) -> str:
    """Return what a chart of a metric is called."""
    return metric.name[0].upper() + metric.name[1:]


def axis_of(metric: Metric) -> dict[str, Any]:
    """Return the axis of a metric: in percent where it is a share."""
    return {"tickformat": ".0%"} if metric.share else {}


def _with_intervals(name: str, measured: list[Line], metric: Metric) -> dict[str, Any]:
    above = [row.get("high", row[metric.name]) - row[metric.name] for row in measured]
    below = [row[metric.name] - row.get("low", row[metric.name]) for row in measured]
    trace = thinned(name, ((row["generated_tokens"] / row["count"], row[metric.name]) for row in measured))
    errors = {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1,
        "width": 4,
    }
    return {**trace, "mode": "lines+markers", "marker": {"size": 9}, "error_y": errors}


def thinned(name: str, points: Iterable[Any]) -> dict[str, Any]:
    """Return a line through (x, y) pairs, through every n-th where there are very many."""
    found = list(points)
    step = -(-len(found) // MOST_POINTS) or 1
    kept = found[::step]
    return line(name, [p[0] for p in kept], [p[1] for p in kept])
