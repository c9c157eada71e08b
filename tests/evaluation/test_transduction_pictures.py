"""Pictures of items labelled together."""

from __future__ import annotations

import numpy as np

from selfstudy.evaluation.transduction_pictures import (
    energy_picture,
    grid_picture,
    label_map,
    ways_picture,
)


def test_energies_go_on_from_round_to_round() -> None:
    """Oracle: steps counted by hand."""
    first, second = energy_picture([[3.0, 2.0, 1.5], [1.4, 1.0]])["traces"]
    assert first["x"] == [0, 1, 2] and second["x"] == [3, 4] and second["y"] == [1.4, 1.0]


def test_bars_and_grid() -> None:
    """Oracle: the values that were given; settings are names, so that cells are of one size."""
    assert ways_picture({"full": 0.9, "k-means": 0.8})["traces"][0]["y"] == [0.9, 0.8]
    grid = grid_picture((0.1, 1.0), (5.0,), np.array([[0.25, 0.5]]))
    assert grid["traces"][0]["z"] == [[0.25, 0.5]] and grid["layout"]["xaxis"]["type"] == "category"


def test_the_map_marks_given_labels() -> None:
    """Oracle: stars at the items with a label; a trace a class; only the chosen items."""
    features = np.random.default_rng(0).normal(size=(20, 3))
    labels, given = np.arange(20) % 2, np.full(20, -1)
    given[:2] = [0, 1]
    traces = label_map(features, labels, given, ("a<", "b"), np.arange(12))["traces"]
    assert [trace["name"] for trace in traces] == ["a&lt;", "b"]
    assert [len(trace["x"]) for trace in traces] == [6, 6]
    assert all(trace["marker"]["symbol"] == ["star"] + ["circle"] * 5 for trace in traces)
