"""Where students are held to labels and teachers: losses written out, and their gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from selfstudy.learning.output_spaces import SPACES, guided_loss

SCORES = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.9, -1.2]])
TEACHER = torch.tensor([[0.4, 0.1, -0.3], [-0.7, 0.5, 0.6]])
HARD = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def by_hand(name: str, wanted: torch.Tensor) -> torch.Tensor:
    p = SCORES.softmax(1)
    if name == "ce":
        return -(wanted * p.log()).sum() / 2
    return (((SCORES if name == "logits-mse" else p) - wanted) ** 2).sum() / 2


@pytest.mark.parametrize("name", SPACES)
def test_losses(name: str) -> None:
    """Oracle: squared errors or cross-entropies of labels and teacher, mixed by the weight of the labels."""
    taught = TEACHER if name == "logits-mse" else TEACHER.softmax(1)
    for weight in (0.0, 0.35, 1.0, 1.4):
        wanted = weight * by_hand(name, HARD) + (1 - weight) * by_hand(name, taught)
        assert guided_loss(SPACES[name], SCORES, HARD, TEACHER, weight) == pytest.approx(wanted.item())
    assert guided_loss(SPACES[name], SCORES, HARD, None, 1.0) == pytest.approx(by_hand(name, HARD).item())


@pytest.mark.parametrize("name", SPACES)
def test_a_mixture_of_targets_has_the_same_gradient(name: str) -> None:
    """Oracle: the loss of the one target alpha y + (1 - alpha) teacher; no gradient reaches the teacher."""
    space: Any = SPACES[name]
    student, teacher = SCORES.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    guided_loss(space, student, HARD, teacher, 0.3).backward()
    mixed = 0.3 * HARD + 0.7 * space.outputs(TEACHER)
    (wanted,) = torch.autograd.grad(space.loss(other := SCORES.clone().requires_grad_(), mixed).mean(), other)
    assert torch.allclose(student.grad, wanted) and teacher.grad is None  # type: ignore[arg-type]
