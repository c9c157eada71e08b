"""Detectors of wrong labels, and weights of the guesses in their place."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.evaluation.noise_detection import area_under_curve
from selfstudy.signals.label_noise import (
    agreed,
    kept_in_each_class,
    linear_separation,
    pseudo_loss_weights,
    small_loss,
    unit_range,
)


def blobs(distance: float, count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [2 count, 5] of clean and noisy items, and which are noisy."""
    rng = np.random.default_rng(seed)
    noisy = np.arange(2 * count) >= count
    features = rng.normal(size=(2 * count, 5)) + distance * noisy[:, None]
    return 3 + 7 * features, noisy


def test_large_losses_are_found() -> None:
    """Oracle: the groups that losses were drawn from; an infinite and a huge loss move nothing else."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(0.3, 0.05, 2000), rng.normal(2.5, 0.1, 700)])
    found = small_loss(losses)
    assert np.array_equal(found.noisy, losses > 1.5) and found.mixture is not None
    extreme = np.concatenate([losses, [1e9, np.inf]])
    again = small_loss(extreme)
    assert np.array_equal(again.noisy, extreme > 1.5)
    assert np.array_equal(small_loss(losses[::-1]).noisy, found.noisy[::-1])


def test_the_least_loss_is_never_noisy() -> None:
    """Oracle: a wide upper group, which has more density than the narrow lower one far below both."""
    rng = np.random.default_rng(0)
    losses = np.concatenate([[0.0], rng.normal(2.0, 0.01, 500), rng.normal(4.0, 1.2, 400).clip(2.1)])
    found = small_loss(losses, sure=0.5)
    assert found.mixture is not None and not found.noisy[0]
    assert found.mixture.posterior_high(np.zeros(1))[0] > 0.9
    assert found.noisy[losses.argmax()]


@pytest.mark.parametrize("losses", [np.full(100, 0.7), np.zeros(2), np.linspace(0.5, 0.5000001, 50) * 0 + 1])
def test_one_group_is_all_clean(losses: np.ndarray) -> None:
    """Oracle: the rule; equal losses tell nothing."""
    found = small_loss(losses)
    assert not found.noisy.any() and not found.score.any() and found.mixture is None


def test_unit_range() -> None:
    """Oracle: the numbers written out; infinity counts as the largest finite one."""
    assert np.allclose(unit_range(np.array([2.0, 4.0, np.inf, 3.0])), [0, 1, 1, 0.5])
    assert np.allclose(unit_range(np.arange(101.0), 0.5), np.minimum(np.arange(101) / 50, 1))
    assert not unit_range(np.full(3, np.inf)).any()


def test_separable_features_are_told_apart() -> None:
    """Oracle: an area of 1 for separable groups with the truth trusted."""
    features, noisy = blobs(8.0)
    found = linear_separation(features, noisy)
    assert area_under_curve(found.score, noisy) == 1 and np.array_equal(found.noisy, noisy)


def test_errors_of_the_trusted_are_smoothed_away() -> None:
    """Oracle: an area above 0.99 with a fifth of the trusted sets exchanged, though they score 0.8
    themselves."""
    features, noisy = blobs(4.0)
    trusted = noisy ^ (np.random.default_rng(1).random(len(noisy)) < 0.2)
    found = linear_separation(features, trusted)
    assert area_under_curve(found.score, noisy) > 0.99
    assert (found.noisy == noisy).mean() > 0.97 > 0.85 > (trusted == noisy).mean()


def test_the_separation_is_balanced_and_unscaled() -> None:
    """Oracle: few noisy items are told as well as many; units and offsets of features change nothing."""
    features, noisy = blobs(1.0, count=300)
    few = np.concatenate([np.flatnonzero(~noisy), np.flatnonzero(noisy)[:30]])
    found = linear_separation(features[few], noisy[few])
    assert found.noisy[noisy[few]].mean() > 0.75 and found.noisy[~noisy[few]].mean() < 0.25
    moved = linear_separation(features[few] * [1, 10, 100, 1e-3, 1] + 5, noisy[few])
    assert np.allclose(found.score, moved.score, atol=1e-4)
    constant = np.concatenate([features[few], np.ones((len(few), 1))], axis=1)
    assert np.allclose(found.score, linear_separation(constant, noisy[few]).score, atol=1e-4)


@pytest.mark.parametrize("value", [True, False])
def test_with_one_trusted_set_it_stands(value: bool) -> None:
    """Oracle: what is trusted itself."""
    features, noisy = blobs(2.0, count=10)
    assert (linear_separation(features, np.full(len(noisy), value)).noisy == value).all()


def test_weights_of_guesses() -> None:
    """Oracle: the groups that pseudo-losses were drawn from; clean items weigh 1 whatever their
    pseudo-loss."""
    rng = np.random.default_rng(0)
    noisy = np.arange(300) >= 100
    pseudo = np.concatenate(
        [np.full(100, 9.0), rng.normal(0.2, 0.02, 120), rng.normal(1.8, 0.02, 79), [np.inf]]
    )
    weights = pseudo_loss_weights(pseudo, noisy)
    assert (weights[:100] == 1).all() and (weights[100:220] > 0.99).all() and (weights[220:] < 0.01).all()
    assert (pseudo_loss_weights(pseudo, noisy, least=201) == 1).all()
    assert (pseudo_loss_weights(np.full(300, 0.4), noisy) == 1).all()


def test_a_class_is_not_lost() -> None:
    """Oracle: a tenth of the class by hand, the least losses first; other classes stay as they are."""
    labels = np.repeat([0, 1, 2], [20, 20, 3])
    losses = np.random.default_rng(0).random(43)
    noisy = (labels != 1) | (np.arange(43) == 25)
    kept = kept_in_each_class(noisy, losses, labels)
    assert np.array_equal(np.flatnonzero(~kept[:20]), np.sort(losses[:20].argsort()[:2]))
    assert np.array_equal(kept[20:40], noisy[20:40])
    assert (~kept[40:]).sum() == 1 and not kept[40 + losses[40:].argmin()]
    assert noisy[:20].all(), "the argument was changed"


def test_networks_agree_by_intersection() -> None:
    """Oracle: the intersection and the mean by hand; weights are 1 outside it."""
    first, second = np.array([True, True, False, False]), np.array([True, False, True, False])
    noisy, weights = agreed([first, second], [np.array([0.2, 0.3, 1, 1]), np.array([0.6, 1, 0.1, 1])])
    assert noisy.tolist() == [True, False, False, False]
    assert np.allclose(weights, [0.4, 1, 1, 1])
