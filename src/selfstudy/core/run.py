"""One experiment in one directory that survives being killed at any moment.

The directory:

    run.json            what was asked for: method, task, model, seed, every field
    metrics.jsonl       one line a logged step
    stages/NAME/        the finished results of `run.stage`
    partial/            checkpoints and records of what is under way
    summary.json        at the end: metrics with intervals, budget spent, versions, hardware

A resumed run goes through its program again from the top: what is finished is read back, what was saved is
loaded, and the counts and the log follow.

Several processes may go through one run together. Then the first of them writes all of this and decides what
depends on the clock, and the others read it; see `selfstudy.core.group`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from selfstudy.core import checkpoint, random
from selfstudy.core.budget import Budget, Meter
from selfstudy.core.directory import open_directory
from selfstudy.core.errors import BudgetSpent, Stopped, UsageError
from selfstudy.core.fan_out import FanOut
from selfstudy.core.files import Journal, Log, as_read, read_json, write_json
from selfstudy.core.group import Group
from selfstudy.core.interrupts import Interrupts
from selfstudy.core.progress import Progress
from selfstudy.core.stage_files import STAGE, read_stage, write_stage
from selfstudy.core.workers import Outcome, RemoteRun, attempt

Result = TypeVar("Result")


class Passing(NamedTuple):
    """Where a loop of steps is, for those who watch a run.

    Attributes:
        loop: its stage and its name.
        step: steps done.
        steps: in all.
        state: what changes from step to step, as it is now; not to be changed.
        spent: by the run, by budget unit.
    """

    loop: str
    step: int
    steps: int
    state: dict[str, checkpoint.Stateful]
    spent: Callable[[], dict[str, float]]


class Run:
    """A directory, a seed and a meter; a context manager that turns signals into a clean stop.

    Args:
        directory: made when missing. An existing run with the same configuration is continued.
        config: JSON data that says what was asked for.
        seed: the root of every random stream.
        budget: limits; None is unlimited. A continued run may be given a larger one.
        checkpoint_seconds: least time between two checkpoints of `steps`, and ten times what the last one
            took, which is long for large models; 0 saves before every step.
        checkpoint_steps: also save after so many steps; None leaves it to the clock.
        progress: draws bars; the default draws none.
        fan_out: the workers that `map` hands its items to; None does them in this process.
        group: the processes that go through this run together; None is this one alone.
        watch: called in every loop of `steps` before each step and after the last; what it raises ends the
            run. None watches nothing.

    Raises:
        UsageError: the directory holds a run with another configuration, or is in use.
        MachineError: the processes of the group do not share the directory.
    """

    def __init__(
        self,
        directory: Path | str,
        config: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        budget: Budget | None = None,
        checkpoint_seconds: float = 30.0,
        checkpoint_steps: int | None = None,
        progress: Progress | None = None,
        fan_out: FanOut | None = None,
        group: Group | None = None,
        watch: Callable[[Passing], None] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self._watch = watch or (lambda passing: None)
        self.config = {**(config or {}), "seed": seed}
        self.seed = seed
        self.group = group or Group()
        budget = budget or Budget()
        self._timed = budget.seconds is not None
        # The leader's clock counts for all.
        self.meter = Meter(budget if self.group.leads else dataclasses.replace(budget, seconds=None))
        self.progress = progress or Progress(visible=False)
        self._fan_out = fan_out
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoint_steps = checkpoint_steps
        self._scope: list[str] = []
        self._interrupts = Interrupts()
        self._aside: list[dict[str, Any]] | None = None
        self._lock: IO[str] | None = None
        self.group.lead(self._open)
        self.group.require_shared(self.directory)

    def _open(self) -> None:
        self._lock = open_directory(self.directory, self.config)
        # The seconds and the log as of the last finished stage; all other counts are gone through again.
        self._place = self.directory / "place.json"
        place: dict[str, Any] = {"spent": {}, "log": 0}
        try:
            place = read_json(self._place) if self._place.exists() else place
            self.meter.restore({"seconds": place["spent"].get("seconds", 0)})
            self._log = Journal(self.directory / "metrics.jsonl", kept=place["log"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Run:
        self._interrupts.listen()
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self._interrupts.give_back()
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        if self._lock is not None:
            self._lock.close()

    def __reduce__(self) -> tuple[type[RemoteRun], tuple[int, Meter]]:
        # Work that is sent to another process finds this in the place of its run.
        return RemoteRun, (self.seed, self.meter)

    def check(self) -> None:
        """Raise `Stopped` when a signal has asked for it. Called between pieces of work."""
        if self._interrupts.heard is not None:
            raise Stopped(
                f"Stopped by {signal.Signals(self._interrupts.heard).name}. Nothing is lost: "
                f"selfstudy resume {self.directory}"
            )

    def check_together(self) -> None:
        """Raise `Stopped` in all processes when a signal has reached one; all must call it."""
        self._stop_if(*self.group.any(self._interrupts.heard is not None))

    def _stop_if(self, asked: bool) -> None:
        if asked:
            self._interrupts.heard = self._interrupts.heard or signal.SIGTERM  # that another process got
            self.check()

    # Random streams.

    def key(self, *parts: object) -> int:
        """Return the 64-bit key of the stream `parts` of this run's seed."""
        return random.stream_key(self.seed, *parts)

    def rng(self, *parts: object) -> np.random.Generator:
        """Return a generator that depends on the seed and `parts` alone."""
        return random.generator(self.seed, *parts)

    # Pieces of work.

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Do `work` once; when the run is resumed its result is read back instead.

        The result is JSON data, or an object with `save(folder)` and a class method `load(folder)`. JSON data
        comes back as it will be read back: tuples as lists, keys as text.
        """
        self.check_together()
        path = self.directory / "stages" / "/".join([*self._scope, name])
        if self.group.agree((path / STAGE).exists()):
            self._drop_partial(name)  # where a kill left it
            stage = read_stage(path)
            self._at(stage.place)
            return stage.result
        self._scope.append(name)
        try:
            self.progress.message(name)
            result = work()
        finally:
            self._scope.pop()
        if not hasattr(result, "save"):
            result = self.group.agree(as_read(result))
        self.group.lead(lambda: self._write_stage(path, result))
        self._drop_partial(name)
        return result

    def _write_stage(self, path: Path, result: Any) -> None:
        place = self._here()
        write_stage(path, result, place)
        write_json(self._place, place)

    def _drop_partial(self, name: str) -> None:
        if self.group.leads:
            shutil.rmtree(self._partial(name), ignore_errors=True)

    def result(self, name: str) -> Any:
        """Return the result of a finished stage.

        Raises:
            UsageError: it is not finished.
        """
        path = self.directory / "stages" / "/".join([*self._scope, name])
        if not (path / STAGE).exists():
            raise UsageError(f"The run in {self.directory} has no finished stage {name!r}.")
        return read_stage(path).result

    def steps(
        self,
        n: int,
        *,
        state: dict[str, checkpoint.Stateful],
        desc: str,
        cost: dict[str, float] | Callable[[int], dict[str, float]] | None = None,
    ) -> Iterator[int]:
        """Yield the step numbers still to do, saving `state` by time and step.

        Args:
            n: steps in all.
            state: what changes from step to step; loaded here when a checkpoint exists.
            desc: names the loop, uniquely within its stage.
            cost: what one step spends, or a function of the step that says so; the loop ends before a step
                that the budget does not cover.
        """
        folder = self._partial(desc)
        first = self._restore(folder, state)
        saved, pause = time.monotonic(), self._checkpoint_seconds
        loop = "/".join([*self._scope, desc])
        with self.progress.bar(desc, n, first) as advance:
            for step in range(first, n):
                begun = time.monotonic()
                late = self.group.leads and begun - saved > pause
                enough = bool(self._checkpoint_steps and step % self._checkpoint_steps == 0)
                asked, late = self.group.any(self._interrupts.heard is not None, late)
                if asked or (step > first and (enough or late)):
                    self._save(folder, step, state)
                    saved = time.monotonic()
                    pause = pause and max(self._checkpoint_seconds, 10 * (saved - begun))
                self._stop_if(asked)
                self._watch(Passing(loop, step, n, state, self.meter.snapshot))
                if not self._paid(cost(step) if callable(cost) else cost or {}):
                    return
                yield step
                advance(1)
        self._watch(Passing(loop, n, n, state, self.meter.snapshot))

    def _paid(self, cost: dict[str, float]) -> bool:
        """Charge `cost`; tell whether the budget covers it."""
        try:
            self.meter.charge(**cost)
            covered = True
        except BudgetSpent:
            covered = False
        return self.group.agree(covered) if self._timed else covered

    def _save(self, folder: Path, step: int, state: dict[str, checkpoint.Stateful]) -> None:
        leads = self.group.leads
        checkpoint.save_state(folder / f"{step:09d}", state, self._here() if leads else {}, write=leads)
        if leads:
            checkpoint.drop_old(folder)

    def _restore(self, folder: Path, state: dict[str, checkpoint.Stateful]) -> int:
        if self.group.leads:
            checkpoint.drop_old(folder)  # a kill may have left one, perhaps half removed
        found = self.group.agree(checkpoint.saved(folder))
        if not found:
            return 0
        *earlier, newest = found
        before = f"from the one of step {int(earlier[-1].name)}" if earlier else "from the start of this part"
        checkpoint.check_sums(newest, f"Delete the folder {newest} and resume to go on {before}.")
        self._at(checkpoint.load_state(newest, state))
        return int(newest.name)

    def map(
        self,
        name: str,
        items: Iterable[Any],
        work: Callable[[Any], Any],
        *,
        weight: Callable[[Any], int] = lambda _: 1,
        until: Callable[[list[Any]], bool] = lambda _: False,
    ) -> list[Any]:
        """Return `work(item)` for each item in order, each recorded as it is done and never done twice.

        Results are JSON data, and come back as they will be read back. When the budget is spent the results
        so far are returned; work cut off by that is lost but counted. With a fan-out, workers do the items at
        the same time, and a group's processes share them; records, log and counts are those of this process
        doing them one after the other.

        Args:
            name: names the records, uniquely within the stage.
            items: what to work on; the same at every resume.
            work: does one item; with a fan-out it uses key, rng, meter, check and log of this run alone.
            weight: how much an item advances the progress bar.
            until: ends the loop early when it is true of the results so far.
        """
        items = list(items)
        log = Log(self._partial(name) / "records.jsonl")
        records = self.group.lead(log.read)[: len(items)]
        if records:
            self._at(records[-1])
        results = [record["value"] for record in records]
        total, done = sum(map(weight, items)), sum(map(weight, items[: len(records)]))
        left = items[len(records) :]
        outcomes = self._one_by_one(left, work)
        if self.group.count > 1:
            outcomes = self.group.share(self, left, work)
        elif self._fan_out:
            outcomes = self._fan_out.map(self, name, left, work, first=len(records) + 1)
        with self.progress.bar(name, total, done) as advance, contextlib.closing(outcomes):
            for item in left:
                if until(results):
                    break
                try:
                    value = as_read(next(outcomes))
                except BudgetSpent:
                    break
                self.group.lead(partial(self._record, log, value))
                results.append(value)
                advance(weight(item))
        return results

    def map_batches(
        self,
        name: str,
        items: Sequence[Any],
        size: int,
        work: Callable[[Any], list[Any]],
        *,
        until: Callable[[list[list[Any]]], bool] = lambda _: False,
    ) -> list[Any]:
        """Return what `work` gives for `size` items at a time, in one list; else as `map`."""
        batches = [items[first : first + size] for first in range(0, len(items), size)]
        done = self.map(name, batches, work, weight=len, until=until)
        return [one for some in done for one in some]

    def _one_by_one(self, items: list[Any], work: Callable[[Any], Any]) -> Generator[Any, None, None]:
        for item in items:
            self.check()
            yield work(item)

    def _record(self, log: Log, value: Any) -> None:
        log.append({"value": value, **self._here()})

    def attempt(self, work: Callable[[Any], Any], item: Any) -> Outcome:
        """Return what `work(item)` comes to, without counting or logging it."""
        before, refused = self.meter.snapshot(), self.meter.refused
        lines = self._aside = []
        try:
            return attempt(work, item, self.meter, lines)
        finally:
            self._aside = None
            self.meter.restore(before)
            self.meter.refused = refused

    def log(self, **values: Any) -> None:
        """Add one line to metrics.jsonl, with the stage and the time."""
        if self._aside is not None:
            self._aside.append(values)
        elif self.group.leads:
            self._add(values)

    def _add(self, values: dict[str, Any]) -> None:
        self._log.add({"stage": "/".join(self._scope), **values, "seconds": self.meter.snapshot()["seconds"]})

    def metrics(self) -> list[dict[str, Any]]:
        """Return what has been logged so far; in a group all must ask."""
        return self.group.lead(lambda: self._log.passed())

    def _partial(self, name: str) -> Path:
        return self.directory / "partial" / "/".join([*self._scope, name])

    def _here(self) -> dict[str, Any]:
        return {"spent": self.meter.snapshot(), "log": self._log.settled()}

    def _at(self, place: dict[str, Any]) -> None:
        """Go to the counts and the line of the log as they were at a saved place."""
        self.meter.restore(place["spent"])
        if self.group.leads:
            self._log.go_to(place["log"])
