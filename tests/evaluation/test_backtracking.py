"""Figures on going back, by hand-made solutions."""

from __future__ import annotations

import math

import pytest

from selfstudy.data.walks import SYMBOLS
from selfstudy.evaluation.backtracking import (
    backtracking_figures,
    backtracking_pictures,
    count_returns,
    first_branches,
)

SOLUTIONS = [
    [("a", "b"), ("a", "c", "?<1", "d")],
    [("a", "b", "?<1", "b"), ("a", "?<7", "b", "?<0", "c")],
]
RIGHT = [[1, 1], [0, 0]]
FIRST = [[1, 0], [0, 0]]


def test_figures() -> None:
    """Oracle: by hand: a plain answer, one that goes elsewhere, one to the same branch, one lost."""
    assert first_branches(SYMBOLS, SOLUTIONS) == [[("a", "b"), ("a", "c")], [("a", "b"), ("a",)]]
    assert backtracking_figures(SYMBOLS, SOLUTIONS, RIGHT, FIRST) == {
        "pass_at_1": 0.5,
        "backtracks": (0 + 1 + 1 + 2) / 4,
        "returning": 0.5,
        "first_right": 0.25,
        "returned_right": 1.0,
        "returned_first_right": 0.0,
    }
    assert count_returns(SYMBOLS, SOLUTIONS[1][1]) == 2


def test_tasks_without_returns() -> None:
    """Oracle: every solution is its own first branch; there are no rates of what did not happen."""
    found = backtracking_figures(None, SOLUTIONS, RIGHT, RIGHT)
    assert first_branches(None, SOLUTIONS) == SOLUTIONS
    assert found["backtracks"] == found["returning"] == 0 and found["pass_at_1"] == found["first_right"]
    assert math.isnan(found["returned_right"])


def test_pictures() -> None:
    """Oracle: the figures that go in; a stage without figures, and a training without steps, are left out."""
    stages = {
        name: {"pass_at_1": x, "majority": x, "first_right": x / 2}
        for name, x in (("base", 0.2), ("tuned", 0.4))
    }
    shown = backtracking_pictures({**stages, "rewarded": {}}, [{"step": 0, "length": 5.0, "backtracks": 1.0}])
    assert [one["title"] for one in shown][1:] == [
        "Learning from reward: tokens of an answer",
        "Learning from reward: returns of an answer",
    ]
    assert shown[0]["traces"][0]["x"] == ["base", "tuned"]
    assert shown[0]["traces"][2]["y"] == pytest.approx([0.1, 0.2])
    assert backtracking_pictures({}, []) == []
