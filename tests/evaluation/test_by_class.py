"""Figures of inputs by their class."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.evaluation.by_class import by_class


def test_means_by_hand() -> None:
    """Oracle: means of two classes; unknown labels and absent classes are left out."""
    found = by_class(
        "temperatures", np.array([1.0, 3.0, 5.0, 9.0]), np.array([2, 2, 0, -1]), ("cat", "dog", "<emu>")
    )
    assert found["metrics"] == {"temperatures, cat (1 inputs)": 5.0, "temperatures, <emu> (2 inputs)": 2.0}
    (picture,) = found["pictures"]
    assert picture["traces"][0]["x"] == [1, 2] and picture["traces"][0]["y"] == pytest.approx([5.0, 2.0])
    assert picture["traces"][0]["text"] == ["cat", "&lt;emu&gt;"] and "xaxis" not in picture["layout"]


def test_sizes_far_apart_are_drawn_on_a_logarithm() -> None:
    """Oracle: 1 and 4 inputs."""
    labels = np.array([0, 1, 1, 1, 1])
    (picture,) = by_class("tau", np.ones(5), labels, ("a", "b"))["pictures"]
    assert picture["layout"]["xaxis"] == {"type": "log"}


def test_nothing_known() -> None:
    """Oracle: nothing to say."""
    assert by_class("tau", np.ones(2), np.array([-1, -1]), ()) == {"metrics": {}, "pictures": []}
