"""Figures with the tolerance that they are held to beside them."""

from __future__ import annotations

import math
from typing import Any


def within(
    name: str, value: float, *, least: float | None = None, most: float | None = None
) -> dict[str, Any]:
    """Return one line of what a result is held to.

    >>> within("gap", 0.01, most=0.02)
    {'name': 'gap', 'value': 0.01, 'at_most': 0.02, 'holds': True}

    Args:
        name: of the figure.
        value: as measured.
        least: it must not be below.
        most: it must not be above.
    """
    bounds = {"at_least": least, "at_most": most}
    holds = math.isfinite(value) and (least is None or value >= least) and (most is None or value <= most)
    return {
        "name": name,
        "value": value,
        **{k: v for k, v in bounds.items() if v is not None},
        "holds": holds,
    }
