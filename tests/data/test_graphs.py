"""Graphs are cleaned, and what cannot be cleaned is named."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from selfstudy.core.errors import DataError
from selfstudy.data.adjacency import Adjacency, SparseInputs, multiply
from selfstudy.data.graphs import UNKNOWN, cleaned, planted_blocks

X = np.arange(1.0, 13.0).reshape(4, 3)


def test_loops_and_repetitions_are_removed_and_counted() -> None:
    """Oracle: edges by hand; a list with each edge once, and one with each edge both ways, are alike."""
    with pytest.warns(UserWarning, match=r"'g' were cleaned \(2 loops, 1 repeated\): loops and repetitions"):
        graph = cleaned("g", X, [[[0, 3, 2, 0, 0, 3], [1, 3, 1, 0, 1, 1]]])
    assert graph.edges.tolist() == [[0, 1, 1], [1, 2, 3]]
    assert graph.removed == {"loops": 2, "repeated": 1, "one way": 0}
    once = np.array([[0, 3, 2], [1, 1, 1]])
    for edges in (once, once[::-1], np.concatenate([once, once[::-1]], axis=1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cleaned("g", X, [edges]).edges.tolist() == [[0, 1, 1], [1, 2, 3]]


def test_directed_edges_are_made_undirected_with_a_warning() -> None:
    """Oracle: of three edges one is listed both ways."""
    with pytest.warns(UserWarning, match=r"2 one way\): .* taken to go both ways"):
        graph = cleaned("g", X, [[[0, 1, 2, 3], [1, 0, 1, 0]]])
    assert graph.edges.tolist() == [[0, 0, 1], [1, 3, 2]] and graph.removed["one way"] == 2


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_edges_of_any_list(pairs: list[tuple[int, int]]) -> None:
    """Oracle: the set of unordered pairs of different nodes."""
    expected = sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not expected:
            with pytest.raises(DataError, match="no edges between different nodes"):
                cleaned("g", np.eye(6), [np.array(pairs).T])
            return
        graph = cleaned("g", np.eye(6), [np.array(pairs).T])
    assert [tuple(pair) for pair in graph.edges.T.tolist()] == expected


@pytest.mark.parametrize(
    ("features", "edges", "words"),
    [
        (
            X,
            [[0, 1], [1, 4]],
            "Edge 1 of the graph 'g' names the node 4, but its 4 nodes are numbered 0 to 3",
        ),
        (X, [[-1], [1]], "names the node -1"),
        (X, [[0, 1, 2]], r"shape \(1, 3\); give \[2, E\]"),
        (X, [[], []], "no edges"),
        (
            np.where(X == 8, np.nan, X),
            [[0], [1]],
            "Node 2 of the graph 'g' has no finite number in feature 1",
        ),
        (sparse.csr_array(np.where(X == 8, np.inf, X)), [[0], [1]], "Node 2 .* in feature 1 "),
        (0 * X, [[0], [1]], "All features of the graph 'g' are 0.* features=identity"),
        (sparse.csr_array(0 * X), [[0], [1]], "All features"),
        (X[0], [[0], [1]], r"shape \(3,\); give \[N, F\]"),
    ],
)
def test_bad_graphs_are_named(features, edges, words: str) -> None:
    """Oracle: what is wrong, by construction."""
    with pytest.raises(DataError, match=words):
        cleaned("g", features, [edges])


def test_labels() -> None:
    """Oracle: below 0 is unknown; one too few is refused; nothing of them is left in the unlabelled graph."""
    graph = cleaned("g", X, [[[0], [1]]], labels=np.array([1, -3, 0, 2], np.int8))
    assert graph.labels.tolist() == [1, UNKNOWN, 0, 2] and graph.classes == ("0", "1", "2")
    assert set(graph.unlabelled().labels) == {UNKNOWN} and graph.unlabelled().classes == ()
    with pytest.raises(DataError, match=r"4 nodes, but its labels have the shape \(3,\)"):
        cleaned("g", X, [[[0], [1]]], labels=[0, 1, 2])


def test_zero_rows_and_lonely_nodes_are_allowed() -> None:
    """Oracle: the normalised adjacency by hand; a lonely node keeps its own features."""
    graph = cleaned("g", np.where(np.arange(4)[:, None] == 2, 0, X), [[[0], [1]]])
    dense = Adjacency(graph.edges, 4).normalised().to_dense().numpy()
    expected = np.diag([0.5, 0.5, 1.0, 1.0])
    expected[0, 1] = expected[1, 0] = 0.5
    np.testing.assert_allclose(dense, expected, rtol=1e-6)


def test_adjacency_of_some_edges() -> None:
    """Oracle: D^-1/2 (A + I) D^-1/2 by dense algebra, of the kept edges alone."""
    graph = planted_blocks(nodes=30, inside=0.4, outside=0.1)
    kept = np.random.default_rng(0).random(graph.edges.shape[1]) < 0.5
    A = np.eye(30)
    A[tuple(graph.edges[:, kept])] = 1
    A = np.maximum(A, A.T)
    scale = A.sum(1) ** -0.5
    found = Adjacency(graph.edges, 30)
    np.testing.assert_allclose(
        found.normalised(kept).to_dense().numpy(), scale[:, None] * A * scale, rtol=1e-5
    )
    plain = found.plain().to_dense().numpy()
    assert plain.sum() == 2 * graph.edges.shape[1] and not plain.diagonal().any()


def test_sparse_products_have_the_gradients_of_dense_ones() -> None:
    """Oracle: torch's dense product and gradient."""
    import torch

    features = sparse.random_array((6, 5), density=0.4, rng=np.random.default_rng(0), format="csr")
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    adjacency = Adjacency(np.array([[0, 1, 2], [1, 2, 5]]), 6).normalised()
    results = []
    for one, two in (
        (SparseInputs(features), adjacency),
        (torch.from_numpy(features.toarray()).float(), adjacency.to_dense()),
    ):
        product = multiply(two, one @ weight)
        results.append([product, *torch.autograd.grad(product.square().sum(), weight)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_planted_blocks() -> None:
    """Oracle: the number of edges expected, within five standard deviations, and the same draw twice."""
    graph = planted_blocks(nodes=200, blocks=4, inside=0.3, outside=0.05, relations=2, seed=1)
    within = graph.labels[graph.edges[0]] == graph.labels[graph.edges[1]]
    for count, pairs, chance in ((within.sum(), 4 * 50 * 49 / 2, 0.3), ((~within).sum(), 6 * 2500, 0.05)):
        assert abs(count - pairs * chance) < 5 * np.sqrt(pairs * chance * (1 - chance))
    again = planted_blocks(nodes=200, blocks=4, inside=0.3, outside=0.05, relations=2, seed=1)
    assert all(np.array_equal(*pair) for pair in zip(graph.relations, again.relations, strict=True))
    assert not np.array_equal(*graph.relations)
