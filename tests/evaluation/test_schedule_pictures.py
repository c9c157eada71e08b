"""Rates of a stream as a picture."""

from __future__ import annotations

import pytest

from selfstudy.evaluation.schedule_pictures import stream_picture, stream_traces
from selfstudy.learning.stream_schedules import StreamSchedule, infinite_lr

PLAN = StreamSchedule(peak=1.0, plateau=0.5)


def test_traces_are_the_rates() -> None:
    """Oracle: the pure function, update by update; a later stream begins on the plateau."""
    first, branch, *_ = stream_traces(PLAN, 20, 2)
    assert first["y"] == pytest.approx([infinite_lr(n, 0, 20, PLAN) for n in range(18)], rel=1e-4)
    assert branch["y"] == pytest.approx([infinite_lr(n, 0, 20, PLAN) for n in range(17, 21)], rel=1e-4)
    assert stream_traces(PLAN, 20, 1, first=3)[0]["y"] == [0.5] * 18


def test_long_tasks_are_thinned() -> None:
    """Oracle: the ends are there, and no more than the most points and a last one."""
    (trace,) = stream_traces(StreamSchedule(name="repeated-cosine"), 5000, 1)
    assert (trace["x"][0], trace["x"][-1]) == (0, 5000) and len(trace["x"]) <= 420


def test_names_and_borders() -> None:
    """Oracle: a border between two tasks, where the first ends that is built on; names are in the note."""
    found = stream_picture(PLAN, 20, ["one", "two"])
    assert [shape["x0"] for shape in found["layout"]["shapes"]] == [17]
    assert "one, two" in found["note"] and "copies" in found["note"]
    assert "copies" not in stream_picture(PLAN, 20, ["one"], branch=False)["note"]
