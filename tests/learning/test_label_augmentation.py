"""Losses of labels joint with transformations, against closed forms and plain second implementations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.data.transformations import aggregated_scores, identity_scores
from selfstudy.learning.distillation import distillation_loss
from selfstudy.learning.label_augmentation import (
    ClassLoss,
    class_loss,
    copies_loss,
    joint_loss,
    transformation_loss,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(classes: int) -> ClassLoss:
    return class_loss("cross-entropy", torch.ones(classes, dtype=torch.long))


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4))
def test_the_joint_loss_is_a_mean_over_images_and_copies(classes: int, count: int, images: int) -> None:
    """Oracle: two loops over images and copies, with log-softmax at y * M + j."""
    labels = torch.arange(images) % classes
    scores = drawn(images * count, classes * count)
    by_hand = [
        -scores[i * count + j].log_softmax(0)[int(labels[i]) * count + j]
        for i in range(images)
        for j in range(count)
    ]
    found = joint_loss(scores, labels, count, plain(classes * count))
    assert found.item() == pytest.approx(torch.stack(by_hand).mean().item(), abs=1e-12)


def test_one_transformation_is_plain_training() -> None:
    """Oracle: with M = 1 the joint loss is cross-entropy, and both ways of reading are the scores."""
    scores, labels = drawn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    assert joint_loss(scores, labels, 1, plain(4)) == functional.cross_entropy(scores, labels)
    assert torch.equal(identity_scores(scores, 1), scores) and torch.equal(
        aggregated_scores(scores, 1), scores
    )


def test_multi_task_is_the_joint_loss_with_tied_weights() -> None:
    """Oracle: with u_(y, j) = w_y + v_j the joint cross-entropy is the sum of those of class and of
    transformation."""
    classes, count, labels = 3, 4, torch.tensor([2, 0, 1])
    of_class, of_turn = drawn(3 * count, classes), drawn(3 * count, count, seed=1)
    joint = (of_class[:, :, None] + of_turn[:, None, :]).flatten(1)
    apart = copies_loss(of_class, labels, count, plain(classes)) + transformation_loss(of_turn, count)
    assert joint_loss(joint, labels, count, plain(12)).item() == pytest.approx(apart.item(), abs=1e-12)


def test_the_single_reading_conditions_on_the_identity() -> None:
    """Oracle: P(y | x, j = 0) from the joint softmax: its entries at j = 0 over their sum."""
    joint = drawn(5, 12)
    table = joint.softmax(1).view(5, 3, 4)[:, :, 0]
    by_hand = table / table.sum(1, keepdim=True)
    assert torch.allclose(identity_scores(joint, 4).softmax(1), by_hand, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_a_divergence(temperature: float) -> None:
    """Oracle: T^2 sum p (log p - log q) by hand; 0 where student and teacher agree, up to a constant."""
    student, teacher = drawn(6, 5), drawn(6, 5, seed=1)
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    by_hand = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
    assert distillation_loss(student, teacher, temperature).item() == pytest.approx(by_hand.item(), abs=1e-12)
    assert distillation_loss(teacher + 3, teacher, temperature).abs() < 1e-12


def test_the_teacher_gets_no_gradient() -> None:
    """Oracle: the student's gradient is T (q - p) / B, by calculus; the joint scores have none."""
    student, joint = drawn(2, 3).requires_grad_(), drawn(8, 12, seed=1).requires_grad_()
    teacher = aggregated_scores(joint, 4)
    distillation_loss(student, teacher, 2.0).backward()
    by_hand = 2.0 * ((student / 2).softmax(1) - (teacher / 2).softmax(1)) / 2
    assert torch.allclose(student.grad, by_hand.detach(), atol=1e-12)  # type: ignore[arg-type]
    assert joint.grad is None


def test_the_gradient_keeps_its_size_as_the_temperature_grows() -> None:
    """Oracle: with T^2 the gradient's norm at T = 4 is within a factor of 2 of that at T = 1; without it, it
    would be about a sixteenth."""
    teacher, norms = drawn(64, 10, seed=1), []
    for temperature in (1.0, 4.0):
        student = drawn(64, 10).requires_grad_()
        distillation_loss(student, teacher, temperature).backward()
        norms.append(float(student.grad.norm()))  # type: ignore[union-attr]
    assert 0.5 < norms[1] / norms[0] < 2


def test_renaming_classes_and_transformations_changes_nothing() -> None:
    """Oracle: permuted columns and rows with permuted labels give the same loss, and the same classes told
    under their new names."""
    classes, count, labels = 3, 4, torch.tensor([0, 2, 1, 1])
    scores = drawn(4 * count, classes * count)
    of_class, of_turn = torch.tensor([2, 0, 1]), torch.tensor([0, 3, 1, 2])
    table = scores.view(4, count, classes, count)
    moved = torch.empty_like(table)
    moved[:, of_turn[:, None, None], of_class[None, :, None], of_turn[None, None, :]] = table
    moved = moved.reshape(4 * count, classes * count)
    each = plain(classes * count)
    assert joint_loss(moved, of_class[labels], count, each).item() == pytest.approx(
        joint_loss(scores, labels, count, each).item(), abs=1e-12
    )
    assert torch.equal(
        aggregated_scores(moved, count).argmax(1), of_class[aggregated_scores(scores, count).argmax(1)]
    )


def test_losses_for_rare_classes() -> None:
    """Oracle: -(1 - p)^gamma log p by hand; margins 0.5 (n_min / n)^(1/4) taken from the true class's score;
    both are cross-entropy at gamma = 0 and margin = 0."""
    scores, labels, counts = drawn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([16, 1, 256])
    p = scores.softmax(1).gather(1, labels[:, None])[:, 0]
    assert torch.allclose(class_loss("focal", counts, focus=2.0)(scores, labels), -((1 - p) ** 2) * p.log())
    margins = torch.tensor([0.25, 0.5, 0.125])
    lowered = scores.clone()
    for i, label in enumerate(labels.tolist()):
        lowered[i, label] -= margins[label]
    by_hand = functional.cross_entropy(lowered, labels, reduction="none")
    assert torch.allclose(class_loss("margin", counts, margin=0.5)(scores, labels), by_hand)
    plainly = functional.cross_entropy(scores, labels, reduction="none")
    assert torch.allclose(class_loss("focal", counts, focus=0.0)(scores, labels), plainly)
    assert torch.allclose(class_loss("margin", counts, margin=0.0)(scores, labels), plainly)
