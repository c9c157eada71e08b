"""A network that follows another."""

from __future__ import annotations

import torch
from torch import nn

from selfstudy.models.ema import follow, follower


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = follower(student)
    with torch.no_grad():
        for weight in student.parameters():
            weight += torch.randn_like(weight)
    student(torch.randn(8, 3))
    return teacher, student


def test_weights_are_averaged_and_buffers_copied() -> None:
    """Oracle: the mean by hand at 0.7; at 0 the student, at 1 the teacher as it was."""
    for keep in (0.7, 0.0, 1.0):
        teacher, student = networks()
        before = [weight.clone() for weight in teacher.parameters()]
        follow(teacher, student, keep)
        for old, new, other in zip(before, teacher.parameters(), student.parameters(), strict=True):
            assert torch.allclose(new, keep * old + (1 - keep) * other, atol=1e-6)
            assert keep != 1.0 or torch.equal(new, old)
            assert keep != 0.0 or torch.equal(new, other)
        for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
            assert torch.equal(mine, other)


def test_a_follower_takes_no_gradient() -> None:
    """Oracle: torch's own flag, and weights of its own."""
    teacher, student = networks()
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert all(weight.requires_grad for weight in student.parameters())
    assert not any(a is b for a, b in zip(teacher.parameters(), student.parameters(), strict=True))
