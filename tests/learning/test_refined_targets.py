"""Refined targets: the schedule, sums, the gradient, and labels that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.distillation import soft_cross_entropy
from selfstudy.learning.refined_targets import PSKDTargets, alpha_at, hard_targets, refined

LABELS = torch.tensor([2, 0, 1])


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_the_schedule() -> None:
    """Oracle: the paper's line: 0.8/300 in the first epoch of 300, 0.8 to the bit in the last."""
    assert alpha_at(0, 300, 0.8) == pytest.approx(0.8 / 300)
    assert alpha_at(299, 300, 0.8) == 0.8
    assert [alpha_at(epoch, 4, 0.4, "constant") for epoch in range(4)] == [0.4] * 4


def test_the_first_epoch_is_the_label() -> None:
    """Oracle: one-hot rows to the bit, also of items whose prediction is known already."""
    targets = PSKDTargets(5, 3, epochs=4)
    places = np.array([4, 0, 2])
    targets.update(places, random(0, 3, 3).softmax(1).float())
    assert torch.equal(targets.targets(places, LABELS, 0), torch.eye(3)[LABELS])


@given(st.integers(0, 500), st.integers(0, 5), st.sampled_from(["dense", "topk"]), st.floats(0, 0.5))
def test_targets_are_distributions(seed: int, epoch: int, storage: str, smoothing: float) -> None:
    """Oracle: the law that targets sum to 1, and the formula with what was said, where anything was."""
    targets = PSKDTargets(4, 3, 0.8, 6, storage, top=2, smoothing=smoothing)  # type: ignore[arg-type]
    said = random(seed, 2, 3).softmax(1).float()
    targets.update(np.array([1, 3]), said)
    found = targets.targets(np.array([3, 2, 1]), LABELS, epoch)
    assert torch.allclose(found.sum(1), torch.ones(3), atol=1e-6)
    hard = hard_targets(LABELS, 3, smoothing)
    assert torch.allclose(found[1], hard[1])
    if storage == "dense" and epoch:
        alpha = 0.8 * (epoch + 1) / 6
        assert torch.allclose(found[0], (1 - alpha) * hard[0] + alpha * said[1], atol=1e-6)


@given(st.integers(0, 500), st.floats(0, 1))
def test_the_gradient(seed: int, alpha: float) -> None:
    """Oracle: p - (1 - alpha) y - alpha m of autograd; for the true class that of cross-entropy, rescaled by
    1 - alpha (1 - m) / (1 - p); with m = p it is (1 - alpha)(p - y)."""
    scores = random(seed, 3, 4).requires_grad_()
    said = random(seed + 1, 3, 4).softmax(1)
    hard = torch.eye(4, dtype=torch.float64)[LABELS]
    p = scores.detach().softmax(1)
    (found,) = torch.autograd.grad(soft_cross_entropy(scores, refined(hard, said, alpha)).sum(), scores)
    assert torch.allclose(found, p - (1 - alpha) * hard - alpha * said)
    of = (torch.arange(3), LABELS)
    assert torch.allclose(-found[of], (1 - p[of]) * (1 - alpha * (1 - said[of]) / (1 - p[of])))
    (still,) = torch.autograd.grad(soft_cross_entropy(scores, refined(hard, p, alpha)).sum(), scores)
    assert torch.allclose(still, (1 - alpha) * (p - hard))


def test_what_is_refused() -> None:
    """Oracle: each fault is named: numbers as labels, labels that are no class, places, alpha, epochs."""
    targets = PSKDTargets(3, 3, epochs=2)
    with pytest.raises(DataError, match="guided-self-distillation"):
        targets.targets(np.array([0]), torch.tensor([1.5]), 1)
    for label in (-1, 3):
        with pytest.raises(DataError, match="there are 3 classes"):
            targets.targets(np.array([0]), torch.tensor([label]), 1)
    with pytest.raises(DataError, match="has 3 rows"):
        targets.targets(np.array([3]), torch.tensor([0]), 1)
    for wrong in ({"alpha_T": 1.1}, {"alpha_T": -0.1}, {"epochs": 0}, {"smoothing": 1.0}):
        with pytest.raises(UsageError, match="alpha is from 0"):
            PSKDTargets(3, 3, **wrong)
