"""A comparison as a page shows it: tables as HTML, charts as plotly traces; both from its JSON data alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from selfstudy.app.charts import axis_of, thinned, title_of
from selfstudy.app.comparison import mean_spent, pair_text, reached_text, stopped_text, target_profiles
from selfstudy.app.rows import NONE, figure, metric_of
from selfstudy.evaluation.pictures import band, line, points
from selfstudy.evaluation.statistics import paired_interval

PALETTE = ("#2f72d6", "#e08a1e", "#2a9d6f", "#b65bc4", "#d1495b", "#4fb3c8")  # as in report.js
FAINT = 0.18  # opacity of a band


def comparison_charts(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the charts of a comparison: by method, on the way, against what was spent, time to target."""
    charts = [method_chart(result), looks_chart(result), comparison_chart(result), profile_chart(result)]
    return [chart for chart in charts if chart["traces"]]


def method_chart(result: dict[str, Any]) -> dict[str, Any]:
    """Return each method's figure: the mean over seeds with its 95 % interval, and every seed's."""
    metric = metric_of(result)
    base = result["base"][metric.name]
    traces = [line("base model", [*result["results"]], [base] * len(result["results"]), line={"dash": "dot"})]
    for index, (slug, found) in enumerate(result["results"].items()):
        mean, colour = found["over_seeds"], _colour(index)
        big = {"size": 13, "color": colour, "symbol": "diamond"}
        small = {"size": 7, "color": colour, "opacity": 0.5}
        traces.append(points(slug, [slug], [mean["mean"]], marker=big, **_bars(mean, colour)))
        seeds = [slug] * len(found["figures"])
        traces.append(points(f"{slug}, seeds", seeds, found["figures"], marker=small, showlegend=False))
    title = f"{title_of(metric)} by method, with 95 % intervals over seeds"
    more = {"yaxis": axis_of(metric), "xaxis": {"type": "category"}}
    return {"id": "chart-methods", "title": title, "x": "", "y": metric.name, "traces": traces, **more}


def comparison_chart(result: dict[str, Any]) -> dict[str, Any]:
    """Return the figure against what was spent, a line for each method and seed."""
    metric = metric_of(result)
    unit = next(iter(result["budget"])).replace("_", " ")
    traces = []
    for index, (slug, found) in enumerate(result["results"].items()):
        for seed, curve in enumerate(found["curves"]):
            shared = {
                "legendgroup": slug,
                "showlegend": seed == 0,
                "line": {"color": _colour(index)},
            }
            traces.append({**thinned(slug, curve), "mode": "lines+markers", **shared})
    title = f"{title_of(metric)} against {unit}"
    more = {"yaxis": axis_of(metric)}
    return {"id": "chart-budget", "title": title, "x": unit, "y": metric.name, "traces": traces, **more}


def looks_chart(result: dict[str, Any]) -> dict[str, Any]:
    """Return each method's figure on validation items against what was spent: mean over seeds, 95 % band.

    Runs that were ended, and those of a single seed, are lines of their own.
    """
    metric = metric_of(result)
    unit = next(iter(result["budget"])).replace("_", " ")
    traces: list[dict[str, Any]] = []
    for index, (slug, found) in enumerate(result["results"].items()):
        colour = _colour(index)
        whole = [found["looks"][seed] for seed in found["seeds"] if found["looks"][seed]]
        ended = [found["looks"][seed] for seed in found.get("ended", {})]
        if len(whole) > 1:
            traces += _mean_and_band(slug, whole, colour, metric.share)
        elif whole:
            traces.append(thinned(slug, whole[0]) | {"line": {"color": colour}})
        dashed = {"line": {"color": colour, "dash": "dot", "width": 1}, "showlegend": False}
        traces += [thinned(f"{slug}, ended", curve) | dashed for curve in ended]
    title = f"{title_of(metric)} on validation items against {unit}, mean over seeds with 95 % bands"
    return {
        "id": "chart-looks",
        "title": title,
        "x": unit,
        "y": metric.name,
        "traces": traces,
        "yaxis": axis_of(metric),
    }


