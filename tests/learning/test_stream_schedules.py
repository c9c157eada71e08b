"""Rates of a stream: where phases meet, what they reduce to, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.learning.schedules import SCHEDULES
from selfstudy.learning.stream_schedules import (
    COOLDOWNS,
    STREAMS,
    Place,
    StreamSchedule,
    infinite_lr,
)

SHAPES = sorted(COOLDOWNS)
STEPS = 2000
PLAN = StreamSchedule(
    peak=2.0, plateau=0.4, floor=0.01, ends="steps", warmup=100, cooldown=600, decay_start=1700
)


def plan(**fields: object) -> StreamSchedule:
    return StreamSchedule(**{**{name: getattr(PLAN, name) for name in PLAN.__dataclass_fields__}, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
def test_phases_meet(shape: str) -> None:
    """Oracle: the paper's values at the ends, and limits from both sides by a step of 1e-9 of a phase."""
    settings = plan(cooldown_shape=shape)
    assert infinite_lr(100, 0, STEPS, settings) == 2.0
    assert infinite_lr(600, 0, STEPS, settings) == pytest.approx(0.8, abs=1e-12)
    assert infinite_lr(1700, 0, STEPS, settings) == pytest.approx(0.8, abs=1e-12)
    assert infinite_lr(STEPS, 0, STEPS, settings) == pytest.approx(0.02, abs=1e-14)
    for end in (100, 600, 1700):
        left, at, right = (infinite_lr(end + gap, 0, STEPS, settings) for gap in (-1e-7, 0, 1e-7))  # type: ignore[arg-type]
        assert left == pytest.approx(at, abs=1e-6) and right == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@given(
    ends=st.lists(st.integers(0, 60), min_size=4, max_size=4),
    plateau=st.floats(0.05, 1.0),
    floor=st.floats(1e-3, 0.05),
)
def test_never_rises_after_the_warm_up(shape: str, ends: list[int], plateau: float, floor: float) -> None:
    """Oracle: the law that no phase after the first rises; phases of any length, none at all among them."""
    warmup, cooldown, start, steps = sorted(ends)
    settings = StreamSchedule(
        peak=1.0,
        plateau=plateau,
        floor=floor,
        ends="steps",
        warmup=warmup,
        cooldown=cooldown,
        decay_start=start,
        cooldown_shape=shape,  # type: ignore[arg-type]
    )
    settings.validate()
    rates = np.array([infinite_lr(n, 0, steps, settings) for n in range(steps + 1)])
    assert np.isfinite(rates).all() and (np.diff(rates[warmup:]) <= 1e-12).all()
    later = [infinite_lr(n, 1, steps, settings) for n in range(steps + 1)]
    assert later[: start + 1] == [plateau] * (start + 1)


def test_cooldown_shapes() -> None:
    """Oracle: the paper's three formulas, written out, a quarter of the way down."""
    f = [1 / math.sqrt(1 + 10 * t) - 1 for t in (0.25, 1.0)]
    expected = {
        "cosine": 0.8 + 0.6 * (1 + math.cos(math.pi / 4)),
        "inverse-sqrt": 2.0 + (0.8 - 2.0) * f[0] / f[1],
        "linear": 2.0 - 1.2 / 4,
    }
    for shape, value in expected.items():
        assert infinite_lr(225, 0, STEPS, plan(cooldown_shape=shape)) == pytest.approx(value, abs=1e-12)


def test_annealing_is_exponential() -> None:
    """Oracle: a logarithm without second differences, and the geometric mean half-way."""
    rates = [infinite_lr(n, 3, STEPS, PLAN) for n in range(1700, STEPS + 1)]
    assert np.abs(np.diff(np.log(rates), n=2)).max() < 1e-12
    assert infinite_lr(1850, 0, STEPS, PLAN) == pytest.approx(math.sqrt(0.8 * 0.02))


def test_a_plateau_at_the_peak_is_warm_up_stable_decay() -> None:
    """Oracle: the schedule "stable" of a stream; and without annealing a constant."""
    flat = plan(plateau=1.0, cooldown_shape="linear")
    stable, constant = plan(name="stable"), plan(name="constant")
    for n in range(STEPS + 1):
        assert flat.share(Place(n), STEPS) == pytest.approx(stable.share(Place(n), STEPS), abs=1e-15)
    endless = plan(plateau=1.0, decay_start=STEPS)
    for n in range(STEPS + 1):
        assert endless.share(Place(n), STEPS) == constant.share(Place(n), STEPS)
    assert not plan(decay_start=None).branches and PLAN.branches


