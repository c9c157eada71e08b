"""Views of graphs: who is dropped how often, and that draws depend on names alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from selfstudy.core.errors import UsageError
from selfstudy.data.graph_views import GraphViews, RandomViews, degree, eigenvector, pagerank
from selfstudy.data.graphs import cleaned, planted_blocks

STAR = np.array([[0, 0, 0, 1], [1, 2, 3, 2]])  # and a fifth node without edges


def star(features: object = None):
    return cleaned("star", np.eye(5) if features is None else features, [STAR])


def test_centralities() -> None:
    """Oracle: networkx."""
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph(STAR.T.tolist())
    wanted = networkx.pagerank(graph, alpha=0.85, tol=1e-12)
    found = pagerank(STAR, 4)
    np.testing.assert_allclose(found, [wanted[node] for node in range(4)], rtol=1e-6)
    wanted = networkx.eigenvector_centrality_numpy(graph)
    found = eigenvector(STAR, 4)
    np.testing.assert_allclose(found / np.linalg.norm(found), [wanted[n] for n in range(4)], rtol=1e-5)
    assert degree(STAR, 5).tolist() == [3, 2, 2, 1, 0]


@pytest.mark.parametrize("centrality", ["pagerank", "degree", "eigenvector"])
def test_chances_by_centrality(centrality) -> None:
    """Oracle: the formula edge by edge; the mean is the rate where nothing is cut."""
    graph = star()
    central = {"pagerank": pagerank, "degree": degree, "eigenvector": eigenvector}[centrality](STAR, 5)
    logs = np.log(central.clip(min=1e-8))
    s = np.array([(logs[u] + logs[v]) / 2 for u, v in STAR.T])
    w = (s.max() - s) / (s.max() - s.mean())
    found = GraphViews(edges=0.2, columns=0.1, centrality=centrality, most=1.0).chances(graph)
    np.testing.assert_allclose(found.edges, np.minimum(w / w.mean() * 0.2, 1.0))
    assert found.edges.mean() == pytest.approx(0.2) and found.edges.argmin() == s.argmax()
    columns = np.log(central.clip(min=1e-8))  # each feature is at one node
    w = (columns.max() - columns) / (columns.max() - columns.mean())
    np.testing.assert_allclose(found.columns, np.minimum(w / w.mean() * 0.1, 1.0))
    cut = GraphViews(edges=0.4, columns=0.5, centrality=centrality).chances(graph)
    assert cut.edges.max() <= 0.7 and cut.columns.max() == 0.7


def test_equal_centrality_gives_equal_chances() -> None:
    """Oracle: a ring, where all nodes are alike, and no centrality."""
    ring = cleaned("ring", np.eye(6), [np.stack([np.arange(6), (np.arange(6) + 1) % 6])])
    for centrality in ("pagerank", "degree", "eigenvector", "none"):
        found = GraphViews(edges=0.3, columns=0.2, centrality=centrality).chances(ring)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.edges, 0.3)
        np.testing.assert_allclose(found.columns, 0.2)


def test_signs_of_features_do_not_matter() -> None:
    """Oracle: |x|; sparse and dense features have the same chances."""
    X = np.random.default_rng(0).normal(size=(5, 3))
    chances = [GraphViews().chances(star(found)).columns for found in (X, -X, sparse.csr_array(X))]
    np.testing.assert_allclose(chances[0], chances[1])
    np.testing.assert_allclose(chances[0], chances[2], rtol=1e-6)


def test_things_are_left_out_as_often_as_they_should() -> None:
    """Oracle: their chances, within five standard errors over 2,000 views."""
    drawn = RandomViews(star(), 0, GraphViews(edges=0.3, columns=0.3))
    kept = [drawn.kept(key) for key in range(2000)]
    for at, chances in enumerate(drawn.chances):
        share = 1 - np.mean([view[at] for view in kept], axis=0)
        error = np.sqrt(chances * (1 - chances) / 2000)
        assert (np.abs(share - chances) <= 5 * error + 1e-12).all()


def test_draws_are_named_by_nodes_and_columns() -> None:
    """Oracle: the same edges in a graph with one more edge and another column; another key."""
    graph = planted_blocks(nodes=40, features=6)
    views = GraphViews(edges=0.5, columns=0.5, centrality="none")
    edges, columns = RandomViews(graph, 0, views).kept(7)
    fewer = graph.with_relations([graph.edges[:, 1:]])
    again, same_columns = RandomViews(fewer, 0, views).kept(7)
    assert np.array_equal(edges[1:], again) and np.array_equal(columns, same_columns)
    other, _ = RandomViews(graph, 0, views).kept(8)
    assert not np.array_equal(edges, other)
    view = RandomViews(graph, 0, views).view(7)
    assert view.columns.tolist() == columns.astype(float).tolist()
    assert (view.adjacency.to_dense() > 0).sum() == 2 * edges.sum() + 40


def test_bad_chances_are_refused() -> None:
    """Oracle: the name of the field."""
    for bad in ({"edges": 1.2}, {"columns": -0.1}, {"most": 2.0}):
        with pytest.raises(UsageError, match=f"GraphViews.{next(iter(bad))} is .* from 0 to 1"):
            GraphViews(**bad).validate()
