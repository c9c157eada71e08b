"""Rows of results out of a summary, and how figures are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NONE = "\u2013"  # a dash where there is no figure
NAMES = {"base": "base model", "trained": "trained model", "rest_em": "ReST-EM", "searchers": "search"}


def rows(summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, row) for everything in a summary that has an accuracy, nested ones too."""
    for key, value in summary.items():
        name = NAMES.get(key, key.replace("_", " "))
        if isinstance(value, dict) and "accuracy" in value:
            yield name, value
        elif isinstance(value, list):
            single = name.removesuffix("s")
            yield from (
                (str(item.get("name", f"{single} {i}")), item)
                for i, item in enumerate(value, 1)
                if isinstance(item, dict) and "accuracy" in item
            )
        elif isinstance(value, dict):
            for inner, found in value.items():
                # Several rows of one name differ by what they were given, which the table shows.
                listed = found if isinstance(found, list) else [found]
                yield from (
                    (f"{name}: {inner}", row) for row in listed if isinstance(row, dict) and "accuracy" in row
                )


def percent(share: Any) -> str:
    """Return a share in percent, or a dash where there is none.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '\u2013')
    """
    return f"{100 * share:.1f} %" if isinstance(share, int | float) else NONE


def points(difference: dict[str, Any]) -> str:
    """Return a difference of shares in percentage points, with its interval.

    >>> points({"mean": 0.05, "low": 0.01, "high": 0.09, "n": 5})
    '+5.0 points (+1.0 to +9.0)'
    """
    mean, low, high = (difference.get(key) for key in ("mean", "low", "high"))
    if mean is None:
        return NONE
    within = f" ({100 * low:+.1f} to {100 * high:+.1f})" if low is not None and high is not None else ""
    return f"{100 * mean:+.1f} points{within}"
