"""Losses of labels joint with transformations (Lee, Hwang, Shin 2020, arXiv 1910.05872).

M transformed copies of each of B images stand together: row i * M + j is copy j of image i. A joint head has
C * M outputs, that of class y and transformation j at y * M + j.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch.nn import functional

from selfstudy.data.transformations import joint_labels

ClassLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From scores [B, K] and labels [B] to one loss for each: [B]."""
ClassLossName = Literal["cross-entropy", "focal", "margin"]


def joint_loss(scores: torch.Tensor, labels: torch.Tensor, count: int, class_loss: ClassLoss) -> torch.Tensor:
    """Return the mean loss of the joint labels over all copies (equation 2).

    Args:
        scores: of the joint head on all copies, [B * M, C * M].
        labels: of the images, [B].
        count: M.
        class_loss: over C * M classes.
    """
    return class_loss(scores, joint_labels(labels, count)).mean()


def copies_loss(
    scores: torch.Tensor, labels: torch.Tensor, count: int, class_loss: ClassLoss
) -> torch.Tensor:
    """Return the mean loss of the class in all copies, a plain augmentation: scores [B * M, C]."""
    return class_loss(scores, labels.repeat_interleave(count)).mean()


def transformation_loss(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mean cross-entropy of telling each copy's transformation: scores [B * M, M]."""
    which = torch.arange(count, device=scores.device).repeat(len(scores) // count)
    return functional.cross_entropy(scores, which)


def class_loss(
    name: ClassLossName, counts: torch.Tensor, *, focus: float = 2.0, margin: float = 0.5
) -> ClassLoss:
    """Return a loss of classes by name.

    "cross-entropy"; "focal" (Lin et al. 2017), which weighs an image by (1 - p)^focus; "margin", the margins
    of LDAM (Cao et al. 2019): the score of the true class y is lowered by margin (n_rarest / n_y)^(1/4).

    Args:
        name: which.
        counts: labelled images n_y of each class, [K]; a joint label has as many as its class.
        focus: of "focal".
        margin: of "margin", for the rarest class.
    """
    if name == "focal":
        return partial(_focal, focus=focus)
    if name == "margin":
        known = counts.clamp(min=1).float()
        margins = margin * (known.min() / known) ** 0.25
        return partial(_with_margins, margins=margins)
    return _cross_entropy


def _cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(scores, labels, reduction="none")


def _focal(scores: torch.Tensor, labels: torch.Tensor, *, focus: float) -> torch.Tensor:
    losses = _cross_entropy(scores, labels)
    return (1 - torch.exp(-losses)) ** focus * losses


def _with_margins(scores: torch.Tensor, labels: torch.Tensor, *, margins: torch.Tensor) -> torch.Tensor:
    lowered = functional.one_hot(labels, scores.shape[1]) * margins[labels][:, None]
    return _cross_entropy(scores - lowered, labels)
