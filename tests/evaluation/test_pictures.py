"""Pictures as plain data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.pictures import band, bars, heatmap, line, moving_picture, picture, points


def test_pictures_are_json() -> None:
    """Oracle: the JSON module; arrays of any kind become plain numbers with five digits."""
    traces = [
        line("a", np.arange(3), np.array([1 / 3, 2.0, 1e-9], dtype=np.float32), line={"dash": "dot"}),
        points("b", range(2), [True, False]),
        bars("c", ["x"], [np.int64(3)]),
        heatmap(np.eye(2), [2, 3], [0, 1], showscale=False),
    ]
    again = json.loads(json.dumps(picture("t", traces, x="step", layout={"barmode": "group"})))
    assert again["traces"][0]["y"] == [0.33333, 2.0, 1e-9] and again["traces"][0]["x"] == [0, 1, 2]
    assert again["traces"][0]["line"] == {"dash": "dot"}
    assert again["traces"][2]["y"] == [3] and again["traces"][3]["z"] == [[1.0, 0.0], [0.0, 1.0]]
    assert (again["x"], again["y"], again["layout"]) == ("step", "", {"barmode": "group"})


def test_names_of_rows_and_columns_are_not_taken_for_numbers() -> None:
    """Oracle: plotly's axis type "category" for text, its own choice for numbers; what is asked for stays."""
    found = picture("t", [heatmap([[1.0]], ["16"], [2])], layout={"xaxis": {"side": "top"}})
    assert found["layout"] == {"xaxis": {"type": "category", "side": "top"}}


def test_words_stay_text() -> None:
    """Oracle: plotly reads text as markup, so that it must be escaped."""
    trace = bars("<b>a & b</b>", ["<i>"], [1])
    assert trace["name"] == "&lt;b>a &amp; b&lt;/b>" and trace["x"] == ["&lt;i>"]


def test_a_moving_picture_shows_its_first_frame() -> None:
    """Oracle: the frames that were given; frames that cannot follow each other are refused."""
    frames = [(str(step), [line("a", [0, 1], [0, step])]) for step in range(3)]
    found = moving_picture("t", frames, over="step", milliseconds=50)
    assert found["traces"] == found["frames"][0]["data"]
    assert [frame["name"] for frame in found["frames"]] == ["0", "1", "2"]
    assert found["over"] == "step" and found["milliseconds"] == 50
    with pytest.raises(UsageError, match="same number of traces"):
        moving_picture("t", [*frames, ("3", [])], over="step")
    with pytest.raises(UsageError, match="needs frames"):
        moving_picture("t", [], over="step")


def test_a_band_fills_up_to_its_lower_end() -> None:
    """Oracle: plotly's `tonexty` fills to the trace before."""
    low, high = band("b", iter([0, 1]), [1, 1], [2, 3], "rgba(0,0,0,0.2)")
    assert "fill" not in low and high["fill"] == "tonexty"
    assert low["x"] == high["x"] == [0, 1] and (low["y"], high["y"]) == ([1, 1], [2, 3])
