"""Performance profiles: who reaches its targets how much later than the fastest, over many workloads.

Dolan and Moré 2002, "Benchmarking optimization software with performance profiles"; the score is that of Dahl
et al. 2023, "Benchmarking Neural Network Training Algorithms", arXiv 2306.07179. With t[s, w] the time of
contestant s on workload w, infinite where it never reached the target:

    r[s, w]  = t[s, w] / min_s t[s, w]
    rho_s(x) = share of the workloads with r[s, w] <= x
    B_s      = 1 / (r_max - 1) times the integral of rho_s from 1 to r_max

A score is relative to the field: never compare scores of two fields.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.evaluation.statistics import Interval

R_MAX = 4.0  # times the fastest, beyond which a time counts as never
Times = Mapping[str, Mapping[str, float]]
"""By contestant and workload, in any unit that is the same within a workload; infinite where unreached."""


@dataclass(frozen=True)
class Profiles:
    """How often each contestant is within a factor of the fastest.

    Attributes:
        contestants: names, in the order of the rows.
        workloads: those that count, in the order of the columns.
        dropped: those that no contestant reached, which do not count.
        ratios: [contestants, workloads], of each time to the fastest; 1 or more, infinite where unreached.
        r_max: the largest factor that counts.
    """

    contestants: tuple[str, ...]
    workloads: tuple[str, ...]
    dropped: tuple[str, ...]
    ratios: np.ndarray
    r_max: float = R_MAX

    def share(self, factors: float | Sequence[float] | np.ndarray) -> np.ndarray:
        """Return rho, the share of workloads within each factor [T] of the fastest: [contestants, T]."""
        within = self.ratios[:, None, :] <= np.atleast_1d(np.asarray(factors, dtype=float))[None, :, None]
        return within.mean(2) if self.workloads else np.zeros(within.shape[:2])

    @property
    def scores(self) -> dict[str, float]:
        """B of each contestant, from 0 to 1, which is the fastest everywhere; empty where nothing counts."""
        if not self.workloads:
            return {}
        found = profile_integrals(self.ratios, self.r_max)
        return dict(zip(self.contestants, found.tolist(), strict=True))


def performance_profiles(
    times: Times, *, r_max: float = R_MAX, variants: Mapping[str, Sequence[str]] | None = None
) -> Profiles:
    """Return the profiles of a field of contestants.

    >>> found = performance_profiles({"a": {"x": 1, "y": 2}, "b": {"x": 2, "y": 1}})
    >>> {name: round(score, 4) for name, score in found.scores.items()}
    {'a': 0.8333, 'b': 0.8333}

    Args:
        times: of every contestant on every workload.
        r_max: times above so many times the fastest count as infinite.
        variants: from a workload to those of its variants that are in `times`. A variant does not count by
            itself: a contestant that misses it, or is too slow on it, has missed its workload.

    Raises:
        UsageError: r_max is not above 1.
        DataError: contestants with different workloads, or a time that is not above 0.
    """
    if not r_max > 1:
        raise UsageError(f"r_max is {r_max:g}; it must be above 1, the ratio of the fastest.")
    contestants, workloads, table = _table(times)
    missed = np.isinf(cut_ratios(table, r_max))
    column = {name: place for place, name in enumerate(workloads)}
    for base, changed in (variants or {}).items():
        unknown = [name for name in (base, *changed) if name not in column]
        if unknown:
            raise DataError(
                f"There are no times of {unknown[0]!r}; there are those of {', '.join(workloads)}."
            )
        places = [column[name] for name in (base, *changed)]
        missed[:, column[base]] = missed[:, places].any(1)
    table = np.where(missed, math.inf, table)
    held = {name for changed in (variants or {}).values() for name in changed}
    bases = [place for place, name in enumerate(workloads) if name not in held]
    reached = [place for place in bases if np.isfinite(table[:, place]).any()]
    dropped = tuple(workloads[place] for place in bases if place not in reached)
    if dropped:
        warnings.warn(
            f"No contestant reached the target of {', '.join(dropped)}: "
            f"{len(reached)} of {len(bases)} workloads count.",
            stacklevel=2,
        )
    kept = table[:, reached]
    ratios = kept / kept.min(0) if reached else kept
    return Profiles(contestants, tuple(workloads[place] for place in reached), dropped, ratios, r_max)


def profile_integrals(ratios: np.ndarray, r_max: float = R_MAX) -> np.ndarray:
    """Return B [..., S] of ratios [..., S, W] in closed form: the mean of max(0, r_max - r) / (r_max - 1)."""
    return np.maximum(0.0, r_max - ratios).mean(-1) / (r_max - 1)


def cut_ratios(times: np.ndarray, r_max: float = R_MAX) -> np.ndarray:
    """Return times [..., S, W] over the fastest of each workload; above `r_max` and unreached is infinite."""
    fastest = times.min(-2, keepdims=True)
    ratios = times / np.where(np.isfinite(fastest), fastest, 1.0)
    return np.where(ratios > r_max, math.inf, ratios)


def median_time(times: Sequence[float]) -> float:
    """Return the median of times, infinite ones last; a middle between finite and infinite is infinite.

    >>> median_time([1, math.inf, 2]), median_time([1, math.inf, math.inf]), median_time([1, math.inf])
    (2.0, inf, inf)

    Raises:
        DataError: no time at all, or one that is not above 0.
    """
    return float(np.median(_times(np.asarray(times, dtype=float), "the list")))


class Speedup(NamedTuple):
    """How much sooner a contestant is than a reference.

    Attributes:
        mean: geometric mean of the reference's time over the contestant's; None where nothing is shared.
        shared: workloads that both have reached, over which the mean is taken.
        only: workloads that the contestant alone has reached.
        missed: workloads that the reference alone has reached.
    """

    mean: float | None
    shared: int
    only: int
    missed: int


def speedups(times: Times, reference: str) -> dict[str, Speedup]:
    """Return the speed-up of each contestant over one of them; unreached targets are counted, not averaged.

    Raises:
        DataError: there is no such contestant, or as for `performance_profiles`.
    """
    contestants, _, table = _table(times)
    if reference not in contestants:
        raise DataError(f"There are no times of {reference!r}; there are those of {', '.join(contestants)}.")
    theirs = table[contestants.index(reference)]
    found = {}
    for name, own in zip(contestants, table, strict=True):
        reached = np.isfinite(own), np.isfinite(theirs)
        both = reached[0] & reached[1]
        mean = math.exp(np.log(theirs[both] / own[both]).mean()) if both.any() else None
        only, missed = int((reached[0] & ~reached[1]).sum()), int((~reached[0] & reached[1]).sum())
        found[name] = Speedup(mean, int(both.sum()), only, missed)
    return found


def bootstrap_scores(
    studies: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    r_max: float = R_MAX,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return a percentile interval of each contestant's B, by drawing studies again with replacement.

    Each contestant's studies of each workload are drawn apart; the median of the drawn ones is its time.
    A workload that nobody reaches in a draw does not count in it.

    Args:
        studies: times by contestant, workload and study; as many studies everywhere.
        r_max: as for `performance_profiles`.
        draws: how many.
        confidence: coverage of the intervals.
        seed: of the draws.

    Raises:
        DataError: fewer than two studies, of which no interval can be told, or unequal numbers of them.
    """
    contestants = list(studies)
    workloads = list(studies[contestants[0]])
    counts = {len(studies[s][w]) for s in contestants for w in workloads}
    if len(counts) != 1 or min(counts) < 2:
        raise DataError(f"An interval needs two studies or more, as many everywhere; there are {counts}.")
    count = counts.pop()
    table = np.array([[studies[s][w] for w in workloads] for s in contestants], dtype=float)  # [S, W, K]
    _times(table, "the studies")
    places = generator(seed, "studies drawn again").integers(0, count, (draws, *table.shape))
    drawn = np.take_along_axis(np.broadcast_to(table, places.shape), places, axis=-1)
    times = np.median(drawn, axis=-1)  # [draws, S, W]
    counted = np.isfinite(times).any(1, keepdims=True)
    points = np.maximum(0.0, r_max - cut_ratios(times, r_max)) / (r_max - 1)
    scores = points.sum(-1) / np.maximum(1, counted.sum(-1))  # [draws, S]
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return {name: Interval(float(low[i]), float(high[i])) for i, name in enumerate(contestants)}


def _table(times: Times) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    if not times or not next(iter(times.values())):
        raise DataError("A profile needs at least one contestant and one workload.")
    contestants = tuple(times)
    workloads = tuple(times[contestants[0]])
    for name, own in times.items():
        if set(own) != set(workloads):
            differing = sorted(set(own) ^ set(workloads))
            raise DataError(
                f"{name!r} and {contestants[0]!r} do not have the same workloads: they differ in "
                f"{', '.join(differing)}. Give an infinite time where a target was not reached."
            )
    table = np.array([[times[name][workload] for workload in workloads] for name in contestants], dtype=float)
    return contestants, workloads, _times(table, "the table")


def _times(table: np.ndarray, where: str) -> np.ndarray:
    if not table.size or not (table > 0).all():
        raise DataError(f"Times must be above 0, or infinite where unreached; {where} has others or none.")
    return table
