"""report.html: one self-contained page of a run, readable without a network.

What a model wrote is untrusted: it is escaped where it becomes HTML, and embedded as JSON that cannot
leave its script element. Sections whose data are missing are left out.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from selfstudy.app.charts import charts_of
from selfstudy.app.comparison_page import comparison_charts, comparison_tables
from selfstudy.app.rows import NONE, bounds, figure, metric_of, rows
from selfstudy.app.saving import PICTURES
from selfstudy.app.trees import TREES
from selfstudy.core.config import flatten
from selfstudy.core.errors import UsageError
from selfstudy.core.files import Log, read_json, write_text
from selfstudy.evaluation.scores import Metric

HERE = Path(__file__).parent
REPORT = "report.html"
SAMPLES = "samples.json"
ANSWERS, SHOWN = "answers.jsonl", 24  # of an evaluation; so many of them
KEPT, BROKEN = '<span class="right">✓ holds</span>', '<span class="wrong">✗ fails</span>'
MOVES = " moving"  # a class of the style sheet
TOKENS = ("generated_tokens", "scored_tokens")


def write_report(directory: Path) -> Path:
    """Make report.html in `directory` from what the run has written so far, and return its path.

    Raises:
        UsageError: the directory holds neither a run nor a comparison.
    """
    summary = _optional(directory / "summary.json") or {}
    comparison = read_comparison(directory)
    config = _optional(directory / "run.json") or _optional(directory / "compare.json") or comparison
    if config is None:
        raise UsageError(f"{directory} holds no run: there is no run.json in it. Give the --out of a fit.")
    trees = _optional(directory / TREES) or []
    charts, pictures = drawn(directory)
    sections = [
        _results(summary),
        _section("Comparison", comparison_tables(comparison)) if comparison else "",
        _held_to(summary.get("held_to") or []),
        _figures(summary.get("metrics") or {}),
        _pictures(pictures),
        _charts(charts),
        _trees(trees),
        _samples(_optional(directory / SAMPLES) or []),
        _answers(Log(directory / ANSWERS).read()[:SHOWN]),
        _spent(summary),
        _made(config, summary or comparison or {}),
    ]
    page = _page(
        _title(config, summary),
        _lead(config, summary or comparison),
        sections,
        {"charts": charts, "pictures": pictures, "trees": trees},
        tiles=_tiles(summary),
    )
    path = directory / REPORT
    write_text(path, page)
    return path


def write_pictures(path: Path, title: str, lead: str, pictures: list[dict[str, Any]]) -> None:
    """Write pictures, as made by `evaluation.pictures`, as one self-contained page without a run."""
    data = {"charts": [], "pictures": pictures, "trees": []}
    write_text(path, _page(title, lead, [_pictures(pictures, heading="What happens")], data))


def _page(title: str, lead: str, sections: list[str], data: dict[str, list[Any]], *, tiles: str = "") -> str:
    return Template((HERE / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=escape(lead),
        tiles=tiles,
        sections="\n".join(filter(None, sections)),
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        data=embedded(data),
        plotly=_plotly() if data["charts"] or data["pictures"] else "",
    )


def drawn(directory: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the charts and the pictures of a run or a comparison, as plain data."""
    comparison = read_comparison(directory)
    if comparison:
        return comparison_charts(comparison), []
    logged = Log(directory / "metrics.jsonl").read()
    charts = charts_of(logged, _optional(directory / "summary.json") or {})
    return charts, _optional(directory / PICTURES) or []


def read_comparison(directory: Path) -> dict[str, Any] | None:
    """Return the result of the comparison in `directory`, which needs no other file; None where none is."""
    found = _optional(directory / "result.json")
    return found if isinstance(found, dict) and "differences" in found else None


def _title(config: dict[str, Any], summary: dict[str, Any] | None) -> str:
    """Return what the page is about: the summary's own title, or what was run on which task.

    >>> _title({"command": "demo", "method": {"rounds": 2}, "task": "chain100"}, None)
    'demo on chain100'
    """
    if summary and "title" in summary:
        return str(summary["title"])
    name = config.get("command") or config.get("method") or "Comparison"
    return f"{name} on {config['task']}" if config.get("task") else str(name)


