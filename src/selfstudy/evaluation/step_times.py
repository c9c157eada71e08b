"""How long steps take, timed in turn so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name")


def step_times(
    steps: Mapping[Name, Callable[[], object]],
    rounds: int = 9,
    clock: Callable[[], float] = time.process_time,
) -> dict[Name, float]:
    """Return the median seconds of each step over rounds in which all are taken once, after a warm-up.

    Args:
        steps: by name; taking one must leave the others as they are.
        rounds: how many.
        clock: the processor time of this process, unless told otherwise: on one thread that is the time that
            the step has on a machine of its own.
    """
    times: dict[Name, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = clock()
            step()
            times[name].append(clock() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}
