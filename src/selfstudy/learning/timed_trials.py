"""One trial of a training algorithm on two clocks: how long until a metric meets its target.

The timed loop of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179): choosing data, each update and preparing for
an evaluation are on the clock; evaluating is not. The wall clock measures seconds. The cost clock multiplies
steps by a price, and says the same however busy the machine is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.run import Run
from selfstudy.learning.timed_training import Training
from selfstudy.learning.workloads import Settings, Submission, Workload

Clock = Literal["cost", "wall"]
Log = dict[str, Any]
MOST_STEPS = 100  # times the workload's hint, in a trial on the wall clock
WARM, TIMED = 5, 50  # steps before the calibration, and of it
ROUNDING = 1e-9  # by which a sum of steps may miss a limit
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
    training, place, failed = Training(run, workload, submission, settings, stream, now), _Place(), None
    size = training.size
    per_step = price.step * size / workload.batch
    steps = MOST_STEPS * workload.step_hint
    if limits.clock == "cost":
        steps = steps_within(limits.max_runtime, per_step)
    state = {**training.parts(), "place": place}
    for step in run.steps(steps, state=state, desc="trial", cost=workload.step_cost(size)):
        share = place.on(limits.clock) / limits.max_runtime
        place.add(training.update(step, share, place.looks), per_step)
        clock = place.on(limits.clock)
        if clock - place.looked >= limits.eval_period * (1 - ROUNDING):
            shown, seconds = training.prepare()
            place.add(seconds, price.prepare)
            clock = place.on(limits.clock)
            failed = _not_finite(training.model, step)
            if not failed and clock <= limits.max_runtime * (1 + ROUNDING):
                figure = place.look(step, workload, shown, clock)
                if not math.isfinite(figure):
                    failed = f"the validation metric is {figure} after {step + 1} steps"
                    break
                # Without its seconds, which would make two runs' logs differ.
                run.log(step=step + 1, cost=place.cost, validation=figure)
                if limits.stop_at_target and meets(figure, workload.target, workload.better):
                    break
            if failed:
                break
        if clock >= limits.max_runtime * (1 - ROUNDING):
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
    return Trial(log, training.model.eval())


def steps_within(runtime: float, per_step: float = 1.0) -> int:
    """Return the steps that reach a runtime on the cost clock.

    >>> steps_within(20 * 4 / 3), steps_within(0.3, 0.1)
    (27, 3)
    """
    return math.ceil(round(runtime / per_step, 6))


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
    training = Training(run, workload, submission, settings, "calibration", now)
    steps, prepared = [], []
    for step in range(WARM + TIMED):
        steps.append(training.update(step, 0.0, []))
        prepared.append(training.prepare()[1])
    step_seconds = statistics.median(steps[WARM:])
    return Price(step_seconds * workload.batch / training.size, statistics.median(prepared[WARM:]))


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

    def look(self, step: int, workload: Workload, model: nn.Module, clock: float) -> float:
        """Evaluate, off the clock, and return the metric; one that is not finite is no evaluation."""
        model.eval()
        validation = workload.evaluate(model, "validation")
        if validation is None:
            raise DataError(f"The workload {workload.name!r} has no validation metric to meet a target with.")
        if math.isfinite(validation):
            look = {"wall": self.wall, "cost": self.cost, "validation": validation}
            self.looks.append({"step": step + 1, **look, "test": workload.evaluate(model, "test")})
            self.looked = clock
        return validation

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)


def _not_finite(model: nn.Module, step: int) -> str | None:
    if all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        return None
    return f"weights are not finite after {step + 1} steps"
