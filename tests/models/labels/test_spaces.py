"""Distances of every kind of label space against plain ones; saving; pairs; making and refusing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.models.labels import spaces as module
from selfstudy.models.labels.building import edges_space, embedding_space, matrix_space
from selfstudy.models.labels.spaces import (
    AnySpace,
    LabelGraph,
    LabelTree,
    load_space,
    paired_distances,
    save_space,
)


def shortest(edges: np.ndarray, lengths: np.ndarray, nodes: int) -> np.ndarray:
    """All shortest paths by Floyd and Warshall, in plain loops."""
    far = np.full((nodes, nodes), np.inf)
    np.fill_diagonal(far, 0)
    for (a, b), length in zip(edges, lengths, strict=True):
        far[a, b] = far[b, a] = length
    for middle in range(nodes):
        far = np.minimum(far, far[:, middle, None] + far[None, middle])
    return far


def tree_edges(nodes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of a random tree in any order and direction, under other numbers, and their lengths."""
    random = np.random.default_rng(seed)
    edges = np.array([[random.integers(node), node] for node in range(1, nodes)])
    edges = random.permutation(nodes)[edges][random.permutation(nodes - 1)]
    turned = random.random(nodes - 1) < 0.5
    edges[turned] = edges[turned][:, ::-1]
    return edges, random.uniform(0.1, 3, nodes - 1)


def test_trees() -> None:
    """Oracle: Floyd and Warshall on 20 random trees; some sources and some targets are a part of it."""
    for seed in range(20):
        nodes = 2 + seed
        edges, lengths = tree_edges(nodes, seed)
        tree = edges_space(edges, lengths)
        assert isinstance(tree, LabelTree)
        far = shortest(edges, lengths, nodes)
        assert np.allclose(tree.distances(np.arange(nodes)), far)
        some, others = np.array([nodes - 1, 0]), np.array([1, 0, nodes - 1])
        assert np.allclose(tree.distances(some, others), far[some][:, others])
        assert np.allclose(tree.distances(some, slice(1, 5)), far[some, 1:5])


def test_levels_of_a_long_path() -> None:
    """Oracle: the difference of places on a path of 3,000 nodes, whose root is at its end."""
    path = edges_space(np.stack([np.arange(2999), np.arange(1, 3000)], 1))
    assert isinstance(path, LabelTree) and len(path.levels) == 3000
    assert (path.distances(np.array([1000]))[0] == np.abs(np.arange(3000) - 1000)).all()


def test_graphs() -> None:
    """Oracle: Floyd and Warshall on random graphs with cycles."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        ring = np.stack([np.arange(9), (np.arange(9) + 1) % 9], 1)
        edges = np.concatenate([ring, [[0, 4], [2, 7]]])
        lengths = random.uniform(0.1, 3, len(edges))
        graph = edges_space(edges, lengths)
        assert isinstance(graph, LabelGraph)
        assert np.allclose(graph.distances(np.arange(9)), shortest(edges, lengths, 9))


def test_parts_without_a_path_between_them() -> None:
    """Oracle: two paths, of diameters 5 and 1, are put 10 apart; a node without edges too. It is said."""
    edges, lengths = np.array([[0, 1], [1, 2], [3, 4]]), np.array([2.0, 3.0, 1.0])
    with pytest.warns(UserWarning, match="falls into 3 parts.*10 apart"):
        graph = edges_space(edges, lengths, list("abcdef"))
    assert graph.distances(np.array([2, 5])).tolist() == [[5, 3, 0, 10, 10, 10], [10, 10, 10, 10, 10, 0]]


@pytest.mark.parametrize("width", [4, 12])
def test_embeddings(width: int) -> None:
    """Oracle: the formulas, pair by pair; the far-off mean costs no digits."""
    vectors = np.random.default_rng(0).standard_normal((6, width)) + 1e5
    near = vectors - 1e5
    cosine = near @ near.T / np.outer(np.linalg.norm(near, axis=1), np.linalg.norm(near, axis=1))
    euclidean = np.sqrt(((near[:, None] - near[None]) ** 2).sum(2))
    every = np.arange(6)
    found = embedding_space(vectors).distances(every)
    assert np.allclose(found, euclidean, atol=1e-7)
    assert np.allclose(embedding_space(near, between="cosine").distances(every), 1 - cosine)
    angles = embedding_space(near, between="arccos").distances(every)
    assert np.allclose(np.cos(angles), cosine) and (np.abs(np.diag(angles)) < 1e-6).all()


@pytest.mark.parametrize("kind", ["tree", "graph", "embeddings", "matrix"])
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    """Oracle: the same class, names and distances."""
    space: AnySpace = {
        "tree": lambda: edges_space(*tree_edges(7, 0), names=list("abcdefg")),
        "graph": lambda: edges_space(np.array([[0, 1], [1, 2], [2, 0]]), np.array([1.0, 2, 2.5])),
        "embeddings": lambda: embedding_space(np.eye(3) + 0.1, ["x", "y", "ü"], between="arccos"),
        "matrix": lambda: matrix_space(np.array([[0.0, 2], [2, 0]])),
    }[kind]()
    save_space(space, tmp_path / "space")
    again, every = load_space(tmp_path / "space"), np.arange(len(space.names))
    assert type(again) is type(space) and again.names == space.names
    assert (again.distances(every) == space.distances(every)).all()


def test_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: places in the square of distances, whatever the size of blocks."""
    tree = edges_space(*tree_edges(12, 3))
    random = np.random.default_rng(0)
    first, second = random.integers(12, size=50), random.integers(12, size=50)
    wanted = tree.distances(np.arange(12))[first, second]
    for numbers in (2**22, 1, 30):
        monkeypatch.setattr(module, "AT_ONCE", numbers)
        assert (paired_distances(tree, first, second) == wanted).all()


