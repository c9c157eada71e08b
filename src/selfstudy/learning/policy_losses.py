"""Losses of policy gradients, as pure functions of log-probabilities: ratios, clipping, and distances.

All are per token, [B, T]; how tokens are averaged is said by `token_weights`.
"""

from __future__ import annotations

from typing import Literal

import torch

Average = Literal["tokens", "sequences", "length"]
Distance = Literal["k1", "k2", "k3"]
LARGEST_LOG_RATIO = 10.0  # of policy and reference, in either direction: one token must not outweigh all


def sequence_log_ratio(log_ratio: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return the mean log ratio of each sequence at all of its tokens, [B, T] (GSPO, Zheng et al., 2025).

    Args:
        log_ratio: [B, T] log of the new over the old probability of each token.
        counted: [B, T] which tokens there are.
    """
    mean = (log_ratio * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    return mean.expand_as(log_ratio)


def clipped_loss(
    ratio: torch.Tensor,
    advantages: torch.Tensor,
    *,
    low: float = 0.2,
    high: float = 0.2,
    dual: float | None = None,
) -> torch.Tensor:
    """Return -min(r A, clip(r, 1 - low, 1 + high) A) (Schulman et al., 2017).

    Args:
        ratio: [B, T] new over old probabilities.
        advantages: [B, 1] or [B, T].
        low: how far below 1 the ratio is followed.
        high: how far above; larger than `low` leaves unlikely tokens room to grow (DAPO).
        dual: bounds the loss of a negative advantage by `dual * |A|` (Ye et al., 2020); None does not.

    >>> clipped_loss(torch.tensor([[10.0]]), torch.tensor([[-1.0]]), dual=3.0).tolist()
    [[3.0]]
    """
    loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual * advantages), loss)


def kl_estimate(log_policy: torch.Tensor, log_reference: torch.Tensor, kind: Distance = "k3") -> torch.Tensor:
    """Return an estimate of KL(policy || reference) from tokens that the policy drew (Schulman, 2020).

    With d = log p_reference - log p_policy: k1 = -d is unbiased, k2 = d^2 / 2 has less variance,
    k3 = exp(d) - d - 1 is unbiased and never negative.

    >>> round(float(kl_estimate(torch.tensor(-1.0), torch.tensor(-1.5), "k3")), 4)
    0.1065
    """
    d = (log_reference - log_policy).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return {"k1": lambda: -d, "k2": lambda: d.square() / 2, "k3": lambda: d.exp() - d - 1}[kind]()


def token_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the entropy [B, T] in nats of the distributions of logits [B, T, V]."""
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum(-1)


def token_weights(lengths: torch.Tensor, average: Average, longest: int) -> torch.Tensor:
    """Return the weight [B] of every token of each sequence in the loss of a batch.

    tokens: all tokens weigh the same, and sum to 1; long answers count for more.
    sequences: all answers weigh the same, whatever their length.
    length: all tokens weigh 1 / (answers * `longest`), a constant (Dr. GRPO, Liu et al., 2025).

    Args:
        lengths: [B] tokens of each answer.
        average: the kind.
        longest: tokens that an answer may have.
    """
    ones = torch.ones_like(lengths, dtype=torch.float32)
    if average == "tokens":
        return ones / lengths.sum()
    if average == "sequences":
        return ones / (len(lengths) * lengths.clamp(min=1))
    return ones / (len(lengths) * longest)
