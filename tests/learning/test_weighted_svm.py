"""Weighted linear machines: against libsvm, what weights mean, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from selfstudy.core.errors import DataError
from selfstudy.learning.weighted_svm import Machines, SvmLoss, svm_losses, svm_objective, weighted_svm

LOSSES: tuple[SvmLoss, ...] = ("hinge", "squared-hinge")


def problem(
    seed: int, items: int = 40, width: int = 5, classes: int = 3, zeros: float = 0.3
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Overlapping classes with weights of which some are 0; the first two items are of both signs."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(items, width))
    signs = np.where(
        features @ rng.normal(size=(width, classes)) + rng.normal(size=(items, classes)) > 0, 1, -1
    )
    weights = rng.random((items, classes)) * 3 * (rng.random((items, classes)) > zeros)
    signs[0], signs[1], weights[:2] = 1, -1, 0.5
    return torch.tensor(features), torch.tensor(signs), torch.tensor(weights)


def by_libsvm(features: torch.Tensor, signs: torch.Tensor, weights: torch.Tensor, class_: int) -> Machines:
    used = (weights[:, class_] > 0).numpy()
    found = SVC(kernel="linear", C=1, tol=1e-9).fit(
        features.numpy()[used], signs.numpy()[used, class_], sample_weight=weights.numpy()[used, class_]
    )
    return Machines(torch.tensor(found.coef_), torch.tensor(found.intercept_))


@pytest.mark.parametrize(("items", "width"), [(60, 4), (25, 60), (400, 20)])
def test_it_is_libsvms_machine(items: int, width: int) -> None:
    """Oracle: libsvm, one class after the other; the optimum of w is unique."""
    features, signs, weights = problem(items, items, width)
    found = weighted_svm(features, signs, weights, tolerance=1e-9)
    for class_ in range(3):
        wanted = by_libsvm(features, signs, weights, class_)
        assert torch.allclose(found.weights[class_], wanted.weights[0], atol=1e-4)
        theirs = svm_objective(wanted, features, signs[:, [class_]], weights[:, [class_]])
        ours = svm_objective(found, features, signs, weights)[class_]
        assert ours <= theirs * (1 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 12), st.sampled_from(LOSSES))
def test_nothing_near_it_is_better(seed: int, items: int, width: int, loss: SvmLoss) -> None:
    """Oracle: the objective is convex, so that no step in any direction may lower it."""
    features, signs, weights = problem(seed, items, width, classes=2)
    found = weighted_svm(features, signs, weights, loss=loss)
    least = svm_objective(found, features, signs, weights, loss)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        other = Machines(
            found.weights + size * torch.tensor(rng.normal(size=(2, width))),
            found.bias + size * torch.tensor(rng.normal(size=2)),
        )
        assert (svm_objective(other, features, signs, weights, loss) >= least - 1e-5 * (1 + least)).all()


def test_the_squared_hinge_has_no_slope_left() -> None:
    """Oracle: the gradient of the smooth objective, by automatic differentiation."""
    features, signs, weights = problem(3, 80, 6)
    found = weighted_svm(features, signs, weights, loss="squared-hinge", tolerance=1e-12)
    leaves = [part.clone().requires_grad_() for part in found]
    svm_objective(Machines(*leaves), features, signs, weights, "squared-hinge").sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() < 1e-4 for leaf in leaves)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_0_and_1_are_a_subset(loss: SvmLoss) -> None:
    """Oracle: the machine of the subset alone."""
    features, signs, weights = problem(5)
    chosen = weights[:, 0] > 0
    found = weighted_svm(features, signs, chosen.double()[:, None].repeat(1, 3), loss=loss, tolerance=1e-9)
    alone = weighted_svm(
        features[chosen], signs[chosen], torch.ones(int(chosen.sum()), 3), loss=loss, tolerance=1e-9
    )
    assert torch.allclose(found.weights, alone.weights, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_of_2_is_an_item_twice(loss: SvmLoss) -> None:
    """Oracle: the machine of the doubled items; of each class another number of times."""
    features, signs, _ = problem(7)
    times = torch.randint(1, 4, (40,), generator=torch.Generator().manual_seed(0))
    found = weighted_svm(features, signs, times.double()[:, None].repeat(1, 3), loss=loss, tolerance=1e-9)
    repeated = features.repeat_interleave(times, 0), signs.repeat_interleave(times, 0)
    doubled = weighted_svm(*repeated, torch.ones(int(times.sum()), 3), loss=loss, tolerance=1e-9)
    assert torch.allclose(found.weights, doubled.weights, atol=1e-4)
    assert torch.allclose(found.bias, doubled.bias, atol=1e-3)


def test_classes_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the machines found one at a time, and in blocks of one class."""
    features, signs, weights = problem(9, 60, 4)
    found = weighted_svm(features, signs, weights, tolerance=1e-9)
    for class_ in range(3):
        alone = weighted_svm(features, signs[:, [class_]], weights[:, [class_]], tolerance=1e-9)
        assert torch.allclose(found.weights[class_], alone.weights[0], atol=1e-4)
    monkeypatch.setattr("selfstudy.learning.weighted_svm.BLOCK", 1)
    blocks = weighted_svm(features, signs, weights, tolerance=1e-9)
    assert torch.allclose(found.weights, blocks.weights, atol=1e-4)


def test_two_items_have_a_closed_form() -> None:
    """Oracle: for items at 1 and -1 with a large weight w = 1 and b = 0; with weight u < 1/2 w = 2 u."""
    features, signs = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1], [-1]])
    for weight, slope in ((10.0, 1.0), (0.2, 0.4)):
        found = weighted_svm(features, signs, torch.full((2, 1), weight), tolerance=1e-10)
        assert torch.allclose(found.weights, torch.tensor([[slope]], dtype=torch.float64), atol=1e-4)
        assert abs(float(found.bias)) < 1e-4


def test_losses_by_hand() -> None:
    """Oracle: four hinges written out."""
    scores = torch.tensor([2.0, 0.5, 0.5, -1.0])
    signs = torch.tensor([1.0, 1.0, -1.0, 1.0])
    assert svm_losses(scores, signs).tolist() == [0.0, 0.5, 1.5, 2.0]
    assert svm_losses(scores, signs, "squared-hinge").tolist() == [0.0, 0.25, 2.25, 4.0]


def test_a_class_without_one_sign_is_refused() -> None:
    """Oracle: a class whose only positive item has no weight, and one of positives alone."""
    features, signs, weights = problem(1)
    signs[:, 1] = -1
    with pytest.raises(DataError, match="Machine 1 has no positive item"):
        weighted_svm(features, signs, weights)
    with pytest.raises(DataError, match="no negative item"):
        weighted_svm(features, torch.ones_like(signs), weights)
