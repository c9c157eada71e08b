"""One trial of a training algorithm on two clocks: how long until a metric meets its target.

The timed loop of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179): choosing data, each update and preparing for
an evaluation are on the clock; evaluating is not. The wall clock measures seconds. The cost clock multiplies
steps by a price, and says the same however busy the machine is.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.run import Run
from selfstudy.learning.workloads import Batch, Progress, Settings, Submission, Workload

Clock = Literal["cost", "wall"]
Log = dict[str, Any]
MOST_STEPS = 100  # times the workload's hint, in a trial on the wall clock
WARM, TIMED = 5, 50  # steps before the calibration, and of it
LOG, MODEL = "log.json", "model"


class Price(NamedTuple):
    """What work costs on the cost clock.

    Attributes:
        step: of a step on a standard batch; other batches cost in proportion.
        prepare: of preparing one evaluation.
    """

    step: float = 1.0
    prepare: float = 0.0


class Limits(NamedTuple):
    """How long a trial may take, and how often it is looked at, in the units of its clock.

    Attributes:
        max_runtime: when it ends.
        eval_period: least time between two evaluations.
        clock: which counts.
        stop_at_target: whether it ends at the first evaluation that meets the target.
    """

    max_runtime: float
    eval_period: float
    clock: Clock = "cost"
    stop_at_target: bool = True

    def check(self) -> None:
        """Raise a UsageError for limits that no trial can keep."""
        if self.clock not in ("cost", "wall"):
            raise UsageError(f"There is no clock {self.clock!r}: take 'cost' or 'wall'.")
        if not 0 < self.eval_period <= self.max_runtime:
            raise UsageError(
                f"eval_period is {self.eval_period:g} and max_runtime {self.max_runtime:g}: the period must "
                "be above 0 and not longer than the runtime, or nothing is ever evaluated."
            )


class Trial:
    """A log, and the network as it was when the trial ended; can be the result of a stage.

    Attributes:
        log: JSON data; see `run_trial`.
        model: the network.
    """

    def __init__(self, log: Log, model: Any) -> None:
        self.log, self.model = log, model

    def save(self, folder: Path) -> None:
        """Write the log, and the network by its own `save`."""
        self.model.save(folder / MODEL)
        write_json(folder / LOG, {"kind": name_class(type(self.model)), "log": self.log})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(folder / LOG)
        return cls(said["log"], find_class(said["kind"], folder / LOG).load(folder / MODEL))


def run_trial(
    run: Run,
    workload: Workload,
    submission: Submission,
    settings: Settings,
    limits: Limits,
    *,
    stream: str = "trial",
    price: Price = Price(),  # noqa: B008
    now: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Train the workload's network by a submission until its target is met or its time is up; within a stage.

    Args:
        run: within a stage of its own.
        workload: what is trained.
        submission: what trains it.
        settings: a point of the submission's space.
        limits: of the time.
        stream: names the first weights and the order of the data, which trials of one stream share.
        price: on the cost clock.
        now: the wall clock, in seconds.

    Returns:
        The network, and the log: "workload", "submission", "settings", "stream", "target", "better",
        "looks" (each with "step", "wall", "cost", "validation" and "test"), "price", and "failed", the reason
        why no time counts, else None.

    Raises:
        UsageError: limits that cannot be kept, or a metric whose better direction is unknown.
    """
    limits.check()
    if workload.better not in ("lower", "higher"):
        raise UsageError(
            f"{workload.name!r} says better={workload.better!r}; it must be 'lower' or 'higher'."
        )
    size = submission.get_batch_size(workload.name, workload.batch)
    per_step = price.step * size / workload.batch
    model, seen = workload.first_model(run.key(stream, "weights")), Unnamed(workload, submission.name)
    state = submission.init_optimizer_state(seen, model, settings)
    queue, place = Queue(run, workload, stream, size), _Place()
    steps = MOST_STEPS * workload.step_hint
    if limits.clock == "cost":
        steps = math.ceil(round(limits.max_runtime / per_step, 6))
    everything: dict[str, Any] = {"model": model, "submission": state, "queue": queue, "place": place}
    failed = None
    for step in run.steps(steps, state=everything, desc="trial", cost=workload.step_cost(size)):
        progress = Progress(
            step,
            workload.step_hint,
            place.on(limits.clock) / limits.max_runtime,
            place.looks,
            run.key(stream, step),
        )
        model.train()
        begun = now()
        batch = submission.data_selection(queue, state, progress)
        submission.update_params(seen, model, batch, settings, state, progress)
        place.add(now() - begun, per_step)
        clock = place.on(limits.clock)
        if clock - place.looked >= limits.eval_period * (1 - 1e-9):
            begun = now()
            shown = submission.prepare_for_eval(seen, model, settings, state)
            place.add(now() - begun, price.prepare)
            clock = place.on(limits.clock)
            failed = _not_finite(model, step)
            if failed:
                break
            if clock <= limits.max_runtime * (1 + 1e-9):
                met = place.look(step, workload, shown, clock)
                look = place.looks[-1]  # whose seconds would make two runs' logs differ
                run.log(step=look["step"], cost=look["cost"], validation=look["validation"])
                if met and limits.stop_at_target:
                    break
        if clock >= limits.max_runtime * (1 - 1e-9):
            break
    log = {
        "workload": workload.name,
        "submission": submission.name,
        "settings": settings,
        "stream": stream,
        "target": workload.target,
        "better": workload.better,
        "looks": place.looks,
        "price": price.step,
        "failed": failed,
    }
    return Trial(log, model.eval())


