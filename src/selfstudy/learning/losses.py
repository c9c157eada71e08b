"""Losses as pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def masked_mse(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared errors where there is a target.

    Args:
        values: any shape.
        targets: the same shape; nan where there is none.

    >>> masked_mse(torch.tensor([0.0, 5.0, 1.0]), torch.tensor([0.5, torch.nan, 0.0]))
    tensor(1.2500)
    """
    known = ~targets.isnan()
    # Selected before the difference is taken: a masked nan would still give a nan gradient.
    return (values[known] - targets[known]).square().sum()


def dpo_loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    beta: float = 0.1,
) -> torch.Tensor:
    """Return each pair's loss of direct preference optimisation, [B] (Rafailov et al., 2023, eq. 7).

    Args:
        policy_chosen: [B] log p of the better completion under the policy.
        policy_rejected: [B] log p of the worse one.
        reference_chosen: [B] log p of the better one under the reference model.
        reference_rejected: [B] log p of the worse one under it.
        beta: how strongly the policy is held to the reference.

    >>> dpo_loss(*torch.zeros(4, 1))
    tensor([0.6931])
    """
    margin = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return -F.logsigmoid(beta * margin)
