"""Schedules of a stream in torch's own interface, for training loops of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from selfstudy.core.errors import UsageError
from selfstudy.learning.stream_schedules import STREAMS, Phases, Place, StreamSchedule


class InfiniteSchedule(LRScheduler):
    """A schedule of `STREAMS` for any training loop: torch's own interface.

    The rate that a group of weights has at the start is its peak; `settings.peak` is not read. The first
    update of a task is n = 1. Another library's loop that takes a function takes `share_function`.

        scheduler = InfiniteSchedule(optimizer, StreamSchedule(), steps=1000)
        for batch in first_data: ...; optimizer.step(); scheduler.step()
        scheduler.next_task(steps=2000)

    Args:
        optimizer: whose rates are set.
        settings: the schedule.
        steps: N of the first task; None is a plateau without end.
        task: from 0; more for one that goes on from another run.
        tasks: of the stream, which "single-cosine" must know.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: StreamSchedule,
        steps: int | None,
        *,
        task: int = 0,
        tasks: int = 1,
    ) -> None:
        settings.validate()
        self.settings, self.steps, self.task, self.tasks = settings, steps, task, tasks
        self.phases = settings.phases(steps)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the rate of each group for the update that comes next."""
        n = self.last_epoch + 1 if self.steps is None else min(self.last_epoch + 1, self.steps)
        share = STREAMS[self.settings.name](self.settings, Place(n, self.task, self.tasks), self.phases)
        return [base * share for base in self.base_lrs]

    def next_task(self, steps: int | None) -> None:
        """Begin the next task, of `steps` updates."""
        self.task, self.steps, self.phases = self.task + 1, steps, self.settings.phases(steps)
        self._go_to(0)

    def state_dict(self) -> dict[str, Any]:
        """Return the place: task, n and the phases. The rate is worked out anew."""
        return {"task": self.task, "n": self.last_epoch, "phases": list(self.phases)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a saved place, also of a task that had another N.

        Raises:
            UsageError: the other N would have changed what was done; see `resumed_phases`.
        """
        n = state_dict["n"]
        saved, self.task = Phases(*state_dict["phases"]), state_dict["task"]
        self.phases = resumed_phases(self.settings, saved, self.phases, n, self.task)
        self._go_to(n)

    def _go_to(self, done: int) -> None:
        """Set the rates for the update after `done`; torch's own step would take one for granted."""
        self.last_epoch = done
        self._last_lr = self.get_lr()
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def resumed_phases(settings: StreamSchedule, saved: Phases, now: Phases, n: int, task: int = 0) -> Phases:
    """Return the phases with which to go on after update `n` towards another N: what is past stays.

    Args:
        settings: of the schedule.
        saved: the phases so far.
        now: those of the other N.
        n: of the last update that was done.
        task: from 0.

    Raises:
        UsageError: that was no plateau: the rate was rising, cooling down, annealing, or that of a cosine.
    """
    if saved == now:
        return now
    cosines = settings.name in ("repeated-cosine", "single-cosine")
    starts = [p.decay_start for p in (saved, now) if p.decay_start is not None and settings.branches]
    if cosines or any(n > start for start in starts):
        where = "a cosine has no plateau" if cosines else f"annealing starts after update {min(starts)}"
        raise UsageError(
            f"The saved place is update {n} of {saved.steps}, and {where}: it cannot go on towards "
            f"{now.steps} updates. Go back to a state of the plateau, and take another number of updates "
            "from there."
        )
    if not task and n < saved.cooldown and saved[:2] != now[:2]:
        raise UsageError(
            f"The saved place is update {n}, where warm-up and cool-down end at {saved.warmup} and "
            f"{saved.cooldown}, and for {now.steps} updates they would end at {now.warmup} and "
            f"{now.cooldown}. Give the ends as numbers of updates, ends='steps', or keep the {saved.steps}."
        )
    return now._replace(warmup=saved.warmup, cooldown=saved.cooldown)


def share_function(
    settings: StreamSchedule, steps: int | None, *, task: int = 0, tasks: int = 1
) -> Callable[[int], float]:
    """Return the share of the peak by the number of updates done: for `LambdaLR` and trainers that take it.

    >>> share_function(StreamSchedule(), 100, task=1)(0)
    0.75
    """
    settings.validate()
    most = math.inf if steps is None else steps
    return lambda done: settings.share(Place(int(min(done + 1, most)), task, tasks), steps)