def profile_chart(result: dict[str, Any]) -> dict[str, Any]:
    """Return the share of seeds in which each method met the target within a factor of the cheapest."""
    target = result.get("time_to_target") or {}
    profiles = target_profiles(target["times"]) if target else None
    unit = str(target.get("unit", "")).replace("_", " ")
    chart: dict[str, Any] = {
        "id": "chart-profile",
        "title": f"How soon the target is met: share of seeds within a factor of the fewest {unit}",
        "x": f"{unit}, as a multiple of the fewest",
        "y": "share of seeds",
        "traces": [],
        "yaxis": {"tickformat": ".0%", "range": [-0.02, 1.05]},
    }
    if profiles:
        factors = np.linspace(1, profiles.r_max, 301)
        chart["traces"] = [
            line(slug, factors, share, line={"shape": "hv", "color": _colour(index)})
            for index, (slug, share) in enumerate(
                zip(profiles.contestants, profiles.share(factors), strict=True)
            )
        ]
    return chart


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _bars(mean: dict[str, Any], colour: str) -> dict[str, Any]:
    """Return the interval of a mean as plotly draws it; nothing for a single seed, which has none."""
    if mean["low"] is None or mean["high"] is None:
        return {}
    ends = {"array": [mean["high"] - mean["mean"]], "arrayminus": [mean["mean"] - mean["low"]]}
    return {
        "error_y": {"type": "data", "symmetric": False, "thickness": 2, "width": 8, "color": colour, **ends}
    }


def _mean_and_band(
    slug: str, curves: Sequence[Sequence[Sequence[float]]], colour: str, share: bool
) -> list[dict[str, Any]]:
    """Return a mean line over curves on the places of the first, with Student's interval at each."""
    places = [spent for spent, _ in curves[0]]
    heights = np.array(  # [seeds, places]
        [np.interp(places, [x for x, _ in curve], [y for _, y in curve]) for curve in curves]
    )
    found = [paired_interval(column) for column in heights.T]
    low, high = [each.low for each in found], [each.high for each in found]
    if share:
        low, high = np.clip(low, 0, 1).tolist(), np.clip(high, 0, 1).tolist()
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    shade = band(slug, places, low, high, f"rgba({red},{green},{blue},{FAINT})")
    mean = line(slug, places, [each.mean for each in found], line={"color": colour}, legendgroup=slug)
    return [*(trace | {"legendgroup": slug} for trace in shade), mean]


def comparison_tables(result: dict[str, Any]) -> str:
    """Return the tables of a comparison as HTML."""
    parts = [_methods(result), "<h3>Paired differences</h3>", _pairs(result)]
    target, stopped = result.get("time_to_target"), result.get("stopped")
    words = next(iter(result["budget"])).replace("_", " ")
    if target:
        metric = metric_of(result)
        reached = figure(target["figure"], metric.share)
        parts += [f"<h3>{escape(words)} until validation items reach {reached}</h3>", _times(target)]
    if stopped:
        parts += [
            "<h3>Hopeless runs</h3>",
            *(f"<p>{escape(said)}</p>" for said in stopped_text(stopped, words)),
        ]
    parts += ["<h3>Budget spent, mean of the finished runs</h3>", _spent(result)]
    return "".join(
        part if part.startswith(("<h3", "<p")) else f'<div class="scroll">{part}</div>' for part in parts
    )


def _methods(result: dict[str, Any]) -> str:
    metric = metric_of(result)
    names = (metric.name, "95 % over seeds", "seeds")
    rows = [("base model", figure(result["base"][metric.name], metric.share), "", "")]
    for slug, found in result["results"].items():
        mean = found["over_seeds"]
        within = f"{figure(mean['low'], metric.share)} to {figure(mean['high'], metric.share)}"
        seeds = f"{mean['n']}" + (f", {len(found['ended'])} ended" if found.get("ended") else "")
        rows.append(
            (slug, figure(mean["mean"], metric.share), NONE if mean["low"] is None else within, seeds)
        )
    return _table(("method", *names), rows)


def _pairs(result: dict[str, Any]) -> str:
    share = metric_of(result).share
    return _table(
        ("pair", "difference, 95 % interval, t test"),
        [(f"{pair['a']} \u2212 {pair['b']}", pair_text(pair, share)) for pair in result["differences"]],
    )


def _times(target: dict[str, Any]) -> str:
    rows = [
        (slug, reached_text(of_seeds), f"{target['scores'][slug]:.2f}")
        for slug, of_seeds in target["times"].items()
    ]
    return _table(("method", "", "score, 0 to 1"), rows)


def _spent(result: dict[str, Any]) -> str:
    found = result["results"]
    units = list(dict.fromkeys(unit for each in found.values() for spent in each["spent"] for unit in spent))
    rows = [(slug, *(f"{mean_spent(each, unit):,.4g}" for unit in units)) for slug, each in found.items()]
    return _table(("method", *(unit.replace("_", " ") for unit in units)), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is names and whose others are figures."""

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = ["", *[" class=n"] * (len(row) - 1)]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', heads)}</tr>{body}</table>"