def embedded(value: Any) -> str:
    r"""Return JSON that is safe inside a script element; numbers that are not finite become null.

    >>> print(embedded({"text": "</script>", "loss": float("nan")}))
    {"text": "\u003c/script\u003e", "loss": null}
    """
    text = json.dumps(_finite(value))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _lead(config: dict[str, Any], done: dict[str, Any] | None) -> str:
    model = f"From {config['model']}. " if config.get("model") else ""
    if not done:
        return f"{model}This run has not finished; the page shows what there is so far."
    minutes = done.get("wall_seconds", 0) / 60
    return f"{model}Seed {config['seed']}, {minutes:.1f} minutes." if "seed" in config else model


def _tiles(summary: dict[str, Any]) -> str:
    """The three figures people look for first: before, after, gain."""
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


def _results(summary: dict[str, Any]) -> str:
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
    return _section("Results", f'<div class="scroll"><table>{head}{"".join(body)}</table></div>')


def _held_to(lines: list[dict[str, Any]]) -> str:
    body = "".join(
        f"<tr><td>{escape(line['name'])}</td><td class=n>{figure(line['value'], False)}</td>"
        f"<td class=n>{bounds(line)}</td><td>{KEPT if line['holds'] else BROKEN}</td></tr>"
        for line in lines
    )
    head = "<tr><th></th><th class=n>measured</th><th class=n>must be</th><th></th></tr>"
    table = f'<div class="scroll"><table>{head}{body}</table></div>'
    return _section("Held to exact results", table) if lines else ""


def _figures(metrics: dict[str, Any]) -> str:
    """List what a method measured beside its results: the plain numbers and words among its metrics."""
    found = {name: value for name, value in metrics.items() if isinstance(value, int | float | str)}
    facts = {
        name.replace("_", " "): figure(value, False) if isinstance(value, float) else value
        for name, value in found.items()
    }
    return _section("Figures", _facts(facts)) if facts else ""


def _bar(value: float, low: Any, high: Any, scale: float) -> str:
    """Return a bar as long as `value` is of `scale`, with a whisker from `low` to `high`."""

    def share(figure: float) -> float:
        return 100 * max(0.0, figure) / scale

    whisker = ""
    if low is not None and high is not None:
        whisker = f'<u style="left:{share(low):.1f}%;width:{share(high) - share(low):.1f}%"></u>'
    return f'<div class="track"><i style="width:{share(value):.1f}%"></i>{whisker}</div>'


def _charts(charts: list[dict[str, Any]]) -> str:
    boxes = "".join(
        f"<h3>{escape(chart['title'])}</h3>"
        f'<div class="card"><div class="chart" id="{escape(chart["id"])}"></div></div>'
        for chart in charts
    )
    return _section("Curves", boxes) if charts else ""


def _height(picture: dict[str, Any]) -> str:
    """Return the style of a picture that says how tall it is, such as a table with many rows."""
    height = picture["layout"].get("height")
    return f' style="height: {int(height)}px"' if height else ""


def _pictures(pictures: list[dict[str, Any]], heading: str = "What happened") -> str:
    boxes = "".join(
        f"<h3>{escape(picture['title'])}</h3>"
        + (f'<p class="note">{escape(picture["note"])}</p>' if picture["note"] else "")
        + f'<div class="card"><div class="chart{MOVES * ("frames" in picture)}" id="picture-{i}"'
        + f"{_height(picture)}></div></div>"
        for i, picture in enumerate(pictures)
    )
    return _section(heading, boxes) if pictures else ""


