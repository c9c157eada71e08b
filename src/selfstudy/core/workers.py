"""What runs in the worker processes of a fan-out: a run as its work sees it there, and the worker itself."""

from __future__ import annotations

import contextlib
import logging
import platform
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from selfstudy.core import random
from selfstudy.core.errors import BudgetSpent, MachineError, SelfstudyError, UsageError
from selfstudy.core.machine import set_threads

if TYPE_CHECKING:
    import numpy as np

    from selfstudy.core.budget import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one item came to, with all that its run has to repeat to be as if it had been done there."""

    value: Any = None
    error: Exception | None = None
    charges: tuple[dict[str, float], ...] = ()
    """Every charge asked of the run's meter, in order."""
    refused: bool = False
    """Whether the budget refused one of them."""
    lines: tuple[dict[str, Any], ...] = ()
    """What was given to `Run.log`."""
    said: tuple[tuple[str, int, str], ...] = ()
    """Messages to Python's loggers: name, level, text."""


class RemoteRun:
    """What the work of `Run.map` finds in a worker in the place of its run: `Run` pickles as one."""

    def __init__(self, seed: int, meter: Meter) -> None:
        self.seed, self.meter = seed, meter
        self.lines: list[dict[str, Any]] = []

    def key(self, *parts: object) -> int:
        """Return the 64-bit key of the stream `parts` of the run's seed."""
        return random.stream_key(self.seed, *parts)

    def rng(self, *parts: object) -> np.random.Generator:
        """Return a generator that depends on the run's seed and `parts` alone."""
        return random.generator(self.seed, *parts)

    def log(self, **values: Any) -> None:
        """Keep one line for the run's metrics.jsonl."""
        self.lines.append(values)

    def check(self) -> None:
        """Go on: the run's own process hears the signals, and ends its workers."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise UsageError(
            "Work that is fanned out to Ray workers may use the run's key, rng, meter, check and log alone. "
            "Take its stages, steps and maps out of it, or run without --ray."
        )

    stage = steps = map = map_batches = result = metrics = _refuse


class _Said(logging.Handler):
    """Keeps what our loggers say, to be said again where people look."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append((record.name, record.levelno, record.getMessage()))


def attempt(
    work: Callable[[Any], Any],
    item: Any,
    meter: Meter,
    lines: list[dict[str, Any]],
    *,
    where: str = "another process",
) -> Outcome:
    """Return what `work(item)` comes to, so that the run can repeat it.

    Args:
        work: does the item.
        item: what it takes.
        meter: the one that the work charges; its counts are at what the run had spent before.
        lines: gets what the work gives to `Run.log`.
        where: for the traceback of an unexpected error.
    """
    meter.refused, meter.record = None, []
    lines.clear()
    value, failure = None, None
    with _heard() as said:
        try:
            value = work(item)
        except BudgetSpent:
            pass  # `refused` says so
        except Exception as error:
            if not isinstance(error, SelfstudyError):
                error.add_note(f"In {where}:\n{traceback.format_exc()}")
            failure = error
    charges, meter.record = tuple(meter.record), None
    return Outcome(
        value=value,
        error=failure,
        charges=charges,
        refused=meter.refused is not None,
        lines=tuple(lines),
        said=tuple(said),
    )


@contextlib.contextmanager
def _heard() -> Iterator[list[tuple[str, int, str]]]:
    """Keep what our loggers say in the block to themselves: it is said again where people look."""
    logger, listener = logging.getLogger("selfstudy"), _Said()
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [listener], False
    try:
        yield listener.messages
    finally:
        logger.handlers, logger.propagate = before


class Worker:
    """One process that does items of one map at a time; a Ray actor."""

    def __init__(self) -> None:
        set_threads()
        self._packed: Any = None
        self._unpacked: Any = None

    def do(self, packed: list[Any], item: Any, spent: dict[str, float]) -> Outcome:
        """Return what `item` comes to.

        Args:
            packed: one reference to the bytes of (work, run, meter); read when it is another than the last.
            item: what the work takes.
            spent: what the run had spent when it handed the item out.
        """
        try:
            work, run, meter = self._read(packed[0])
        except Exception as error:  # of whatever is imported and made
            return Outcome(error=_unreadable(error))
        meter.restore(spent)
        return attempt(work, item, meter, run.lines, where="a Ray worker")

    def _read(self, packed: Any) -> tuple[Any, RemoteRun, Meter]:
        import ray

        if packed != self._packed:
            self._unpacked = ray.cloudpickle.loads(ray.get(packed))
            self._packed = packed
        return self._unpacked

    def forget(self) -> None:
        """Let go of the last work and the models in it."""
        self._packed = self._unpacked = None


def _unreadable(error: Exception) -> MachineError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return MachineError(
        f"A Ray worker on {platform.node()} cannot read the work that it is sent ({reason}). Install the "
        "same versions of selfstudy and of the packages that the task and the model need on every machine of "
        "the cluster."
    )
