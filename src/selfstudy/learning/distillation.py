"""Losses that hold a student's scores or features to a teacher's, or to its own of before."""

from __future__ import annotations

import torch
from torch.nn import functional


def distillation_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch.

    Hinton, Vinyals and Dean 2015, arXiv 1503.02531. No gradient reaches the teacher. T^2 keeps the size of
    the student's gradient as T grows.

    Args:
        student: scores, [B, C].
        teacher: scores, [B, C].
        temperature: T, above 0.
    """
    wanted = functional.log_softmax(teacher.detach() / temperature, 1)
    told = functional.log_softmax(student / temperature, 1)
    return temperature**2 * functional.kl_div(told, wanted, reduction="batchmean", log_target=True)


def soft_cross_entropy(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each row with its target distribution, both [B, C]: [B]."""
    return -(targets * torch.log_softmax(scores, 1)).sum(1)


def softmax_error(student: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared error of the student's probabilities, summed over classes, the mean over the batch.

    Args:
        student: scores, [B, C].
        targets: probabilities, [B, C]; no gradient reaches them.
    """
    return (student.softmax(1) - targets.detach()).square().sum(1).mean()


def feature_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of features [B, d]: the sum over d, the mean over the batch.

    No gradient reaches the teacher.
    """
    return (student.float() - teacher.detach().float()).square().sum(1).mean()
