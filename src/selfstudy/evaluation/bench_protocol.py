"""The protocol of AlgoPerf: setting targets, and running a field of submissions on workloads.

Dahl et al. 2023, "Benchmarking Neural Network Training Algorithms", arXiv 2306.07179. Two rulesets: in
"external" tuning each of several studies takes the best of some trials, drawn from one pool of quasi-random
points; "self-tuning" submissions get no settings and more time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.learning.timed_trials import Clock, Limits, Log, Price, Trial, calibrated_price, run_trial
from selfstudy.learning.workloads import Settings, Submission, Workload
from selfstudy.search.quasi_random import halton_points

Ruleset = Literal["external", "self-tuning"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How many trials there are, and how long each may be.

    Attributes:
        ruleset: "external" or "self-tuning".
        studies: independent repetitions.
        trials: in each, of external tuning.
        runtime: longest runtime of a trial, over that of the workload's step hint.
        self_tuning: what `runtime` is multiplied by where nothing is tuned from outside.
        looks: evaluations in a runtime of the step hint.
        clock: which counts.
    """

    ruleset: Ruleset = "external"
    studies: int = 3
    trials: int = 5
    runtime: float = 4 / 3
    self_tuning: float = 1.5
    looks: int = 20
    clock: Clock = "cost"

    def check(self) -> None:
        """Raise a UsageError for what cannot be right."""
        if min(self.studies, self.trials, self.looks) < 1 or min(self.runtime, self.self_tuning) <= 0:
            raise UsageError(
                f"A protocol has {self.studies} studies of {self.trials} trials with {self.looks} looks: at "
                "least 1 of each, and runtimes above 0."
            )

    def limits(self, workload: Workload, second: float = 1.0, *, stop: bool = True) -> Limits:
        """Return the limits of one trial; `second` is the time of a standard step on the clock."""
        hint = workload.step_hint * second
        longest = hint * self.runtime * (self.self_tuning if self.ruleset == "self-tuning" else 1.0)
        limits = Limits(longest, hint / self.looks, self.clock, stop)
        limits.check()
        return limits


class Planned(NamedTuple):
    """One trial that is to be run."""

    study: int
    trial: int
    settings: Settings

    @property
    def stream(self) -> str:
        """Names the first weights and the order of the data: the same for all submissions."""
        return f"study {self.study}, trial {self.trial}"


def planned_trials(protocol: Protocol, submission: Submission, key: int) -> list[Planned]:
    """Return the trials of a submission: the same settings on every workload.

    The points are one quasi-random pool, dealt to the studies in an order that the pool's key names.

    Raises:
        UsageError: a submission without a search space under external tuning.
    """
    protocol.check()
    if protocol.ruleset == "self-tuning":
        return [Planned(study, 0, {}) for study in range(protocol.studies)]
    if not submission.space:
        raise UsageError(
            f"{submission.name!r} has no search space: it is for the ruleset 'self-tuning', where nothing is "
            "tuned from outside."
        )
    count = protocol.studies * protocol.trials
    points = halton_points(submission.space, count, key)
    order = generator("dealt", key).permutation(count)
    return [Planned(*divmod(place, protocol.trials), points[at]) for place, at in enumerate(order.tolist())]


def calibrated_prices(
    run: Run,
    workload: Workload,
    submissions: Sequence[Submission],
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Price]:
    """Return the price in seconds of each submission's steps, by name, each measured once in a stage.

    Args:
        run: whose stages they are.
        workload: what is trained.
        submissions: the field.
        now: the clock, in seconds; `time.process_time` is less disturbed by others on one thread.
    """

    def price(submission: Submission) -> Price:
        measured = run.stage(
            f"price-{workload.name}-{submission.name}",
            lambda: calibrated_price(run, workload, submission, submission.fixed, now=now)._asdict(),
        )
        return Price(**measured)

    return {submission.name: price(submission) for submission in submissions}


