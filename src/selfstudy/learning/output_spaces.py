"""Where a student is held to labels and to a teacher: probabilities, scores, or by cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from selfstudy.learning.distillation import soft_cross_entropy

SpaceName = Literal["softmax-mse", "logits-mse", "ce"]


class Space(NamedTuple):
    """What of a classifier's scores is compared, and how.

    Attributes:
        outputs: from scores [B, C] to what is compared with one-hot labels and with a student.
        loss: of scores [B, C] and wanted outputs [B, C]: [B].
    """

    outputs: Callable[[torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    return scores.softmax(1)


SPACES: dict[str, Space] = {
    "softmax-mse": Space(_probabilities, lambda scores, wanted: (scores.softmax(1) - wanted).square().sum(1)),
    "logits-mse": Space(lambda scores: scores, lambda scores, wanted: (scores - wanted).square().sum(1)),
    "ce": Space(_probabilities, soft_cross_entropy),
}


def guided_loss(
    space: Space, scores: torch.Tensor, hard: torch.Tensor, teacher: torch.Tensor | None, label_weight: float
) -> torch.Tensor:
    """Return alpha L(scores, y) + (1 - alpha) L(scores, teacher's outputs), the mean over the batch.

    Args:
        space: L and what the teacher's outputs are.
        scores: the student's, [B, C].
        hard: y, one-hot, [B, C].
        teacher: its scores, [B, C]; None where there is none.
        label_weight: alpha; 1 without a teacher.
    """
    labels = space.loss(scores, hard)
    if teacher is None:
        return labels.mean()
    taught = space.loss(scores, space.outputs(teacher.detach()))
    return (label_weight * labels + (1 - label_weight) * taught).mean()
