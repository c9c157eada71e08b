"""The processes of one run, where `torchrun` or `accelerate launch` has started several.

All go through the same program. The first, the leader, owns the run's directory, its log, its clock and the
screen; what only it knows it hands over. Items of a run are shared: each process does every n-th.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from selfstudy.core.errors import MachineError, SelfstudyError, UsageError

if TYPE_CHECKING:
    from selfstudy.core.run import Run

Value = TypeVar("Value")
PATIENCE = timedelta(days=30)  # one process may search for long while another waits for it


class Group:
    """This process among those of its run; by default it is the only one.

    Attributes:
        rank: its number; 0 leads.
        count: of all processes.
    """

    def __init__(self, rank: int = 0, count: int = 1, channel: Any = None) -> None:
        self.rank, self.count, self._channel = rank, count, channel

    @property
    def leads(self) -> bool:
        """Whether this process owns the run's directory."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """Return the values of all processes, by rank."""
        if self.count == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self._channel)
        return values

    def agree(self, value: Value) -> Value:
        """Return the leader's value."""
        if self.count == 1:
            return value
        from torch import distributed

        values = [value if self.leads else None]
        distributed.broadcast_object_list(values, src=0, group=self._channel)
        return values[0]  # type: ignore[return-value]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in some process."""
        if self.count == 1:
            return list(flags)
        import torch
        from torch import distributed

        numbers = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(numbers, distributed.ReduceOp.MAX, group=self._channel)
        return [bool(number) for number in numbers]

    def lead(self, work: Callable[[], Value]) -> Value:
        """Let the leader do `work`; all get what it returns, or raise what it raises for users."""
        if self.count == 1:
            return work()
        value, failure = self.agree(self._tried(work))
        if failure is not None:
            raise failure
        return value

    def _tried(self, work: Callable[[], Any]) -> tuple[Any, SelfstudyError | None]:
        if self.leads:
            try:
                return work(), None
            except SelfstudyError as error:
                return None, error
        return None, None

    def require_shared(self, directory: Path) -> None:
        """Raise `MachineError` in all processes if one of them does not see the leader's directory."""
        seen = self.gather((directory.is_dir(), socket.gethostname()))
        blind = sorted({host for sees, host in seen if not sees})
        if blind:
            raise MachineError(
                f"The run's directory {directory}, as the first process made it, is not there on "
                f"{', '.join(blind)}. All processes of a run read its checkpoints: give an --out on a file "
                "system that all machines share."
            )

    def share(self, run: Run, items: Sequence[Any], work: Callable[[Any], Any]) -> Generator[Any, None, None]:
        """Yield `work(item)` for each item in order, charged and logged as one process would do it.

        In each round every process does one item. Then the leader pays for them, one after the other; where
        the budget ends inside an item, it does that item again, up to there.
        """
        from selfstudy.core.fan_out import repeated  # with numpy, which `selfstudy --help` does without

        for first in range(0, len(items), self.count):
            run.check_together()
            part = items[first : first + self.count]
            outcome = run.attempt(work, part[self.rank]) if self.rank < len(part) else None
            for item, done in zip(part, filter(None, self.gather(outcome)), strict=True):
                yield self._paid(run, partial(repeated, run, work, item, done))

    def _paid(self, run: Run, work: Callable[[], Any]) -> Any:
        done = self._tried(work)
        (value, failure), spent, refused = self.agree((done, run.meter.snapshot(), run.meter.refused))
        if not self.leads:
            run.meter.restore(spent)
            run.meter.refused = refused
        if failure is not None:
            raise failure
        return value


def launched() -> int:
    """Return how many processes `torchrun` or `accelerate launch` has started for this run; 1 without."""
    number = os.environ.get("WORLD_SIZE", "")
    return int(number) if number.isdigit() and "RANK" in os.environ else 1


def silent(error: SelfstudyError) -> bool:
    """Tell whether another process on this machine says the same: what was asked for is the same in all."""
    return os.environ.get("LOCAL_RANK", "0") != "0" and not isinstance(error, MachineError)


def require_alone(what: str) -> None:
    """Raise `UsageError` where several processes were started for work that is done in one."""
    if launched() > 1:
        raise UsageError(
            f"{what} works in one process, and {launched()} were started. Start it without torchrun or "
            "accelerate launch; only `fit` and `resume` of methods that fine-tune language models share "
            "their work."
        )


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """Join the other processes of this run for the length of a block.

    Where there is a group already, of a program that calls this package, it is used and left open.
    """
    if launched() == 1:
        yield Group()
        return
    import torch
    from accelerate import PartialState
    from torch import distributed

    ours = not distributed.is_initialized()
    PartialState(cpu=not torch.cuda.is_available())  # also makes this process's GPU the current one
    channel = distributed.new_group(backend="gloo", timeout=PATIENCE)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size(), channel)
    finally:
        if ours:
            distributed.destroy_process_group()
            PartialState._reset_state()
