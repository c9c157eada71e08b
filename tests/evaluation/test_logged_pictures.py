"""Curves of what a run logged."""

from __future__ import annotations

import itertools

from selfstudy.evaluation.logged_pictures import MOST_POINTS, logged_picture


def test_curves_of_a_stage() -> None:
    """Oracle: the figures of that stage by hand; lines that lack one are left out."""
    lines = [
        {"stage": "encoder", "step": 0, "on": 4.0, "off": 8.0},
        {"stage": "other", "step": 0, "on": 9.0, "off": 9.0},
        {"stage": "encoder", "step": 1, "on": 2.0, "off": 6.0},
        {"stage": "encoder", "step": 2, "collapsed_at": 2},
    ]
    made = logged_picture(lines, "encoder", {"on": "first", "off": "second"}, "Sums", scales={"off": 0.5})
    assert [(trace["name"], trace["x"], trace["y"]) for trace in made["traces"]] == [
        ("first", [0, 1], [4.0, 2.0]),
        ("second", [0, 1], [4.0, 3.0]),
    ]
    assert made["layout"]["yaxis"]["type"] == "log"
    shares = logged_picture(lines, "encoder", {"on": "first"}, "Shares", shares=True)
    assert shares["layout"]["yaxis"] == {"range": [0, 1.02]}


def test_long_logs_are_thinned() -> None:
    """Oracle: fewer than twice the most points, evenly apart, from the first step."""
    lines = [{"stage": "s", "step": step, "on": 1.0} for step in range(3 * MOST_POINTS + 7)]
    steps = logged_picture(lines, "s", {"on": "on"}, "Loss")["traces"][0]["x"]
    assert steps[0] == 0 and len(steps) < 2 * MOST_POINTS
    assert len({after - before for before, after in itertools.pairwise(steps)}) == 1
