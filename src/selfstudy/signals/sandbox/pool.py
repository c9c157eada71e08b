"""A pool of sandboxes that judges many programs at a time."""

from __future__ import annotations

from collections.abc import Sequence

from selfstudy.signals.sandbox.programs import Limits, Program, Verdict


def require_sandbox() -> None:
    """See that programs can be judged on this machine; costs one start of a sandbox, once.

    Raises:
        MachineError: bubblewrap is not installed, or this machine does not let it work.
    """
    raise NotImplementedError


def judge(programs: Sequence[Program], limits: Limits | None = None) -> list[Verdict]:
    """Return the verdict of each program, in order.

    All programs with the same limits share one pool, which has a worker for each core and is closed when
    Python ends. Threads may call this at the same time.

    Raises:
        MachineError: bubblewrap is not installed, or this machine does not let it work.
    """
    raise NotImplementedError