def meets(value: float, target: float, better: str) -> bool:
    """Tell whether a metric is as good as its target, or better."""
    return value <= target if better == "lower" else value >= target


def calibrated_price(
    run: Run,
    workload: Workload,
    submission: Submission,
    settings: Settings,
    *,
    now: Callable[[], float] = time.perf_counter,
) -> Price:
    """Return the seconds of a step on a standard batch: the median of 50 after a warm-up, in isolation."""
    size = submission.get_batch_size(workload.name, workload.batch)
    model = workload.first_model(run.key("calibration", "weights")).train()
    seen = Unnamed(workload, submission.name)
    state = submission.init_optimizer_state(seen, model, settings)
    queue = Queue(run, workload, "calibration", size)
    steps, prepared = [], []
    for step in range(WARM + TIMED):
        progress = Progress(step, workload.step_hint, 0.0, [], run.key("calibration", step))
        begun = now()
        batch = submission.data_selection(queue, state, progress)
        submission.update_params(seen, model, batch, settings, state, progress)
        done = now()
        submission.prepare_for_eval(seen, model, settings, state)
        steps.append(done - begun)
        prepared.append(now() - done)
    step_seconds = statistics.median(steps[WARM:])
    return Price(step_seconds * workload.batch / size, statistics.median(prepared[WARM:]))


class Queue:
    """Batches one after the other, from a place that is checkpointed."""

    def __init__(self, run: Run, workload: Workload, stream: str, size: int) -> None:
        self._run, self._workload, self._stream, self._size = run, workload, stream, size
        self._place = 0

    def next(self) -> Batch:
        """Return the next batch."""
        batch = self._workload.examples(self._run, self._stream, self._place, self._size)
        self._place += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return {"place": self._place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a place."""
        self._place = state_dict["place"]


class Unnamed:
    """A workload as a submission sees it: reading its name is worth a warning, for no rule may hang on it."""

    def __init__(self, workload: Workload, submission: str) -> None:
        self._workload, self._submission = workload, submission

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            warnings.warn(
                f"The submission {self._submission!r} reads the name of a workload. Only get_batch_size may: "
                "what is tuned to a workload by its name says nothing of others.",
                stacklevel=2,
            )
        return getattr(self._workload, name)


class _Place:
    """Where a trial is: both clocks, the time of the last evaluation, and all evaluations."""

    def __init__(self) -> None:
        self.wall, self.cost, self.looked = 0.0, 0.0, 0.0
        self.looks: list[dict[str, Any]] = []

    def add(self, wall: float, cost: float) -> None:
        self.wall += wall
        self.cost += cost

    def on(self, clock: Clock) -> float:
        return self.cost if clock == "cost" else self.wall

    def look(self, step: int, workload: Workload, model: nn.Module, clock: float) -> bool:
        """Evaluate, off the clock; tell whether the target is met."""
        model.eval()
        validation = workload.evaluate(model, "validation")
        if validation is None or math.isnan(validation):
            raise DataError(
                f"The validation metric of {workload.name!r} is {validation}, which is no figure."
            )
        look = {"wall": self.wall, "cost": self.cost, "validation": validation}
        self.looks.append({"step": step + 1, **look, "test": workload.evaluate(model, "test")})
        self.looked = clock
        return meets(validation, workload.target, workload.better)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def _not_finite(model: nn.Module, step: int) -> str | None:
    if all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        return None
    return f"weights are not finite after {step + 1} steps"