def run_field(
    run: Run,
    workload: Workload,
    submissions: Sequence[Submission],
    protocol: Protocol,
    prices: Mapping[str, Price] | None = None,
    *,
    keep: bool = False,
) -> list[Any]:
    """Run all trials of a field on one workload, each a stage of its own.

    Args:
        run: whose stages they are.
        workload: what is trained.
        submissions: the field.
        protocol: how often and how long; a runtime is a multiple of the first submission's price of the step
            hint.
        prices: of each submission's steps on the cost clock, by name; None is 1 for all.
        keep: keep the trained networks, which then need a `save`; results are `Trial` in place of logs.

    Returns:
        The logs in the order of the trials, with "study" and "trial"; or trials with such logs.
    """
    results: list[Any] = []
    priced = prices or {submission.name: Price() for submission in submissions}
    limits = protocol.limits(workload, priced[submissions[0].name].step)
    for submission in submissions:
        for plan in planned_trials(protocol, submission, run.key("settings")):

            def work(submission: Submission = submission, plan: Planned = plan) -> Any:
                price = priced[submission.name]
                trial = run_trial(
                    run, workload, submission, plan.settings, limits, stream=plan.stream, price=price
                )
                trial.log.update(study=plan.study, trial=plan.trial)
                return trial if keep else trial.log

            name = f"{workload.name}-{submission.name}-{plan.study}-{plan.trial}"
            results.append(run.stage(name, work))
    return results


class Target(NamedTuple):
    """A target, and where it comes from.

    Attributes:
        validation: the median of the best validation figures of the chosen settings, over seeds.
        test: the worst test figure of those seeds that meet it; None without test.
        submission: whose settings they are.
        settings: the best of all trials.
        seeds: the best validation figure of each seed.
    """

    validation: float
    test: float | None
    submission: str
    settings: dict[str, Any]
    seeds: list[float]


def set_target(
    run: Run,
    workload: Workload,
    submissions: Sequence[Submission],
    *,
    trials: int,
    seeds: int,
    looks: int = 20,
) -> Target:
    """Set a workload's target as the paper does: the best of a broad search, then its median over seeds.

    Every trial takes the whole step hint. Each search and each seed is a stage of its own.

    Args:
        run: whose stages they are; its seed should not be one that is scored.
        workload: what is trained; its own target is not looked at.
        submissions: the standard optimisers.
        trials: of each.
        seeds: that the best settings are run with again.
        looks: evaluations in a run.

    Raises:
        DataError: no trial ended with finite weights.
    """
    protocol = Protocol(studies=1, trials=trials, looks=looks, runtime=1.0)
    protocol.check()
    limits, sign = protocol.limits(workload, stop=False), -1 if workload.better == "higher" else 1

    def one(name: str, submission: Submission, settings: Settings, stream: str) -> Log:
        return run.stage(
            f"{workload.name}-{name}",
            lambda: run_trial(run, workload, submission, settings, limits, stream=stream).log,
        )

    def best(log: Log) -> dict[str, Any]:
        return min(log["looks"], key=lambda look: sign * look["validation"])

    found: list[tuple[float, int, Submission, Settings]] = []
    for submission in submissions:
        for plan in planned_trials(protocol, submission, run.key("target settings")):
            log = one(f"target-{submission.name}-{plan.trial}", submission, plan.settings, "target search")
            if log["looks"] and not log["failed"]:
                found.append((sign * best(log)["validation"], len(found), submission, plan.settings))
    if not found:
        raise DataError(
            f"No trial on {workload.name!r} ended with finite weights, so that there is no target."
        )
    _, _, winner, settings = min(found)
    again = [one(f"target-seed-{seed}", winner, settings, f"target seed {seed}") for seed in range(seeds)]
    looks_of = [best(log) for log in again if log["looks"] and not log["failed"]]
    if not looks_of:
        raise DataError(f"The best settings on {workload.name!r} did not end with finite weights again.")
    figures = [look["validation"] for look in looks_of]
    target = statistics.median(figures)
    tests = [
        look["test"]
        for look in looks_of
        if sign * look["validation"] <= sign * target and look["test"] is not None
    ]
    worst = sign * max(sign * test for test in tests) if tests else None
    return Target(target, worst, winner.name, dict(settings), figures)


def with_target(workload: Any, target: float) -> Any:
    """Return a workload with another target."""
    return replace(workload, target=target)


def chosen_trial(trials: Sequence[Trial], submission: str, times: Sequence[float]) -> Trial:
    """Return the trial of a submission that met the target first, else the one with the best figure.

    Args:
        trials: of a field.
        submission: whose.
        times: to the target of each trial.
    """
    own = [pair for pair in zip(times, trials, strict=True) if pair[1].log["submission"] == submission]

    def rank(pair: tuple[float, Trial]) -> tuple[float, float]:
        reached, trial = pair
        sign = -1 if trial.log["better"] == "higher" else 1
        usable = trial.log["looks"] if not trial.log["failed"] else []
        return reached, min((sign * look["validation"] for look in usable), default=float("inf"))

    return min(own, key=rank)[1]
