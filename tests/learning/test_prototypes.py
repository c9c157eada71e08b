"""Distances to prototypes, and where prototypes go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.learning.prototypes import UPDATES, distances, empty, moved, reseeded, strongest


@pytest.fixture
def cloud() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items [30, 3], weights [30, 2], prototypes [2, 3]."""
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(30, 3, generator=rng, dtype=torch.float64),
        torch.rand(30, 2, generator=rng, dtype=torch.float64),
        torch.randn(2, 3, generator=rng, dtype=torch.float64),
    )


def test_distances(cloud: Any) -> None:
    """Oracle: the formulas with NumPy's norms."""
    items, _, prototypes = (one.numpy() for one in cloud)
    apart = items[:, None] - prototypes
    wanted = {
        "squared": (apart**2).sum(2),
        "euclidean": np.linalg.norm(apart, axis=2),
        "manhattan": np.abs(apart).sum(2),
        "gaussian": -np.exp(-((apart**2).sum(2)) / (2 * 0.7**2)),
    }
    for kind, values in wanted.items():
        found = distances(kind, cloud[0], cloud[2], 0.7)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.numpy(), values, atol=1e-10)


@pytest.mark.parametrize("kind", UPDATES)
def test_a_moved_prototype_costs_the_least_around(kind: Any, cloud: Any) -> None:
    """Oracle: the cost itself: not above where it was, and, for all but modes, not above 200 other places;
    modes are at a place where small steps do not help."""
    items, weights, prototypes = cloud

    def cost(at: torch.Tensor) -> torch.Tensor:
        return (weights * distances(kind, items, at, 1.0)).sum(0)

    found = moved(kind, items, weights, prototypes, 1.0)
    for _ in range(20):
        found = moved(kind, items, weights, found, 1.0)
    best, rng = cost(found), torch.Generator().manual_seed(1)
    assert (best <= cost(prototypes) + 1e-9).all()
    reach = 0.01 if kind == "gaussian" else 1.0
    for _ in range(200):
        other = found + reach * torch.randn(2, 3, generator=rng, dtype=torch.float64)
        assert (best <= cost(other) + 1e-6).all()


def test_a_mean_of_less_than_one_item() -> None:
    """Oracle: the weighted mean by hand, of weights that sum to 0.6; below 0.5 a prototype stays."""
    items, weights = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.2, 0.2], [0.4, 0.2]])
    found = moved("squared", items, weights, torch.tensor([[9.0], [9.0]]), 1.0)
    torch.testing.assert_close(found, torch.tensor([[2.0], [9.0]]))


def test_weighted_medians_by_hand() -> None:
    """Oracle: the first value at which half of the weight is reached."""
    items = torch.tensor([[1.0], [2.0], [10.0], [4.0]])
    weights = torch.tensor([[1.0, 0.1], [1.0, 0.1], [1.0, 5.0], [0.5, 0.1]])
    found = moved("manhattan", items, weights, torch.zeros(2, 1), 1.0)
    assert found.tolist() == [[2.0], [10.0]]


def test_the_strongest_item(cloud: Any) -> None:
    """Oracle: argmax over items, for one set and for a batch that shares it or not."""
    items, weights, _ = cloud
    best = [int(weights[:, k].argmax()) for k in range(2)]
    assert torch.equal(strongest(items, weights), items[best])
    assert torch.equal(strongest(items, weights.expand(4, 30, 2))[3], items[best])
    assert torch.equal(strongest(items.expand(4, 30, 3), weights.expand(4, 30, 2))[3], items[best])


def test_empty_prototypes_go_to_the_farthest_items() -> None:
    """Oracle: a line by hand: of three prototypes two have no item; they go to the two farthest points."""
    items = torch.tensor([[0.0], [1.0], [7.0], [9.0]])
    prototypes = torch.tensor([[0.5], [50.0], [60.0]])
    weights = torch.tensor([[1.0, 0, 0]] * 4)
    vacant = empty(weights)
    assert vacant.tolist() == [False, True, True]
    apart = distances("squared", items, prototypes, 1.0)
    assert reseeded(items, apart, prototypes, vacant).tolist() == [[0.5], [9.0], [7.0]]
    together = reseeded(items, apart.expand(2, 4, 3), prototypes.expand(2, 3, 1), vacant.expand(2, 3))
    assert together[1].tolist() == [[0.5], [9.0], [7.0]]
    assert moved("squared", items, weights, prototypes, 1.0).tolist() == [[4.25], [50.0], [60.0]]