def _trees(trees: list[dict[str, Any]]) -> str:
    if not trees:
        return ""
    return _section(
        "Search trees",
        '<p class="note">A stronger colour is a higher value, &times;n counts visits; green and red '
        "borders mark finished solutions that are right and wrong. Drag to move, "
        "turn the wheel to zoom, choose a node to read it.</p>"
        '<div class="bar-row"><select id="tree-choice" aria-label="tree"></select>'
        '<button id="tree-in" aria-label="zoom in">+</button>'
        '<button id="tree-out" aria-label="zoom out">&minus;</button>'
        '<button id="tree-fit">whole tree</button>'
        '<label><input type="checkbox" id="tree-visited"> visited only</label></div>'
        '<div class="tree"><svg id="tree" role="group" aria-label="search tree"></svg>'
        '<aside id="tree-details"></aside></div>',
    )


def _samples(samples: list[dict[str, Any]]) -> str:
    if not samples:
        return ""
    changes = [_change(sample) for sample in samples]
    names = {"gained": "newly right", "lost": "newly wrong", "same": "unchanged"}
    cards = "".join(
        f'<article class="sample" data-change="{change}">'
        f'<pre class="prompt">{escape(str(sample["prompt"]))}</pre>'
        f'<div class="pair">{_text("before", sample)}{_text("after", sample)}</div></article>'
        for sample, change in zip(samples, changes, strict=True)
    )
    return _section("Samples before and after", _buttons(changes, names) + cards)


def _answers(answers: list[dict[str, Any]]) -> str:
    if not answers:
        return ""
    kinds = ["right" if answer["right"] else "wrong" for answer in answers]
    cards = "".join(
        f'<article class="sample" data-change="{kind}"><pre class="prompt">{escape(answer["prompt"])}</pre>'
        f'<span class="mark">{_mark(answer["right"])}</span><pre>{escape(answer["solution"])}</pre></article>'
        for kind, answer in zip(kinds, answers, strict=True)
    )
    return _section("Answers", _buttons(kinds, {"right": "right", "wrong": "wrong"}) + cards)


def _buttons(kinds: list[str], names: dict[str, str]) -> str:
    """Return the buttons that leave only one kind of the cards below them."""
    cells = "".join(
        f'<button data-filter="{key}" aria-pressed="{str(key == "all").lower()}">{name} '
        f"({len(kinds) if key == 'all' else kinds.count(key)})</button>"
        for key, name in {"all": "all", **names}.items()
    )
    return f'<div class="bar-row">{cells}</div>'


def _change(sample: dict[str, Any]) -> str:
    before, after = bool(sample.get("before_right")), bool(sample.get("after_right"))
    return "same" if before == after else "gained" if after else "lost"


def _text(when: str, sample: dict[str, Any]) -> str:
    mark = _mark(bool(sample.get(f"{when}_right")))
    return f'<div><span class="mark">{when} {mark}</span><pre>{escape(str(sample[when]))}</pre></div>'


def _mark(right: bool) -> str:
    return '<span class="right">✓ right</span>' if right else '<span class="wrong">✗ wrong</span>'


def _spent(summary: dict[str, Any]) -> str:
    limits = summary.get("budget") or {}
    body = "".join(
        f"<tr><td>{escape(unit.replace('_', ' '))}</td><td class=n>{_amount(amount)}</td>"
        f"<td class=n>{_amount(limits[unit]) if unit in limits else 'no limit'}</td></tr>"
        for unit, amount in (summary.get("spent") or {}).items()
    )
    head = "<tr><th></th><th class=n>spent</th><th class=n>limit</th></tr>"
    return _section("Budget", f'<div class="scroll"><table>{head}{body}</table></div>') if body else ""


def _amount(number: float) -> str:
    return f"{number:.3g}" if number >= 1e10 else f"{number:,.0f}" if number >= 100 else f"{number:,.3g}"


def _made(config: dict[str, Any], done: dict[str, Any]) -> str:
    facts = {
        **flatten({"hardware": done.get("hardware", {})}),
        **flatten({"versions": done.get("versions", {})}),
    }
    machine = f"<h3>Machine</h3>{_facts(facts)}" if facts else ""
    return _section(
        "How it was made",
        f"<details open><summary>Settings</summary>{_facts(flatten(config))}</details>{machine}",
    )


def _facts(facts: dict[str, Any]) -> str:
    rows = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items()
    )
    return f"<dl>{rows}</dl>"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"
