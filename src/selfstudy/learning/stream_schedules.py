"""Learning rates for data that arrive one set after another: the infinite schedule and its rivals.

The infinite schedule (Ibrahim et al. 2024, arXiv 2403.08763; Singh et al. 2025, arXiv 2503.02844) warms up
once, cools down to a plateau and stays there through all further tasks; a model to be used is annealed from
the plateau on a copy. Every schedule is a pure function of the task and of n, the number of the update within
it, so a run that is resumed needs to know nothing else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from selfstudy.core.errors import UsageError, nearest
from selfstudy.learning.loops import check_positive
from selfstudy.learning.schedules import cosine

StreamName = Literal["infinite", "repeated-cosine", "single-cosine", "constant", "stable"]
"""Of `STREAMS`."""
CooldownName = Literal["cosine", "inverse-sqrt", "linear"]
"""Of `COOLDOWNS`."""
TIME_SCALE = 10.0  # alpha of the inverse square root


class Phases(NamedTuple):
    """Where the phases of a task end, in updates from its start: cumulative, not durations."""

    warmup: int
    """N_w."""
    cooldown: int
    """N_c."""
    decay_start: int | None
    """N_d; None is a plateau without end."""
    steps: int | None
    """N."""


class Place(NamedTuple):
    """Where training is: the update of a task, and which of how many tasks."""

    n: int
    """From 0, where nothing has been trained, to N."""
    task: int = 0
    """From 0."""
    tasks: int = 1


def inverse_sqrt(done: float, time_scale: float = TIME_SCALE) -> float:
    """Return (f(1) - f(p)) / f(1) with f(t) = (1 + a t)^(-1/2) - 1: from 1 down to 0, fast at first.

    >>> [round(inverse_sqrt(done), 2) for done in (0, 0.25, 1)]
    [1.0, 0.33, 0.0]
    """

    def f(t: float) -> float:
        return (1 + time_scale * t) ** -0.5 - 1

    return 1 - f(done) / f(1)


# What is left of the way from the peak to the plateau after a share of the cool-down.
COOLDOWNS: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "inverse-sqrt": inverse_sqrt,
    "linear": lambda done: 1 - done,
}


@dataclass(frozen=True, kw_only=True)
class StreamSchedule:
    """The learning rate over a stream of tasks."""

    name: StreamName = "infinite"
    """"infinite"; "stable" without a cool-down; "repeated-cosine" with a warm-up in every task;
    "single-cosine" over the whole stream, which must be known; "constant" after the warm-up."""
    peak: float = 1.5e-3
    """eta_max."""
    plateau: float = 0.75
    """eta_const as a share of the peak (the authors' code: 0.1)."""
    floor: float = 0.01
    """eta_min as a share of the peak, where annealing and cosines end."""
    warmup: float = 0.05
    """N_w, where the warm-up ends."""
    cooldown: float = 0.30
    """N_c, where the cool-down ends: counted from the start of the task (the authors' code: 0.15)."""
    decay_start: float | None = 0.85
    """N_d, where annealing starts (the authors' code: 0.80); None is never."""
    cooldown_shape: CooldownName = "cosine"
    """How the rate falls to the plateau."""
    ends: Literal["share", "steps"] = "share"
    """Whether the three ends are shares of a task's updates, or numbers of updates."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, peak=0)
        for name, known in ((self.name, STREAMS), (self.cooldown_shape, COOLDOWNS)):
            if name not in known:
                raise UsageError(f"There is no {name!r} among schedules. {nearest(name, known)}")
        if not 0 <= self.floor <= self.plateau <= 1:
            raise UsageError(
                f"The floor is {self.floor:g} and the plateau {self.plateau:g} of the peak: they must be 0 < "
                "floor <= plateau <= 1."
            )
        if self.floor == 0:
            raise UsageError(
                "The floor is 0, and an exponential decay never reaches it. Give a share above 0, such as a "
                f"hundredth of the plateau: {self.plateau / 100:g}."
            )
        self.phases(1 if self.ends == "share" else None)

    def phases(self, steps: int | None) -> Phases:
        """Return the ends of the phases of a task of `steps` updates; None is one without an end.

        Raises:
            UsageError: ends out of order, parts of updates, or shares of a task without an end.
        """
        shares = self.ends == "share"
        last = 1 if shares else steps
        start = last if self.decay_start is None else self.decay_start
        ends = {"warmup": self.warmup, "cooldown": self.cooldown, "decay_start": start, "steps": last}
        _check_ends({name: end for name, end in ends.items() if end is not None}, shares=shares)
        if shares and steps is None:
            raise UsageError("A task without an end has no shares: give the ends as numbers, ends='steps'.")
        scale = steps if shares and steps is not None else 1
        begin = None if start is None else round(scale * start)
        return Phases(round(scale * self.warmup), round(scale * self.cooldown), begin, steps)

    def kept(self, steps: int) -> int:
        """Return how many of a task's updates the next task builds on: N_d, or all where nothing branches."""
        start = self.phases(steps).decay_start
        return start if self.branches and start is not None else steps

    def share(self, place: Place, steps: int | None) -> float:
        """Return the rate of update n of a task as a share of the peak."""
        return STREAMS[self.name](self, place, self.phases(steps))

    @property
    def branches(self) -> bool:
        """Whether it anneals from a plateau, so that the next task can go on from before."""
        return self.name in BRANCHING and self.decay_start is not None


def _check_ends(ends: Mapping[str, float], *, shares: bool) -> None:
    """Refuse ends of phases, in order and by name, that are parts of updates or fall."""
    for name, end in ends.items():
        if not shares and end % 1:
            raise UsageError(
                f"With ends='steps' phases end after whole numbers of updates, and {name} is {end:g}. Give "
                "all three ends as such numbers, or shares with ends='share'."
            )
    for (name, end), (after, later) in itertools.pairwise({"the start": 0.0, **ends}.items()):
        if not end <= later:
            hint = " For numbers of updates say ends='steps'." if shares and end > 1 else ""
            raise UsageError(
                "The phases of a schedule end one after the other, counted from the start of a task: "
                f"{name} is {end:g} and {after} {later:g}.{hint}"
            )


def infinite_lr(n: int, task: int, steps: int | None, settings: StreamSchedule) -> float:
    """Return eta, the learning rate of update `n` of a task under the infinite schedule.

    >>> plan = StreamSchedule(peak=1.0, plateau=0.5, cooldown_shape="linear")
    >>> [round(infinite_lr(n, 0, 100, plan), 2) for n in (0, 5, 20, 50, 85, 100)]
    [0.0, 1.0, 0.7, 0.5, 0.5, 0.01]
    >>> infinite_lr(0, 1, 100, plan)
    0.5

    Args:
        n: of the update within the task; the first one is 1, and 0 the limit before it.
        task: from 0; only task 0 warms up and cools down.
        steps: N; None is a plateau without end.
        settings: the rates and where the phases end.
    """
    return settings.peak * _infinite(settings, Place(n, task), settings.phases(steps))


def _infinite(settings: StreamSchedule, place: Place, phases: Phases) -> float:
    n, plateau = place.n, settings.plateau
    if phases.steps is not None and phases.decay_start is not None and n > phases.decay_start:
        annealed = (n - phases.decay_start) / (phases.steps - phases.decay_start)
        return plateau * (settings.floor / plateau) ** annealed
    if place.task or n >= max(phases.cooldown, phases.warmup + 1):
        return plateau
    if n <= phases.warmup:
        return n / phases.warmup if phases.warmup else 1.0
    left = COOLDOWNS[settings.cooldown_shape]((n - phases.warmup) / (phases.cooldown - phases.warmup))
    return plateau + (1 - plateau) * left


def _stable(settings: StreamSchedule, place: Place, phases: Phases) -> float:
    """Warm-up, plateau at the peak, annealing (Hu et al. 2024): no cool-down."""
    return _infinite(replace(settings, plateau=1.0), place, phases)


def _repeated_cosine(settings: StreamSchedule, place: Place, phases: Phases) -> float:
    start = settings.floor if place.task else 0.0
    if place.n < phases.warmup:
        return start + (1 - start) * place.n / phases.warmup
    return _to_floor(settings, place.n - phases.warmup, _known(phases) - phases.warmup)


def _single_cosine(settings: StreamSchedule, place: Place, phases: Phases) -> float:
    done, total = place.task * _known(phases) + place.n, place.tasks * _known(phases)
    if done < phases.warmup:
        return done / phases.warmup
    return _to_floor(settings, done - phases.warmup, total - phases.warmup)


def _constant(settings: StreamSchedule, place: Place, phases: Phases) -> float:
    return place.n / phases.warmup if not place.task and place.n < phases.warmup else 1.0


def _to_floor(settings: StreamSchedule, done: int, of: int) -> float:
    return settings.floor + (1 - settings.floor) * (cosine(done / of) if of else 0.0)


def _known(phases: Phases) -> int:
    if phases.steps is None:
        raise UsageError("A cosine needs to know the number of updates: only plateaus go on without an end.")
    return phases.steps


# The rate of an update as a share of the peak.
STREAMS: dict[str, Callable[[StreamSchedule, Place, Phases], float]] = {
    "infinite": _infinite,
    "repeated-cosine": _repeated_cosine,
    "single-cosine": _single_cosine,
    "constant": _constant,
    "stable": _stable,
}
BRANCHING = ("infinite", "stable")
