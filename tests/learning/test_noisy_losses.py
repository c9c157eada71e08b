"""Losses of training on guessed and mixed labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.learning.distillation import soft_cross_entropy
from selfstudy.learning.mixing import mix_batch
from selfstudy.learning.noisy_losses import (
    class_imbalance,
    mixed_class_contrast,
    mixed_cross_entropy,
    mixing_share,
    sharpened,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])
TARGETS = functional.one_hot(LABELS, 4).double()
ORDER = torch.tensor([3, 0, 5, 1, 2, 4])


def test_sharpening() -> None:
    """Oracle: rows sum to 1, gamma 1 is the softmax, a large gamma one class, 2 squared probabilities."""
    plain = LOGITS.softmax(1)
    assert torch.allclose(sharpened(LOGITS, 1.0), plain)
    assert torch.allclose(sharpened(LOGITS, 2.0), plain**2 / (plain**2).sum(1, keepdim=True))
    for gamma in (0.3, 2.0, 50.0):
        assert torch.allclose(sharpened(LOGITS, gamma).sum(1), torch.ones(6, dtype=torch.float64))
    assert torch.allclose(sharpened(LOGITS, 1e4), functional.one_hot(LOGITS.argmax(1), 4).double())
    assert torch.isfinite(sharpened(torch.tensor([[1e4, -1e4]]), 5.0)).all()


def test_without_noise_it_is_mixup() -> None:
    """Oracle: mixup's loss with torch's cross-entropy, weights of 1."""
    found = mixed_cross_entropy(LOGITS, TARGETS, torch.ones(6, dtype=torch.float64), 0.7, ORDER)
    entropy = functional.cross_entropy
    assert torch.allclose(found, 0.7 * entropy(LOGITS, LABELS) + 0.3 * entropy(LOGITS, LABELS[ORDER]))
    assert torch.allclose(soft_cross_entropy(LOGITS, TARGETS), entropy(LOGITS, LABELS, reduction="none"))


def test_weights_are_those_of_the_target() -> None:
    """Oracle: weighted means item by item; the second term's weights are permuted with its targets."""
    weights = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.2, 0.0], dtype=torch.float64)
    soft = torch.rand(6, 4, generator=GENERATOR, dtype=torch.float64).softmax(1)
    logs = LOGITS.log_softmax(1)
    own = sum(weights[i] * -(soft[i] @ logs[i]) for i in range(6))
    other = sum(weights[j] * -(soft[j] @ logs[i]) for i, j in enumerate(ORDER.tolist()))
    wanted = (0.6 * own + 0.4 * other) / weights.sum()
    assert torch.allclose(mixed_cross_entropy(LOGITS, soft, weights, 0.6, ORDER), wanted)


def test_a_batch_without_weight_teaches_nothing() -> None:
    """Oracle: a loss and a gradient of 0, not nan."""
    logits = LOGITS.clone().requires_grad_()
    loss = mixed_cross_entropy(logits, TARGETS, torch.zeros(6, dtype=torch.float64), 0.6, ORDER)
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_contrast_of_unlike_items_is_info_nce() -> None:
    """Oracle: torch's cross-entropy of each view finding its own, when all labels differ and nothing is
    mixed."""
    one, other = torch.randn(2, 5, 3, generator=GENERATOR, dtype=torch.float64)
    cosines = functional.cosine_similarity(one[:, None], other[None], dim=2)
    wanted = functional.cross_entropy(cosines / 0.2, torch.arange(5))
    found = mixed_class_contrast(
        one, other, torch.arange(5), 1.0, torch.randperm(5, generator=GENERATOR), 0.2
    )
    assert torch.allclose(found, wanted)


def test_contrast_by_hand() -> None:
    """Oracle: the formula pair by pair: rows over the number of positives, targets of the other part
    permuted."""
    mixed, other = torch.randn(2, 6, 3, generator=GENERATOR, dtype=torch.float64)
    cosines = functional.cosine_similarity(mixed[:, None], other[None], dim=2)
    logs, wanted = (cosines / 0.5).log_softmax(1), 0.0
    for i in range(6):
        for place, share in ((i, 0.8), (int(ORDER[i]), 0.2)):
            alike = [j for j in range(6) if LABELS[j] == LABELS[place]]
            wanted -= share * sum(logs[i, j] for j in alike) / len(alike) / 6
    assert torch.allclose(
        mixed_class_contrast(mixed, other, LABELS, 0.8, ORDER, 0.5), torch.as_tensor(wanted)
    )


def test_class_imbalance() -> None:
    """Oracle: the sum over classes written out; 0 where the mean is uniform."""
    mean = LOGITS.softmax(1).mean(0)
    wanted = sum(0.25 * torch.log(0.25 / mean[c]) for c in range(4))
    assert torch.allclose(class_imbalance(LOGITS), wanted)
    assert torch.allclose(class_imbalance(torch.eye(4) * 9), torch.zeros(()), atol=1e-6)


@pytest.mark.parametrize("beta", [0.2, 1.0, 8.0])
def test_shares(beta: float) -> None:
    """Oracle: the greater part, from 0.5 to 1; the mixture of a batch with itself."""
    shares = [mixing_share(np.random.default_rng(seed), beta) for seed in range(200)]
    assert min(shares) >= 0.5 and max(shares) <= 1 and len(set(shares)) > 190
    assert torch.equal(mix_batch(LOGITS, LOGITS, 0.7, ORDER), 0.7 * LOGITS + (1 - 0.7) * LOGITS[ORDER])
