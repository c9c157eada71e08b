"""Schedules of a stream in torch's interface."""

from __future__ import annotations

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.infinite_schedule import InfiniteSchedule, share_function
from selfstudy.learning.stream_schedules import Place, StreamSchedule


def scheduled(
    settings: StreamSchedule, steps: int | None, **more: int
) -> tuple[torch.optim.Optimizer, InfiniteSchedule]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.5}])
    return optimizer, InfiniteSchedule(optimizer, settings, steps, **more)


def rates(optimizer: torch.optim.Optimizer, schedule: InfiniteSchedule, count: int) -> list[float]:
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_scheduler_of_torch() -> None:
    """Oracle: the pure function at n = 1, 2, ..., over two tasks; the group's own rate is the peak."""
    settings = StreamSchedule(plateau=0.5)
    optimizer, schedule = scheduled(settings, 20)
    assert rates(optimizer, schedule, 20) == [0.5 * settings.share(Place(n, 0), 20) for n in range(1, 21)]
    schedule.next_task(40)
    assert rates(optimizer, schedule, 40) == [0.5 * settings.share(Place(n, 1), 40) for n in range(1, 41)]
    assert [share_function(settings, 20)(done) for done in (0, 19, 99)] == [
        settings.share(Place(n, 0), 20) for n in (1, 20, 20)
    ]


@pytest.mark.parametrize("done", [0, 3, 12, 45, 93])
def test_resumed_in_every_phase(done: int) -> None:
    """Oracle: the rates of a schedule that was not interrupted."""
    settings = StreamSchedule(warmup=0.1, cooldown=0.3, decay_start=0.9)
    optimizer, schedule = scheduled(settings, 100)
    rates(optimizer, schedule, done)
    saved = schedule.state_dict()
    other, resumed = scheduled(settings, 100)
    resumed.load_state_dict(saved)
    assert rates(other, resumed, 100 - done) == rates(optimizer, schedule, 100 - done)


def test_another_horizon_on_the_plateau_alone() -> None:
    """Oracle: free on the plateau, refused in annealing and where the ends of phases would move."""
    optimizer, schedule = scheduled(StreamSchedule(), 100)
    rates(optimizer, schedule, 50)
    for steps in (150, 100_000):
        other, later = scheduled(StreamSchedule(), steps)
        later.load_state_dict(schedule.state_dict())
        assert rates(other, later, 20) == [0.5 * 0.75] * 20
    rates(optimizer, schedule, 40)
    with pytest.raises(UsageError, match=r"update 90 of 100.*after update 85.*150"):
        scheduled(StreamSchedule(), 150)[1].load_state_dict(schedule.state_dict())
    optimizer, schedule = scheduled(StreamSchedule(), 100)
    rates(optimizer, schedule, 3)
    with pytest.raises(UsageError, match="ends='steps'"):
        scheduled(StreamSchedule(), 150)[1].load_state_dict(schedule.state_dict())
    for name, word in (("repeated-cosine", "cosine"), ("single-cosine", "cosine")):
        other, cosine = scheduled(StreamSchedule(name=name), 100)  # type: ignore[arg-type]
        rates(other, cosine, 50)
        with pytest.raises(UsageError, match=word):
            scheduled(StreamSchedule(name=name), 150)[1].load_state_dict(cosine.state_dict())  # type: ignore[arg-type]
    in_steps = StreamSchedule(ends="steps", warmup=5, cooldown=30, decay_start=None)
    optimizer, schedule = scheduled(in_steps, 100)
    rates(optimizer, schedule, 3)
    scheduled(in_steps, 150)[1].load_state_dict(schedule.state_dict())
