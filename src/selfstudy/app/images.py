"""The charts and pictures of a report as PNG files, for papers and slides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfstudy.app.comparison_page import PALETTE
from selfstudy.app.report import drawn
from selfstudy.core.errors import MachineError, MissingExtra, UsageError

WIDTH, HEIGHT, SCALE = 900, 520, 2  # of a page; so many times as many points
FOLDER = "pictures"


def write_images(directory: Path) -> list[Path]:
    """Draw each chart and picture of a run or comparison into DIRECTORY/pictures; return the files.

    What moves is drawn as it begins. The browser that draws is Chrome or Chromium.

    Raises:
        UsageError: there is nothing to draw.
        MissingExtra: kaleido is not installed.
        MachineError: there is no browser.
    """
    charts, pictures = drawn(directory)
    everything = [*pictures, *charts]
    if not everything:
        raise UsageError(f"There is no chart or picture in {directory}: nothing was drawn.")
    try:
        import kaleido  # noqa: F401 - plotly asks for it
    except ImportError:
        raise MissingExtra("kaleido", "png") from None
    import plotly.io

    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    files = [
        folder / f"{number:02d}-{_safe(chart['title'])}.png" for number, chart in enumerate(everything, 1)
    ]
    try:
        plotly.io.write_images(
            [_figure(chart) for chart in everything], files, width=WIDTH, height=HEIGHT, scale=SCALE
        )
    except RuntimeError as error:
        raise MachineError(
            f"The pictures could not be drawn: {str(error).strip().splitlines()[0]} They need Chrome or "
            "Chromium: install it, such as by apt-get install chromium, or name it in BROWSER_PATH."
        ) from None
    return files


def _figure(chart: dict[str, Any]) -> dict[str, Any]:
    """Return a chart as plotly's figure, as the page's script makes it, on white."""
    layout = {"xaxis": chart.get("xaxis"), "yaxis": chart.get("yaxis"), **(chart.get("layout") or {})}
    shown = [trace for trace in chart["traces"] if trace.get("showlegend") is not False]
    return {
        "data": chart["traces"],
        "layout": {
            "template": "plotly_white",
            "colorway": PALETTE,
            "showlegend": len([trace for trace in shown if trace["type"] != "heatmap"]) > 1,
            "margin": {"l": 70, "r": 20, "t": 70, "b": 60},
            **{key: value for key, value in layout.items() if key not in ("xaxis", "yaxis", "height")},
            "title": {"text": chart["title"], "font": {"size": 15}},
            "xaxis": {"title": {"text": chart["x"]}, **(layout["xaxis"] or {})},
            "yaxis": {"title": {"text": chart["y"]}, **(layout["yaxis"] or {})},
        },
    }


def _safe(title: str) -> str:
    """Return a title as part of a file's name.

    >>> _safe("Accuracy, by method")
    'accuracy-by-method'
    """
    words: Sequence[str] = re.findall(r"[a-z0-9]+", title.lower())
    return "-".join(words)[:60].rstrip("-")
