"""Schedules of a learning rate: pure functions of the step, as shares of the peak, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from selfstudy.core.errors import UsageError, nearest

DROPS, DROP = (0.5, 0.75), 0.1  # shares of the steps after which "steps" falls, and to what share

ScheduleName = Literal["constant", "linear", "cosine", "steps", "stable"]
"""Of `SCHEDULES`."""


def cosine(done: float) -> float:
    """Return half a cosine from 1 to 0 (Loshchilov and Hutter 2017).

    >>> [round(cosine(done), 2) for done in (0, 0.25, 0.5, 1)]
    [1.0, 0.85, 0.5, 0.0]
    """
    return (1 + math.cos(math.pi * done)) / 2


def stepped(done: float) -> float:
    """Return 1, a tenth after one half, and a hundredth after three quarters."""
    return DROP ** sum(done >= drop for drop in DROPS)


def stable(done: float, decay: float = 0.2) -> float:
    """Return 1, and over the last `decay` of the steps a line to 0: with a warm-up, warm-up-stable-decay.

    >>> [round(stable(done), 2) for done in (0, 0.8, 0.9, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return min(1.0, (1 - done) / decay)


# The share of the peak after a share of the steps that follow the warm-up.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": cosine,
    "steps": stepped,
    "stable": stable,
}


def share_of_peak(name: ScheduleName, step: int, steps: int, warmup: float = 0.0) -> float:
    """Return the learning rate of a step as a share of its peak: a linear warm-up, then a schedule.

    >>> [round(share_of_peak("cosine", step, 4), 2) for step in range(4)]
    [1.0, 0.85, 0.5, 0.15]
    >>> [round(share_of_peak("linear", step, 5, warmup=0.4), 2) for step in range(5)]
    [0.5, 1.0, 1.0, 0.67, 0.33]

    Args:
        name: of the schedule.
        step: from 0.
        steps: in all.
        warmup: share of the steps over which the rate rises; its last step is at the peak.

    Raises:
        UsageError: no such schedule.
    """
    if name not in SCHEDULES:
        raise UsageError(f"There is no schedule {name!r}. {nearest(name, SCHEDULES)}")
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return SCHEDULES[name]((step - rising) / (steps - rising))