def test_what_the_next_task_builds_on() -> None:
    """Oracle: the updates before annealing, by hand; all where nothing branches or nothing is annealed."""
    assert PLAN.kept(STEPS) == 1700 and StreamSchedule().kept(200) == 170
    assert plan(name="constant").kept(STEPS) == plan(decay_start=None).kept(STEPS) == STEPS


def test_the_plateau_does_not_know_how_long_it_is() -> None:
    """Oracle: the same bits for a thousand, a million and endless updates where ends are given in updates."""
    settings = plan(decay_start=None)
    short, long, endless = (
        [infinite_lr(n, 0, steps, settings) for n in range(700)] for steps in (1_000, 1_000_000, None)
    )
    assert short == long == endless


def test_the_rivals() -> None:
    """Oracle: a warm-up and half a cosine, written out: in each task again, or once over all."""
    again, once = plan(name="repeated-cosine"), plan(name="single-cosine")
    assert [again.share(Place(0, task, 3), STEPS) for task in (0, 1)] == [0.0, 0.01]
    assert again.share(Place(50, 1, 3), STEPS) == pytest.approx(0.01 + 0.99 / 2)
    assert again.share(Place(1050, 2, 3), STEPS) == pytest.approx(0.01 + 0.99 * SCHEDULES["cosine"](0.5))
    assert once.share(Place(STEPS, 2, 3), STEPS) == pytest.approx(0.01)
    assert once.share(Place(1050, 1, 3), STEPS) == pytest.approx(
        0.01 + 0.99 * SCHEDULES["cosine"](2950 / 5900)
    )
    assert once.share(Place(0, 1, 3), STEPS) == once.share(Place(STEPS, 0, 3), STEPS)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"warmup": 0.5, "cooldown": 0.3}, ("0.5", "0.3")),
        ({"cooldown": 0.9}, ("0.9", "0.85")),
        ({"decay_start": 1.2}, ("1.2", "steps 1")),
        ({"warmup": -0.1}, ("-0.1", "warmup")),
        ({"warmup": math.nan}, ("nan", "warmup")),
        ({"warmup": 100}, ("100", "ends='steps'")),
        ({"ends": "steps"}, ("whole numbers", "warmup is 0.05")),
        ({"ends": "steps", "warmup": 5, "cooldown": 40}, ("whole numbers", "decay_start is 0.85")),
        ({"ends": "steps", "warmup": 5, "cooldown": 4, "decay_start": 8}, ("5", "4")),
        ({"plateau": 1.5}, ("1.5", "plateau")),
        ({"floor": 0.8}, ("0.8", "0.75")),
        ({"floor": 0.0}, ("0.0075", "floor")),
        ({"peak": 0.0}, ("peak",)),
        ({"name": "infinit"}, ("infinite",)),
        ({"cooldown_shape": "sine"}, ("cosine",)),
    ],
)
def test_what_is_refused(fields: dict[str, object], words: tuple[str, ...]) -> None:
    """Oracle: the numbers that contradict each other are in the message."""
    with pytest.raises(UsageError) as said:
        StreamSchedule(**fields).validate()  # type: ignore[arg-type]
    assert all(word in str(said.value) for word in words), said.value


def test_a_task_shorter_than_its_annealing_is_refused() -> None:
    """Oracle: 1,000 updates, and annealing after 1,700."""
    with pytest.raises(UsageError, match=r"decay_start is 1700 and steps 1000"):
        PLAN.phases(1000)
    with pytest.raises(UsageError, match="without an end"):
        StreamSchedule().phases(None)
    with pytest.raises(UsageError, match="number of updates"):
        plan(name="single-cosine", decay_start=None).share(Place(700), None)


def test_every_stream_starts_and_ends_inside_its_bounds() -> None:
    """Oracle: shares from 0 to 1, for all schedules and places."""
    for name in STREAMS:
        settings = StreamSchedule(name=name)  # type: ignore[arg-type]
        found = [settings.share(Place(n, task, 3), 40) for task in range(3) for n in range(41)]
        assert min(found) >= 0 and max(found) == pytest.approx(1.0), name
