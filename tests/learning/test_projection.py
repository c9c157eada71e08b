"""Features as linear learners like them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from selfstudy.core.errors import DataError
from selfstudy.learning.projection import projection

FEATURES = torch.tensor(np.random.default_rng(0).normal(size=(30, 6)) * [5, 3, 1, 1, 0.5, 0.1] + 4)


def test_main_directions_are_those_of_principal_components() -> None:
    """Oracle: scikit-learn's PCA, up to the sign of a direction, divided by one number."""
    found = projection(FEATURES, 3)(FEATURES)
    wanted = torch.tensor(PCA(3, svd_solver="full").fit_transform(FEATURES.numpy()))
    wanted = wanted / wanted.square().sum(1).mean().sqrt()
    assert torch.allclose(found.abs(), wanted.abs(), atol=1e-8)


@pytest.mark.parametrize("components", [None, 6, 3])
def test_the_scale_is_one(components: int | None) -> None:
    """Oracle: a mean of 0 in each column, and a mean squared length of 1."""
    found = projection(FEATURES, components)(FEATURES)
    assert torch.allclose(found.mean(0), torch.zeros(found.shape[1], dtype=torch.float64), atol=1e-10)
    assert float(found.square().sum(1).mean()) == pytest.approx(1)


def test_machines_can_be_said_in_plain_features() -> None:
    """Oracle: the scores in projected features."""
    map_ = projection(FEATURES, 4)
    weights, bias = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    plain, moved = map_.undone(weights, bias)
    assert torch.allclose(FEATURES @ plain.T + moved, map_(FEATURES) @ weights.T + bias)


def test_constant_features_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the map of the other columns; a line that counts; all constant is refused."""
    with_constant = torch.cat([FEATURES[:, :2], torch.full((30, 1), 0.1), FEATURES[:, 2:]], 1)
    with caplog.at_level(logging.WARNING):
        found = projection(with_constant)
    assert "1 of 7 features are the same" in caplog.text
    assert torch.allclose(found(with_constant), projection(FEATURES)(FEATURES))
    assert not found.directions[2].any()
    with pytest.raises(DataError, match="nothing to tell them by"):
        projection(torch.full((5, 2), 0.1))
