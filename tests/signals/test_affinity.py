"""Graphs of nearest neighbours as matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.signals.affinity import affinity, drawn_towards


def by_hand(items: np.ndarray, count: int) -> np.ndarray:
    weights = np.zeros((len(items), len(items)))
    for place, one in enumerate(items):
        order = np.argsort(np.linalg.norm(items - one, axis=1))
        weights[place, order[order != place][:count]] = 1
    return weights


@pytest.mark.parametrize("symmetric", [True, False])
def test_dense_and_sparse_are_the_graph(symmetric: bool) -> None:
    """Oracle: sorted distances, item by item."""
    batch = np.random.default_rng(0).normal(size=(3, 20, 4))
    dense = affinity(torch.from_numpy(batch).float(), 3, symmetric=symmetric).among
    for place, items in enumerate(batch):
        wanted = by_hand(items, 3)
        wanted = (wanted + wanted.T) / 2 if symmetric else wanted
        np.testing.assert_array_equal(dense[place].numpy(), wanted)
        sparse = affinity(torch.from_numpy(items).float(), 3, symmetric=symmetric).among
        assert sparse.layout is torch.sparse_csr
        np.testing.assert_array_equal(sparse.to_dense().numpy(), wanted)


def test_labelled_items_are_in_it_or_not() -> None:
    """Oracle: blocks of the graph of all items; without them, the graph of queries alone."""
    items = np.random.default_rng(1).normal(size=(14, 2))
    support, queries = torch.from_numpy(items[:4]).float(), torch.from_numpy(items[4:]).float()
    whole = by_hand(items, 3)
    whole = (whole + whole.T) / 2
    for s, q in ((support, queries), (support[None], queries[None])):
        found = affinity(q, 3, support=s)
        among, towards = (part.to_dense().reshape(10, -1).numpy() for part in found)
        np.testing.assert_array_equal(among, whole[4:, 4:])
        np.testing.assert_array_equal(towards, whole[4:, :4])
        alone = affinity(q, 3)
        assert alone.towards.shape[-1] == 0
        np.testing.assert_array_equal(
            alone.among.to_dense().reshape(10, 10).numpy() > 0, (lambda w: w + w.T > 0)(by_hand(items[4:], 3))
        )


def test_the_shift_leaves_no_eigenvalue_below_zero() -> None:
    """Oracle: all eigenvalues, by NumPy; off the diagonal nothing changes."""
    items = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 60, 3))).float()
    for place in range(2):
        plain = affinity(items[place], 3).among.to_dense().numpy()
        assert np.linalg.eigvalsh(plain)[0] < -0.5
        for found in (affinity(items[place], 3, psd=True), affinity(items, 3, psd=True)):
            matrix = found.among.to_dense().numpy()
            matrix = matrix if matrix.ndim == 2 else matrix[place]
            least = np.linalg.eigvalsh(matrix.astype(float))[0]
            assert -1e-5 < least < 0.02
            rest = matrix - plain
            np.testing.assert_allclose(rest, np.eye(60) * rest[0, 0], atol=1e-6)


def test_products() -> None:
    """Oracle: dense products, problem by problem."""
    rng = np.random.default_rng(3)
    items, z = (
        torch.from_numpy(rng.normal(size=(12, 2))).float(),
        torch.from_numpy(rng.random((2, 5, 12, 3))).float(),
    )
    graph = affinity(items, 2).among
    torch.testing.assert_close(drawn_towards(graph, z), graph.to_dense() @ z)
    torch.testing.assert_close(drawn_towards(graph, z[0, 0]), graph.to_dense() @ z[0, 0])
    torch.testing.assert_close(drawn_towards(graph.to_dense(), z), graph.to_dense() @ z)


def test_equal_items_and_too_many_neighbours() -> None:
    """Oracle: equal items are neighbours of one another, never of themselves; no more than the others."""
    same = torch.zeros(5, 2)
    for found in (affinity(same, 2), affinity(same[None], 2)):
        weights = found.among.to_dense().reshape(5, 5)
        assert weights.diagonal().sum() == 0 and weights.sum() == 10
    with pytest.raises(UsageError, match="among 4 others"):
        affinity(same, 5)
