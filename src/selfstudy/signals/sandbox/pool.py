"""A pool of sandboxes that judges many programs at a time."""

from __future__ import annotations

import atexit
import functools
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from selfstudy.core.errors import UsageError
from selfstudy.core.machine import cores
from selfstudy.signals.sandbox.judging import judge_program
from selfstudy.signals.sandbox.pairs import Pair
from selfstudy.signals.sandbox.programs import Limits, Program, Verdict


class Sandbox:
    """Judges programs, several at a time, with the next processes always started ahead.

    Use it as a context: at its end every process is gone. Threads may share one.
    """

    def __init__(self, workers: int | None = None, limits: Limits | None = None) -> None:
        """Make a pool; processes start with the first program.

        Args:
            workers: how many programs are judged at a time, the cores of this process by default.
            limits: of every program.

        Raises:
            UsageError: fewer than one worker.
        """
        workers = cores() if workers is None else workers
        if workers < 1:
            raise UsageError(f"A sandbox needs at least one worker, {workers} were asked for.")
        self.limits = limits or Limits()
        self._waiting: deque[Pair] = deque()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")

    def judge(self, programs: Sequence[Program]) -> list[Verdict]:
        """Return the verdict of each program, in order.

        Raises:
            MachineError: bubblewrap is not installed, or this machine does not let it work.
        """
        futures = [self._workers.submit(self._judge, program) for program in programs]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End every process; what is being judged is judged first."""
        self._end_waiting()  # first, since they are cut off when the threads that started them end
        self._workers.shutdown()
        self._end_waiting()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _end_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().end()

    def _judge(self, program: Program) -> Verdict:
        return judge_program(program, self.limits, self._take)

    def _take(self) -> Pair:
        """Return a waiting pair, and start the next, which is ready when this one has been used."""
        try:
            pair = self._waiting.popleft()
        except IndexError:
            pair = Pair(self.limits)
        self._waiting.append(Pair(self.limits))
        return pair


_pools: dict[Limits, Sandbox] = {}
_choosing = threading.Lock()


def judge(programs: Sequence[Program], limits: Limits | None = None) -> list[Verdict]:
    """Return the verdict of each program, in order.

    All programs with the same limits share one pool, which has a worker for each core and is closed when
    Python ends. Threads may call this at the same time.

    Raises:
        MachineError: bubblewrap is not installed, or this machine does not let it work.
    """
    limits = limits or Limits()
    with _choosing:
        if limits not in _pools:
            _pools[limits] = Sandbox(limits=limits)
        pool = _pools[limits]
    return pool.judge(programs)


@functools.cache
def require_sandbox() -> None:
    """See that programs can be judged on this machine; costs one start of a sandbox, once.

    Raises:
        MachineError: bubblewrap is not installed, or this machine does not let it work.
    """
    with Sandbox(1) as sandbox:
        sandbox.judge([Program(code="", tests=("",), names=())])


def _forget() -> None:
    """Leave the pools to the process that made them; a forked one makes its own."""
    global _choosing
    _pools.clear()
    _choosing = threading.Lock()


@atexit.register
def _close() -> None:
    while _pools:
        _pools.popitem()[1].close()


os.register_at_fork(after_in_child=_forget)
