"""Functions of others are cut off, and nothing is left behind."""

from __future__ import annotations

import signal
import threading

import pytest

from selfstudy.signals.time_limit import time_limited


def forever(*_: object) -> bool:
    while True:
        pass


def test_a_call_without_end_is_cut_off_and_signals_are_put_back() -> None:
    """Oracle: the message names function and limit; handler and timer are those from before."""
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError, match=r"the check took longer than 0\.05 s"):
        time_limited(forever, 0.05, "the check")(1, 2)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_others_pass() -> None:
    """Oracle: the function's own results and exceptions, here and in another thread."""
    doubled = time_limited(lambda x: 2 * x, 10, "doubling")
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(doubled(4)))
    thread.start()
    thread.join()
    assert doubled(3) == 6 and found == [8]
    with pytest.raises(ZeroDivisionError):
        time_limited(lambda: 1 // 0, 10, "division")()