METRIC = 1.0 - np.eye(3)


def changed(i: int, j: int, value: float, *, both: bool = True) -> np.ndarray:
    matrix = METRIC.copy()
    matrix[i, j] = value
    if both:
        matrix[j, i] = value
    return matrix


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (changed(0, 2, -1.0), "-1 from 'a' to 'c' is negative"),
        (changed(1, 2, 1.1, both=False), "from 'b' to 'c' is another than the one back"),
        (changed(1, 1, 0.5), "0.5 from 'b' to 'b'.*must be 0"),
        (changed(0, 1, np.nan), "from 'a' to 'b' is not finite"),
    ],
)
def test_wrong_matrices(matrix: np.ndarray, words: str) -> None:
    """Oracle: the pair that is wrong, by construction."""
    with pytest.raises(DataError, match=words):
        matrix_space(matrix, list("abc"))


def test_what_differs_less_than_it_may() -> None:
    """Oracle: a millionth of asymmetry passes."""
    assert matrix_space(changed(0, 1, 1 + 5e-7, both=False)).matrix[0, 1] == 1 + 5e-7


def test_triangles_that_do_not_close() -> None:
    """Oracle: one pair of four is 5 apart with a way round of 2; a metric says nothing."""
    matrix = 1.0 - np.eye(4)
    matrix[0, 3] = matrix[3, 0] = 5
    with pytest.warns(UserWarning, match="distances of 1 pairs of labels"):
        matrix_space(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix_space(1.0 - np.eye(4))


@pytest.mark.parametrize(
    ("edges", "lengths", "words"),
    [
        ([[0, 1], [1, 2]], [1.0, -2.0], "from 'b' to 'c' has a length that is not above 0"),
        ([[0, 1], [1, 2]], [0.0, 1.0], "from 'a' to 'b' has a length"),
        ([[0, 1], [1, 0]], None, "'a' to 'b' is given more than once"),
        ([[0, 1], [2, 2]], None, "'c' to 'c' joins a label with itself"),
        ([[0, 3]], None, "from 0 to 3; there are 3"),
    ],
)
def test_wrong_edges(edges: Any, lengths: Any, words: str) -> None:
    """Oracle: the edge that is wrong, by construction."""
    with pytest.raises(DataError, match=words):
        edges_space(np.array(edges), None if lengths is None else np.array(lengths), list("abc"))


def test_wrong_embeddings_and_names() -> None:
    """Oracle: one vector too few, one not finite, one without an angle, a name twice."""
    with pytest.raises(DataError, match=r"shape \(2, 4\) and 3 labels"):
        embedding_space(np.ones((2, 4)), list("abc"))
    with pytest.raises(DataError, match="'b' is not finite"):
        embedding_space(np.array([[1.0], [np.inf]]), list("ab"))
    with pytest.raises(DataError, match=r"'a'.*has the length 0"):
        embedding_space(np.array([[0.0, 0], [1, 0]]), list("ab"), between="cosine")
    with pytest.raises(DataError, match="'b' is named twice"):
        embedding_space(np.eye(3), list("abb"))
