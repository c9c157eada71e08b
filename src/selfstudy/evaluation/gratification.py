"""Delayed gratification: a series that gets worse for a while, and then better by more than it had lost.

Zhang, Goldstein, Levin 2024, arXiv 2401.05375. It works on any series: errors of an array that sorts itself,
or the loss of a training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfstudy.core.errors import DataError


def delayed_gratification(
    series: Sequence[float] | np.ndarray, *, higher_is_better: bool = False, released: bool = False
) -> float:
    """Return the mean gain of detours, (|d| - u) / u for a rise u that a fall d follows; 0 without any.

    Equal neighbours are dropped and steps of one sign merged into segments; a fall at the start is skipped.

    >>> delayed_gratification([5, 6, 7, 3, 3, 4, 2])
    1.0

    Args:
        series: errors or losses in the order of time.
        higher_is_better: for a series of scores, which is turned over.
        released: as the authors' program has it: the sum instead of the mean where the series ends in a rise.

    Raises:
        DataError: a value that is not finite.
    """
    values = np.asarray(series, dtype=float)
    if not np.isfinite(values).all():
        raise DataError(
            "Delayed gratification needs finite values. Cut the series where it stops being finite."
        )
    steps = np.diff(-values if higher_is_better else values)
    steps = steps[steps != 0]
    starts = np.flatnonzero(np.diff(np.sign(steps), prepend=0))
    segments = np.add.reduceat(steps, starts) if len(starts) else np.zeros(0)
    segments = segments[1:] if len(segments) and segments[0] < 0 else segments
    # Signs alternate, so rises are at even places; the last one may have no fall after it.
    falls = segments[1::2]
    rises = segments[0::2][: len(falls)]
    if not len(falls):
        return 0.0
    gains = (-falls - rises) / rises
    unfinished = len(segments) % 2 == 1
    return float(gains.sum() if released and unfinished else gains.mean())
