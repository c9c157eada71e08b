"""Distances between weights, and models of other shapes."""

from __future__ import annotations

import pytest
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.learning.weight_distance import distance, require_same_weights, squared_distance


def network(width: int = 3, value: float = 0.0) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))
    for weight in made.parameters():
        nn.init.constant_(weight, value)
    return made


def test_the_distance_is_over_trained_weights() -> None:
    """Oracle: the root of the number of weights, each one 2 away; a frozen one does not count; the gradient
    of the square is twice the difference."""
    origin, model = network(), network(value=2.0)
    assert distance(model, origin) == pytest.approx(2 * (9 + 4) ** 0.5) and distance(origin, origin) == 0
    squared_distance(model, origin).backward()
    gradients = [weight.grad for weight in model.parameters()]
    assert all(found is not None and bool((found == 4).all()) for found in gradients)
    assert all(weight.grad is None for weight in origin.parameters())
    model[0].requires_grad_(False)
    assert distance(model, origin) == pytest.approx(2 * 4**0.5)


def test_other_shapes_are_named() -> None:
    """Oracle: the tensors that differ, with both shapes; the same architecture passes."""
    require_same_weights(network(), network(value=1.0), what="It")
    with pytest.raises(UsageError, match=r"0\.bias \(4,\) for \(3,\); 0\.weight \(4, 2\) for \(3, 2\)"):
        require_same_weights(network(), network(4), what="It")
    with pytest.raises(UsageError, match=r"1\.bias missing for \(1,\)"):
        require_same_weights(network(), nn.Sequential(nn.Linear(2, 3)), what="It")
