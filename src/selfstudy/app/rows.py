"""Rows of results out of a summary, and how figures are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from selfstudy.evaluation.scores import ACCURACY, Metric

NONE = "\u2013"  # a dash where there is no figure
NAMES = {"base": "base model", "trained": "trained model", "rest_em": "ReST-EM", "searchers": "search"}


def metric_of(summary: dict[str, Any]) -> Metric:
    """Return by what a summary judges; accuracy where there is no summary yet."""
    return Metric(**summary["metric"]) if "metric" in summary else ACCURACY


def rows(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, row) for everything in a summary that has its metric's figure, nested ones too."""
    figure_name = metric_of(summary).name

    def is_row(value: Any) -> bool:
        return isinstance(value, dict) and figure_name in value and "count" in value

    for key, value in summary.items():
        name = NAMES.get(key, key.replace("_", " "))
        if is_row(value):
            yield value.get("name", name), value
        elif isinstance(value, list):
            single = name.removesuffix("s")
            yield from (
                (str(item.get("name", f"{single} {i}")), item)
                for i, item in enumerate(value, 1)
                if is_row(item)
            )
        elif isinstance(value, dict):
            for inner, found in value.items():
                # Several rows of one name differ by what they were given, which the table shows.
                listed = found if isinstance(found, list) else [found]
                whole = inner if key == "metrics" else f"{name}: {inner}"
                yield from ((whole, row) for row in listed if is_row(row))


def bounds(line: dict[str, Any]) -> str:
    """Return what a figure is held to, in words.

    >>> bounds({"at_least": 0.99}), bounds({"at_least": 0, "at_most": 0.02})
    ('at least 0.99', 'at least 0, at most 0.02')
    """
    return ", ".join(
        f"{word.replace('_', ' ')} {line[word]:g}" for word in ("at_least", "at_most") if word in line
    )


def percent(share: Any) -> str:
    """Return a share in percent, or a dash where there is none.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '\u2013')
    """
    return f"{100 * share:.1f} %" if isinstance(share, int | float) else NONE


def figure(value: Any, share: bool) -> str:
    """Return a figure as people read it: shares in percent, others with four digits; a dash where it is none.

    >>> figure(0.5, True), figure(0.20623, False), figure(None, False)
    ('50.0 %', '0.2062', '\u2013')
    """
    if share or not isinstance(value, int | float):
        return percent(value)
    return f"{value:.4g}"


def difference_text(found: dict[str, Any], share: bool = True) -> str:
    """Return a difference with its interval; of shares in percentage points.

    >>> difference_text({"mean": 0.05, "low": 0.01, "high": 0.09, "n": 5})
    '+5.0 points (+1.0 to +9.0)'
    >>> difference_text({"mean": 0.05, "low": 0.01, "high": None, "n": 5}, share=False)
    '+0.05'
    """
    mean, low, high = (found.get(key) for key in ("mean", "low", "high"))
    if mean is None:
        return NONE
    known = low is not None and high is not None
    if share:
        within = f" ({100 * low:+.1f} to {100 * high:+.1f})" if known else ""  # type: ignore[operator]
        return f"{100 * mean:+.1f} points{within}"
    return f"{mean:+.4g}" + (f" ({low:+.4g} to {high:+.4g})" if known else "")
