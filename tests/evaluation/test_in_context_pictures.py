"""Pictures of in-context learning hold what was measured."""

from __future__ import annotations

import json

import numpy as np

from selfstudy.evaluation.in_context_pictures import Cell, Shown, in_context_pictures
from selfstudy.learning.meta_training import Trace

ROWS = [
    {"on": on, "by": by, "first": first, "curve": curve, "last": [1.0]}
    for on, by, first, curve in (
        ("seen", "", 1, [0.5, 0.6, 0.7]),
        ("new", "", 1, [0.2, 0.4, 0.6]),
        ("new", "1-NN", 2, [0.5, 0.7]),
        ("new", "regression", 3, [0.8]),
    )
]
TRACE = Trace([1.6, 1.5, 1.2], [{"step": s, "loss": 1.5, "seen": [0.2], "new": [0.3]} for s in (0, 3)])


def cell(tasks: int, width: int, phase: str) -> Cell:
    return Cell(tasks=tasks, width=width, state=1, seen=[0.9, 0.9], new=[0.2, 0.2 + width / 100], phase=phase)


def test_the_map() -> None:
    """Oracle: rows of widths and columns of tasks, each field the gain and the phase of its model."""
    cells = [cell(t, w, f"{t}/{w}") for w in (30, 10) for t in (16, 2)]
    pictures = in_context_pictures(TRACE, ROWS, cells, [], classes=5, left=None)
    shown = pictures[0]["frames"][0]["data"][0]
    assert shown["x"] == ["2", "16"] and shown["y"] == ["10", "30"]
    assert [[round(z, 2) for z in row] for row in shown["z"]] == [[0.1, 0.1], [0.3, 0.3]]
    assert [[text.split("<br>")[0] for text in row] for row in shown["text"]] == [
        ["2/10", "16/10"],
        ["2/30", "16/30"],
    ]
    at_once = pictures[0]["frames"][2]["data"][0]
    assert round(at_once["z"][0][0], 2) == 0.7
    assert [frame["name"] for frame in pictures[1]["frames"]] == ["2", "16"]


def test_curves_and_the_plateau() -> None:
    """Oracle: positions from 1 for the model and from 2 for 1-NN; the end of the plateau is marked if any."""
    pictures = in_context_pictures(TRACE, ROWS, [], [], classes=5, left=2)
    assert len(pictures) == 3 and json.dumps(pictures)
    traces = {trace["name"]: trace for trace in pictures[0]["frames"][0]["data"]}
    assert traces["this model"]["x"] == [1, 2, 3] and traces["1-NN"]["x"] == [2, 3]
    assert traces["regression"]["x"] == [3] and traces["seen"]["y"] == [0.5, 0.6, 0.7]
    assert [frame["name"] for frame in pictures[1]["frames"]] == ["0", "3"]
    assert "plateau left at step 2" in [trace["name"] for trace in pictures[2]["traces"]]
    lasting = in_context_pictures(TRACE, ROWS, [], [], classes=5, left=None)[-1]
    assert len(lasting["traces"]) == 4 and "not left" in lasting["note"]


def test_examples() -> None:
    """Oracle: two images side by side with a gap, by hand."""
    images = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    shown = [Shown(task="task 7", images=images, labels=[1, 0])]
    drawn = in_context_pictures(TRACE, ROWS, [], shown, classes=5, left=None)[-1]
    assert drawn["frames"][0]["name"] == "task 7: labels 1, 0"
    assert drawn["frames"][0]["data"][0]["z"] == [[0, 1, None, 4, 5], [2, 3, None, 6, 7]]
