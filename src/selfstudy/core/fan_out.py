"""Items of a run done by many processes at once, through Ray: on this machine, or on a cluster.

A run with a fan-out does the same as one without: what an item comes to depends on the seed and on the item
alone, and items are recorded and paid for in their order. A worker that dies is replaced, and its item done
once more.
"""

from __future__ import annotations

import bisect
import contextlib
import logging
import reprlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from selfstudy.core.cluster import connected
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.workers import Outcome, Worker

if TYPE_CHECKING:
    from selfstudy.core.run import Run

log = logging.getLogger(__name__)
DEATHS = 2  # so many workers may not die of one item
AHEAD = 2  # items a worker that are done at most before an earlier one is recorded
LISTEN = 0.2  # seconds between two looks at whether a signal asks the run to stop


class FanOut:
    """Workers on the Ray cluster that this process is connected to; made by `fan_out`.

    Attributes:
        count: most workers at a time.
    """

    def __init__(self, count: int, *, on_gpus: bool = False) -> None:
        import ray

        self.count = count
        self._kind = ray.remote(num_cpus=1, num_gpus=int(on_gpus), max_restarts=0)(Worker)
        self._idle: list[Any] = []

    def map(
        self, run: Run, name: str, items: Sequence[Any], work: Callable[[Any], Any], *, first: int = 1
    ) -> Generator[Any, None, None]:
        """Yield `work(item)` for each item in order, its charges and log lines just repeated on `run`.

        Args:
            run: whose meter and log it is.
            name: of the map, for messages.
            items: what workers take, one at a time.
            work: goes to each worker once.
            first: number of the first item, for messages.

        Raises:
            UsageError: work that cannot be sent.
            MachineError: an item whose worker died twice.
        """
        sharing = _Sharing(self, run, name, items, _packed(run, name, work), first)
        try:
            for place, item in enumerate(items):
                sharing.hand_out(place)
                while place not in sharing.done:
                    run.check()
                    sharing.collect()
                    sharing.hand_out(place)
                yield repeated(run, work, item, sharing.done.pop(place))
        finally:
            sharing.end()

    def worker(self) -> Any:
        """Return a worker with nothing to do."""
        return self._idle.pop() if self._idle else self._kind.remote()

    def take_back(self, worker: Any) -> None:
        """Keep a worker for what comes next."""
        self._idle.append(worker)

    def end(self) -> None:
        """End the idle workers: their cluster may live on."""
        import ray

        while self._idle:
            ray.kill(self._idle.pop())

    def forget(self) -> None:
        """Let idle workers let go of the last work."""
        for worker in self._idle:
            worker.forget.remote()


class _Sharing:
    """One map on its way: which items wait, which are being done, what came of those that are done."""

    def __init__(
        self, workers: FanOut, run: Run, name: str, items: Sequence[Any], packed: Any, first: int
    ) -> None:
        self.workers, self.run, self.name, self.items, self.packed = workers, run, name, items, packed
        self.first = first
        self.waiting = list(range(len(items)))
        self.busy: dict[Any, tuple[Any, int]] = {}  # by coming outcome: worker, item
        self.done: dict[int, Outcome] = {}
        self.deaths: Counter[int] = Counter()

    def hand_out(self, place: int) -> None:
        """Give each free worker an item, while the oldest that is not recorded is at `place`."""
        most = place + AHEAD * self.workers.count
        while self.waiting and len(self.busy) < self.workers.count and self.waiting[0] < most:
            worker, item = self.workers.worker(), self.waiting.pop(0)
            outcome = worker.do.remote([self.packed], self.items[item], self.run.meter.snapshot())
            self.busy[outcome] = worker, item

    def collect(self) -> None:
        """Wait a moment for an item to be done."""
        import ray

        for reference in ray.wait(list(self.busy), timeout=LISTEN)[0]:
            worker, item = self.busy.pop(reference)
            try:
                self.done[item] = ray.get(reference)
                self.workers.take_back(worker)
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
                ray.kill(worker)  # where it only could not be reached: nobody does an item twice
                self._died(item, error)

    def _died(self, item: int, error: Exception) -> None:
        self.deaths[item] += 1
        number = self.first + item
        if self.deaths[item] < DEATHS:
            log.warning("A worker died in item %d of %r; another does it again.", number, self.name)
            bisect.insort(self.waiting, item)
        else:
            self.done[item] = Outcome(error=_twice_dead(self.name, number, self.items[item], error))

    def end(self) -> None:
        """End what is not wanted any more, and let go of the work."""
        import ray

        for worker, _ in self.busy.values():
            ray.kill(worker)
        self.workers.forget()


