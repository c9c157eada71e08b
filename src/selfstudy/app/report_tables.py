"""Parts of the report that are read: figures, what they are held to, what was spent, how it was made."""

from __future__ import annotations

from html import escape
from typing import Any

from selfstudy.app.rows import NONE, bounds, figure, metric_of, rows
from selfstudy.core.config import flatten
from selfstudy.evaluation.scores import Metric

KEPT, BROKEN = '<span class="right">✓ holds</span>', '<span class="wrong">✗ fails</span>'
TOKENS = ("generated_tokens", "scored_tokens")


def tiles_part(summary: dict[str, Any]) -> str:
    """Return the three figures people look for first: before, after, gain."""
    rounds = summary.get("rounds")
    after = summary.get("trained") or (rounds[-1] if isinstance(rounds, list) and rounds else None)
    base = summary.get("base")
    if not base or not after:
        return ""
    metric = metric_of(summary)
    tiles = [
        (
            figure(row[metric.name], metric.share),
            f"{metric.name} {when}",
            f"{row.get('count', 0):,} test items",
        )
        for when, row in (("before", base), ("after", after))
    ]
    tiles.append(_gain_tile(metric, base[metric.name], after[metric.name], summary.get("gain") or {}))
    cells = "".join(
        f'<div class="tile"><b>{b}</b><span>{escape(name)}</span><span>{note}</span></div>'
        for b, name, note in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _gain_tile(metric: Metric, before: float, after: float, gain: dict[str, Any]) -> tuple[str, str, str]:
    """Return what was gained, in points where the figure is a share; above 0 is better."""
    scale, form = (100, "+.1f") if metric.share else (1, "+.4g")
    gained = before - after if metric.lower_is_better else after - before
    within = ""
    if gain.get("low") is not None:
        within = f"95 % interval {scale * gain['low']:{form}} to {scale * gain['high']:{form}}"
    what = "points gained" if metric.share else f"less {metric.name}" if metric.lower_is_better else "gained"
    return f"{scale * gained:{form}}", what, within


def results_part(summary: dict[str, Any]) -> str:
    """Return the table of results: a row for each model or round that was evaluated."""
    found = list(rows(summary))
    if not found:
        return ""
    metric = metric_of(summary)
    most = max([row[metric.name] for _, row in found] + [row.get("high") or 0 for _, row in found])
    scale = 1.0 if metric.share else most or 1.0
    wrote = any(row.get(unit) for _, row in found for unit in TOKENS)
    body = []
    for name, row in found:
        low, high = row.get("low"), row.get("high")
        count = row.get("count") or 0
        per = [f"{row.get(kind, 0) / count:,.0f}" if count and row.get(kind) else NONE for kind in TOKENS]
        tokens = f"<td class=n>{per[0]}</td><td class=n>{per[1]}</td>" if wrote else ""
        within = f"{figure(low, metric.share)} to {figure(high, metric.share)}"
        body.append(
            f"<tr><td>{escape(name)}</td><td class=n>{figure(row[metric.name], metric.share)}</td>"
            f"<td class=n>{within}</td><td class=bar>{_bar(row[metric.name], low, high, scale)}</td>"
            f"<td class=n>{count:,}</td>{tokens}</tr>"
        )
    heads = "<th class=n>tokens written<br>per item</th><th class=n>tokens scored<br>per item</th>"
    head = (
        f"<tr><th></th><th class=n>{escape(metric.name)}</th><th class=n>95 % interval</th>"
        f"<th class=bar></th><th class=n>items</th>{heads if wrote else ''}</tr>"
    )
    return section("Results", f'<div class="scroll"><table>{head}{"".join(body)}</table></div>')


def _bar(value: float, low: Any, high: Any, scale: float) -> str:
    """Return a bar as long as `value` is of `scale`, with a whisker from `low` to `high`."""

    def share(figure: float) -> float:
        return 100 * max(0.0, figure) / scale

    whisker = ""
    if low is not None and high is not None:
        whisker = f'<u style="left:{share(low):.1f}%;width:{share(high) - share(low):.1f}%"></u>'
    return f'<div class="track"><i style="width:{share(value):.1f}%"></i>{whisker}</div>'


def held_to_part(lines: list[dict[str, Any]]) -> str:
    """Return the table of figures with exact bounds, and whether each keeps them."""
    body = "".join(
        f"<tr><td>{escape(line['name'])}</td><td class=n>{figure(line['value'], False)}</td>"
        f"<td class=n>{bounds(line)}</td><td>{KEPT if line['holds'] else BROKEN}</td></tr>"
        for line in lines
    )
    head = "<tr><th></th><th class=n>measured</th><th class=n>must be</th><th></th></tr>"
    table = f'<div class="scroll"><table>{head}{body}</table></div>'
    return section("Held to exact results", table) if lines else ""


def figures_part(metrics: dict[str, Any]) -> str:
    """Return what a method measured beside its results: the plain numbers and words among its metrics."""
    found = {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
    facts = {
        name.replace("_", " "): figure(value, False) if isinstance(value, float) else value
        for name, value in found.items()
    }
    return section("Figures", _facts(facts)) if facts else ""


def spent_part(summary: dict[str, Any]) -> str:
    """Return the table of what was spent, by budget unit."""
    limits = summary.get("budget") or {}
    body = "".join(
        f"<tr><td>{escape(unit.replace('_', ' '))}</td><td class=n>{_amount(amount)}</td>"
        f"<td class=n>{_amount(limits[unit]) if unit in limits else 'no limit'}</td></tr>"
        for unit, amount in (summary.get("spent") or {}).items()
    )
    head = "<tr><th></th><th class=n>spent</th><th class=n>limit</th></tr>"
    return section("Budget", f'<div class="scroll"><table>{head}{body}</table></div>') if body else ""


def _amount(number: float) -> str:
    return f"{number:.3g}" if number >= 1e10 else f"{number:,.0f}" if number >= 100 else f"{number:,.3g}"


def made_part(config: dict[str, Any], done: dict[str, Any]) -> str:
    """Return settings, hardware and versions."""
    facts = {
        **flatten({"hardware": done.get("hardware", {})}),
        **flatten({"versions": done.get("versions", {})}),
    }
    machine = f"<h3>Machine</h3>{_facts(facts)}" if facts else ""
    return section(
        "How it was made",
        f"<details open><summary>Settings</summary>{_facts(flatten(config))}</details>{machine}",
    )


def _facts(facts: dict[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>"


def section(title: str, body: str) -> str:
    """Return a heading and what is below it."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"
