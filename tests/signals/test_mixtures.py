"""Two Gaussians on a line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.signals.mixtures import two_gaussians


def two_groups(seed: int, sizes: tuple[int, int] = (60, 40)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(0.1, 0.02, sizes[0]), rng.normal(0.9, 0.02, sizes[1])])


def test_two_narrow_groups_are_split_exactly() -> None:
    """Oracle: the groups that the numbers were drawn from, and their means and shares."""
    values = two_groups(0)
    found = two_gaussians(values)
    assert np.array_equal(found.posterior_high(values) > 0.5, values > 0.5)
    assert np.allclose(sorted(found.means), [0.1, 0.9], atol=0.01)
    assert np.allclose(sorted(found.weights), [0.4, 0.6], atol=1e-6) and not found.collapsed


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_numbers_changes_nothing(seed: int) -> None:
    """Oracle: an invariance, bit for bit."""
    values = np.random.default_rng(seed).beta(0.5, 0.8, 80)
    order = np.random.default_rng(seed + 1).permutation(len(values))
    one, other = two_gaussians(values), two_gaussians(values[order])
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert np.array_equal(one.posterior_high(values)[order], other.posterior_high(values[order]))


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn_finds_it(seed: int) -> None:
    """Oracle: sklearn's GaussianMixture, begun at the two clusters that numpy finds by trying every split."""
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0.2, 0.08, 300), rng.normal(0.7, 0.15, 150)]).clip(0, 1)
    groups = best_split(values)
    peer = GaussianMixture(
        2,
        max_iter=10,
        tol=1e-2,
        reg_covar=5e-4,
        means_init=[[group.mean()] for group in groups],
        weights_init=[len(group) / len(values) for group in groups],
        precisions_init=[[[1 / (group.var() + 5e-4)]] for group in groups],
    ).fit(values[:, None])
    found = two_gaussians(values)
    assert np.allclose(found.means, peer.means_.ravel(), atol=1e-6)
    assert np.allclose(found.posterior_high(values), peer.predict_proba(values[:, None])[:, 1], atol=1e-6)


def best_split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two groups with the least squares within them."""
    values = np.sort(values)
    parts = [(values[:n], values[n:]) for n in range(1, len(values))]
    return min(parts, key=lambda pair: sum(part.var() * len(part) for part in pair))


def test_one_group_is_a_collapse() -> None:
    """Oracle: the rule, means closer than 0.05 or a component of less than a thousandth, on both sides of
    it."""
    rng = np.random.default_rng(0)
    assert two_gaussians(rng.normal(0.5, 0.01, 200)).collapsed
    assert two_gaussians(np.full(50, 0.3)).collapsed
    one_of_many = np.concatenate([rng.normal(0.1, 0.01, 3000), [1.0]])
    assert two_gaussians(one_of_many).collapsed
    few_of_many = np.concatenate([rng.normal(0.1, 0.01, 3000), np.full(8, 1.0)])
    assert not two_gaussians(few_of_many).collapsed


def test_densities_integrate_to_one_and_stand_in_order() -> None:
    """Oracle: the sum over a fine grid, and which component is higher where."""
    found = two_gaussians(two_groups(1))
    at = np.linspace(-1, 2, 30_001)
    low, high = found.densities(at)
    assert np.isclose((low + high).sum() * (at[1] - at[0]), 1, atol=1e-6)
    assert low[11_000] > high[11_000] and high[19_000] > low[19_000]