def _packed(run: Run, name: str, work: Callable[[Any], Any]) -> Any:
    """Put the work where workers read it, in one piece: what occurs in it twice stays one object."""
    import ray

    try:
        return ray.put(ray.cloudpickle.dumps((work, run, run.meter)))
    except Exception as error:  # whatever the objects in it raise
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"The work of {name!r} cannot be sent to Ray workers ({type(error).__name__}: {reason}). Tasks, "
            "models and functions that are sent must not hold open files, locks or connections. Change that, "
            "or run without --ray."
        ) from error


def repeated(run: Run, work: Callable[[Any], Any], item: Any, outcome: Outcome) -> Any:
    """Charge and log on `run` what another process did for it; return its value or raise its error."""
    units = {unit for amounts in outcome.charges for unit in amounts}
    total = {unit: sum(amounts.get(unit, 0) for amounts in outcome.charges) for unit in units}
    if outcome.refused or (total and not run.meter.affords(**total)):
        return work(
            item
        )  # the budget ends inside this item: done here, it ends where it would without workers
    for amounts in outcome.charges:
        run.meter.charge(**amounts)
    for line in outcome.lines:
        run.log(**line)
    for logger, level, text in outcome.said:
        logging.getLogger(logger).log(level, "%s", text)
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def _twice_dead(name: str, number: int, item: Any, error: Exception) -> MachineError:
    reason = next((line for line in str(error).splitlines() if "Worker exit" in line), str(error))
    failure = MachineError(
        f"Item {number} of {name!r} ({reprlib.repr(item)}) ended {DEATHS} workers, one after the other "
        f"({' '.join(reason.split())[:300]}). The items before it are recorded. If memory ran out, use fewer "
        "workers or smaller batches; else repair what it does. Then resume the run."
    )
    failure.__cause__ = error
    return failure


@contextlib.contextmanager
def fan_out(where: str | FanOut | None, *, workers: int | None = None) -> Iterator[FanOut | None]:
    """Have workers for the length of a block; none at all for None.

    Args:
        where: "local" starts a Ray cluster on this machine and ends it; "auto" takes the one that this
            machine belongs to, or that RAY_ADDRESS names, else starts a local one; HOST:PORT is the head of
            one that this machine belongs to. A fan-out is used as it is.
        workers: most at a time; None is one for each free core of the cluster, or for each GPU where the
            models of this process are on GPUs.

    Raises:
        UsageError: none of these words, or a process that is connected to another cluster.
        MissingExtra: Ray is not installed.
        MachineError: no cluster answers, or it has nothing free.
    """
    if where is None or isinstance(where, FanOut):
        yield where
        return
    with connected(where, workers or 1) as free:
        on_gpus = bool(free.get("GPU")) and _models_on_gpus()
        count = int(free.get("GPU" if on_gpus else "CPU", 0))
        if not count:
            raise MachineError(
                f"The Ray cluster {where} has no free core. Wait for its other work to end, or take "
                "--ray local."
            )
        found = FanOut(min(count, workers or count), on_gpus=on_gpus)
        try:
            yield found
        finally:
            found.end()


def _models_on_gpus() -> bool:
    import torch

    return torch.cuda.is_available()
