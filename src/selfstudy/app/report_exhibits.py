"""Parts of the report that are looked at: curves, pictures, search trees, and what a model wrote."""

from __future__ import annotations

from html import escape
from typing import Any

from selfstudy.app.report_tables import section

MOVES = " moving"  # a class of the style sheet


def pictures_part(pictures: list[dict[str, Any]], heading: str = "What happened") -> str:
    """Return pictures with their notes; the script of the page draws them."""
    boxes = "".join(
        f"<h3>{escape(picture['title'])}</h3>"
        + (f'<p class="note">{escape(picture["note"])}</p>' if picture["note"] else "")
        + f'<div class="card"><div class="chart{MOVES * ("frames" in picture)}" id="picture-{i}"'
        + f"{_height(picture)}></div></div>"
        for i, picture in enumerate(pictures)
    )
    return section(heading, boxes) if pictures else ""


def _height(picture: dict[str, Any]) -> str:
    """Return the style of a picture that says how tall it is, such as a table with many rows."""
    height = picture["layout"].get("height")
    return f' style="height: {int(height)}px"' if height else ""


def charts_part(charts: list[dict[str, Any]]) -> str:
    """Return curves; the script of the page draws them."""
    boxes = "".join(
        f"<h3>{escape(chart['title'])}</h3>"
        f'<div class="card"><div class="chart" id="{escape(chart["id"])}"></div></div>'
        for chart in charts
    )
    return section("Curves", boxes) if charts else ""


def trees_part(trees: list[dict[str, Any]]) -> str:
    """Return search trees to choose from and walk through."""
    if not trees:
        return ""
    return section(
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


def samples_part(samples: list[dict[str, Any]]) -> str:
    """Return what the model answered before and after, with buttons for what changed."""
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
    return section("Samples before and after", _buttons(changes, names) + cards)


def _text(when: str, sample: dict[str, Any]) -> str:
    mark = _mark(bool(sample.get(f"{when}_right")))
    return f'<div><span class="mark">{when} {mark}</span><pre>{escape(str(sample[when]))}</pre></div>'


def _change(sample: dict[str, Any]) -> str:
    before, after = bool(sample.get("before_right")), bool(sample.get("after_right"))
    return "same" if before == after else "gained" if after else "lost"


def answers_part(answers: list[dict[str, Any]]) -> str:
    """Return what an evaluation answered, with buttons for right and wrong."""
    if not answers:
        return ""
    kinds = ["right" if answer["right"] else "wrong" for answer in answers]
    cards = "".join(
        f'<article class="sample" data-change="{kind}"><pre class="prompt">{escape(answer["prompt"])}</pre>'
        f'<span class="mark">{_mark(answer["right"])}</span><pre>{escape(answer["solution"])}</pre></article>'
        for kind, answer in zip(kinds, answers, strict=True)
    )
    return section("Answers", _buttons(kinds, {"right": "right", "wrong": "wrong"}) + cards)


def _mark(right: bool) -> str:
    return '<span class="right">✓ right</span>' if right else '<span class="wrong">✗ wrong</span>'


def _buttons(kinds: list[str], names: dict[str, str]) -> str:
    """Return the buttons that leave only one kind of the cards below them."""
    cells = "".join(
        f'<button data-filter="{key}" aria-pressed="{str(key == "all").lower()}">{name} '
        f"({len(kinds) if key == 'all' else kinds.count(key)})</button>"
        for key, name in {"all": "all", **names}.items()
    )
    return f'<div class="bar-row">{cells}</div>'
