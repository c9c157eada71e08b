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
from selfstudy.app.report_exhibits import answers_part, charts_part, pictures_part, samples_part, trees_part
from selfstudy.app.report_tables import (
    figures_part,
    held_to_part,
    made_part,
    results_part,
    section,
    spent_part,
    tiles_part,
)
from selfstudy.app.saving import PICTURES
from selfstudy.app.trees import TREES
from selfstudy.core.errors import UsageError
from selfstudy.core.files import Log, read_json, write_text

HERE = Path(__file__).parent
REPORT = "report.html"
SAMPLES = "samples.json"
ANSWERS, SHOWN = "answers.jsonl", 24  # of an evaluation; so many of them


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
        results_part(summary),
        section("Comparison", comparison_tables(comparison)) if comparison else "",
        held_to_part(summary.get("held_to") or []),
        figures_part(summary.get("metrics") or {}),
        pictures_part(pictures),
        charts_part(charts),
        trees_part(trees),
        samples_part(_optional(directory / SAMPLES) or []),
        answers_part(Log(directory / ANSWERS).read()[:SHOWN]),
        spent_part(summary),
        made_part(config, summary or comparison or {}),
    ]
    page = _page(
        _title(config, summary),
        _lead(config, summary or comparison),
        sections,
        {"charts": charts, "pictures": pictures, "trees": trees},
        tiles=tiles_part(summary),
    )
    path = directory / REPORT
    write_text(path, page)
    return path


def write_pictures(path: Path, title: str, lead: str, pictures: list[dict[str, Any]]) -> None:
    """Write pictures, as made by `evaluation.pictures`, as one self-contained page without a run."""
    data = {"charts": [], "pictures": pictures, "trees": []}
    write_text(path, _page(title, lead, [pictures_part(pictures, heading="What happens")], data))


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
