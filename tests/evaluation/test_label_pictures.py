"""Pictures of labels with distances."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.evaluation import label_pictures as module
from selfstudy.evaluation.label_distances import label_costs
from selfstudy.evaluation.label_pictures import costs_by_class, locus_map
from selfstudy.models.labels.building import edges_space, embedding_space, matrix_space

TREE = edges_space(np.array([[0, 1], [0, 2], [1, 3], [1, 4]]), None, ["root", "a", "b", "a1", "a2"])


def test_costs_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: means by hand, observed classes marked; of many classes those with most items."""
    line, truth = embedding_space(np.arange(4.0)[:, None], list("wxyz")), np.array([0, 0, 3, 1, 1, 1])
    costs = label_costs(line, truth, np.array([0, 2, 3, 0, 1, 2]), np.array([0, 3]))
    found = costs_by_class({"rule": costs}, truth, line.names, np.array([0, 3]))
    (trace,) = found["traces"]
    assert trace["x"] == ["w •", "x", "z •"] and trace["y"] == pytest.approx([2, 2 / 3, 0], rel=1e-4)
    monkeypatch.setattr(module, "MOST", 2)
    assert costs_by_class({"rule": costs}, truth, line.names, np.array([0]))["traces"][0]["x"] == ["w •", "x"]


def test_map_of_a_tree() -> None:
    """Oracle: depth is height, leaves stand side by side, parents above the middle; groups of nodes."""
    found = locus_map(TREE, np.array([3]), np.array([False, True, False, True, True]), [2])
    assert found is not None
    edges, observed, reachable, out, proposed = found["traces"]
    assert observed["text"] == ["a1"] and reachable["text"] == ["a", "a2"] and out["text"] == ["root", "b"]
    assert out["y"] == [0, -1] and proposed["name"] == "label next" and proposed["x"] == [out["x"][1]]
    place = dict(zip([*reachable["text"], *observed["text"]], [*reachable["x"], *observed["x"]], strict=True))
    assert place["a"] == (place["a1"] + place["a2"]) / 2
    assert edges["x"][2] is None and len(edges["x"]) == 3 * 4


def test_map_by_distances() -> None:
    """Oracle: the places have the distances of points in the plane; numbers stay on their line; what is not
    known is said; very many labels are not drawn."""
    points = np.random.default_rng(0).standard_normal((8, 2))
    far = np.linalg.norm(points[:, None] - points[None], axis=2)
    found = locus_map(matrix_space((far + far.T) / 2), np.array([0, 1]), None, [])
    assert found is not None
    known, unknown = found["traces"]
    assert unknown["name"] == "not found out" and known["name"] == "observed"
    places = np.array([[*known["x"], *unknown["x"]], [*known["y"], *unknown["y"]]]).T
    assert np.allclose(np.linalg.norm(places[:, None] - places[None], axis=2), far, atol=1e-3)
    line = locus_map(embedding_space(np.array([[1.0], [5.0]])), np.array([0]), np.array([True, False]), [1])
    assert line is not None and [trace["x"] for trace in line["traces"]] == [[1], [5], [5]]
    assert locus_map(embedding_space(np.zeros((401, 2))), np.array([0]), None, []) is None
