"""Losses on pairs of completions, all functions of one number a pair: the margin of log-ratios.

The margin of a pair (y, y') is [log p(y) - log q(y)] - [log p(y') - log q(y')], p the policy and q the
reference. Multiplied by beta it is how much better the policy takes y to be, in units of reward.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

PairLoss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
"""(margins [B], targets [B], beta) to losses [B]."""


def log_ratio_margin(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
) -> torch.Tensor:
    """Return the margin [B] from the four log-probabilities [B] of each pair's completions."""
    return (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)


def preference_loss(margin: torch.Tensor, target: torch.Tensor, beta: float = 0.1) -> torch.Tensor:
    """Return the cross-entropy [B] of "the first one wins" (Rafailov et al. 2023, eq. 7; Rosset et al. 2024).

    It is least where sigmoid(beta * margin) is the target; a target of 1 is DPO.

    >>> preference_loss(torch.zeros(1), torch.ones(1))
    tensor([0.6931])

    Args:
        margin: [B] of log-ratios.
        target: [B] probability that the first completion of each pair is the better one.
        beta: how strongly the policy is held to the reference (eta in direct Nash optimisation).
    """
    scaled = beta * margin
    return -target * F.logsigmoid(scaled) - (1 - target) * F.logsigmoid(-scaled)


def squared_loss(margin: torch.Tensor, target: torch.Tensor, beta: float = 0.1) -> torch.Tensor:
    """Return the squared error [B] of beta * margin as an estimate of a difference of rewards.

    >>> squared_loss(torch.tensor([10.0]), torch.tensor([3.0]))
    tensor([4.])

    Args:
        margin: [B] of log-ratios.
        target: [B] reward of the first completion less that of the second.
        beta: how strongly the policy is held to the reference.
    """
    return (beta * margin - target).square()
