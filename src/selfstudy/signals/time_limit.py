"""A limit on the time of functions that are not ours."""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")


def time_limited(work: Callable[..., Result], seconds: float, name: str) -> Callable[..., Result]:
    """Return `work`, cut off by a TimeoutError when a call takes longer than `seconds`.

    The limit holds in the main thread of systems with interval timers, and between two instructions of
    Python; elsewhere a call takes as long as it takes.
    """

    def cut(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{name} took longer than {seconds:g} s")

    @functools.wraps(work)
    def limited(*arguments: object) -> Result:
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return work(*arguments)
        before = signal.signal(signal.SIGALRM, cut)
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return work(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return limited
