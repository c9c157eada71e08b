"""Scores of training algorithms from their logs alone: times to target, profiles, intervals.

The scoring of AlgoPerf (Dahl et al. 2023, arXiv 2306.07179). A study's time is the least of its trials, a
workload's the median of its studies; a trial that never meets its target has an infinite one. Logs of several
machines can be put together, as long as a workload's logs have one unit of time.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.performance_profiles import (
    R_MAX,
    Profiles,
    Speedup,
    bootstrap_scores,
    median_time,
    performance_profiles,
    speedups,
)
from selfstudy.evaluation.statistics import Interval
from selfstudy.learning.timed_trials import Clock, Log, meets

APART = 0.2  # share by which the two clocks may differ before it is said
Studies = dict[str, dict[str, dict[int, list[float]]]]  # submission -> workload -> study -> times of trials


@dataclass(frozen=True)
class Scored:
    """What the logs of a field come to.

    Attributes:
        times: to the target, by submission and workload, in the clock's unit; infinite where unreached.
        profiles: how often each is within a factor of the fastest.
        scores: B of each submission.
        intervals: of the scores, from studies drawn again; empty with fewer than two studies.
        speedups: over the reference, on workloads that are no variants.
        reference: the submission that speed-ups are over.
        studies: by submission and workload, the time of each study.
        apart: workloads on which the clocks disagree by more than `APART`, with the largest ratio.
    """

    times: dict[str, dict[str, float]]
    profiles: Profiles
    scores: dict[str, float]
    intervals: dict[str, Interval]
    speedups: dict[str, Speedup]
    reference: str
    studies: dict[str, dict[str, list[float]]]
    apart: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return JSON data; an infinite time becomes null."""
        return {
            "scores": self.scores,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "times": {
                name: {workload: time if math.isfinite(time) else None for workload, time in own.items()}
                for name, own in self.times.items()
            },
            "speedups": {name: found._asdict() for name, found in self.speedups.items()},
            "reference": self.reference,
            "dropped": list(self.profiles.dropped),
            "r_max": self.profiles.r_max,
            "apart": self.apart,
        }


def trial_time(log: Log, clock: Clock = "cost") -> float:
    """Return when the first evaluation met the validation target; infinite if none did, or the trial failed.

    Raises:
        UsageError: the log does not say whether lower or higher is better.
    """
    if log.get("better") not in ("lower", "higher"):
        raise UsageError(
            f"The log of {log['submission']!r} on {log['workload']!r} says better={log.get('better')!r}; it "
            "must be 'lower' or 'higher'."
        )
    if log.get("failed"):
        return math.inf
    met = (look[clock] for look in log["looks"] if meets(look["validation"], log["target"], log["better"]))
    return float(next(met, math.inf))


def score(
    logs: Iterable[Log],
    *,
    r_max: float = R_MAX,
    clock: Clock = "cost",
    studies: int | None = None,
    trials: int | None = None,
    strict: bool = False,
    variants: Mapping[str, Sequence[str]] | None = None,
    reference: str | None = None,
) -> Scored:
    """Score a field of submissions.

    Args:
        logs: one a trial, as `run_trial` makes them, with "study" and "trial" beside.
        r_max: times the fastest, beyond which a time counts as never.
        clock: "cost" or "wall".
        studies: that there should be; None is as many as any submission has on any workload.
        trials: that a study should have; None likewise.
        strict: refuse missing studies and trials, which else are warned of.
        variants: from a workload to its variants; see `performance_profiles`.
        reference: of the speed-ups; None is the first submission.

    Raises:
        DataError: no logs, one trial twice, or, if strict, missing ones.
        UsageError: an unknown clock, or a log without a direction.
    """
    if clock not in ("cost", "wall"):
        raise UsageError(f"There is no clock {clock!r}: take 'cost' or 'wall'.")
    logs = list(logs)
    found = _by_study(logs, clock)
    _complain(found, studies, trials, strict)
    workloads = list(dict.fromkeys(log["workload"] for log in logs))
    least = {
        name: {
            workload: [min(times) for _, times in sorted(own[workload].items())] or [math.inf]
            for workload in workloads
        }
        for name, own in found.items()
    }
    times = {name: {w: median_time(own[w]) for w in workloads} for name, own in least.items()}
    profiles = performance_profiles(times, r_max=r_max, variants=variants)
    first = reference or next(iter(times))
    held = {name for changed in (variants or {}).values() for name in changed}
    bases = {name: {w: own[w] for w in workloads if w not in held} for name, own in times.items()}
    return Scored(
        times=times,
        profiles=profiles,
        scores=profiles.scores,
        intervals=_intervals(least, profiles, r_max),
        speedups=speedups(bases, first),
        reference=first,
        studies=least,
        apart=clocks_apart(logs),
    )


def clocks_apart(logs: Iterable[Log]) -> dict[str, float]:
    """Return workloads on which submissions look differently fast by the two clocks, with the largest ratio.

    Seconds of wall over those of cost are compared with their median over the workload's submissions, so
    that a machine that was slow throughout is not held against anybody. A ratio is said above 1 + `APART`.
    """
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for log in logs:
        last = log["looks"][-1] if log["looks"] else {}
        if last.get("wall") and last.get("cost"):
            rates[log["workload"]][log["submission"]].append(last["wall"] / last["cost"])
    apart = {}
    for workload, own in rates.items():
        middles = [float(np.median(values)) for values in own.values()]
        overall = float(np.median(middles))
        worst = max(max(middle / overall, overall / middle) for middle in middles)
        if worst > 1 + APART:
            apart[workload] = worst
    return apart


def _by_study(logs: Sequence[Log], clock: Clock) -> Studies:
    if not logs:
        raise DataError("There are no logs to score.")
    found: Studies = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    seen = set()
    for log in logs:
        key = (log["submission"], log["workload"], log.get("study", 0), log.get("trial", 0))
        if key in seen:
            raise DataError(
                f"Trial {key[3]} of study {key[2]} of {key[0]!r} on {key[1]!r} is there twice: two "
                "submissions of one name, or one result put together with itself. Give each its own name."
            )
        seen.add(key)
        found[key[0]][key[1]][key[2]].append(trial_time(log, clock))
    return found


def _complain(found: Studies, studies: int | None, trials: int | None, strict: bool) -> None:
    workloads = {workload for own in found.values() for workload in own}
    every = [own[workload] for own in found.values() for workload in workloads]
    wanted = studies or max(map(len, every))
    wanted_trials = trials or max(len(times) for own in every for times in own.values())
    short = [
        f"{name!r} on {workload!r} has {len(own[workload])} studies of {wanted}, with "
        f"{sum(map(len, own[workload].values()))} trials of {wanted * wanted_trials}"
        for name, own in found.items()
        for workload in sorted(workloads)
        if len(own[workload]) < wanted or any(len(times) < wanted_trials for times in own[workload].values())
    ]
    if short and strict:
        raise DataError(f"Trials are missing: {'; '.join(short)}. Run them, or score without strict.")
    if short:
        warnings.warn(f"Trials are missing, and count as not run: {'; '.join(short)}.", stacklevel=3)


def _intervals(
    least: dict[str, dict[str, list[float]]], profiles: Profiles, r_max: float
) -> dict[str, Interval]:
    """Return intervals over studies of the workloads that count, where there are two studies or more."""
    kept = {name: {w: own[w] for w in profiles.workloads} for name, own in least.items()}
    counts = {len(times) for own in kept.values() for times in own.values()}
    if len(counts) != 1 or min(counts) < 2:
        return {}
    return bootstrap_scores(kept, r_max=r_max)
