"""Losses of training on labels some of which are wrong and were replaced by guesses.

Albert et al. 2024, arXiv 2407.05528, and Albert et al. 2023, arXiv 2210.04578 (PLS). A batch has B items
and C classes; it is mixed by one share and one permutation [B], as `mix_batch` in
`selfstudy.learning.mixing` does.
"""

from __future__ import annotations

import numpy as np
import torch

from selfstudy.learning.contrastive import cosines
from selfstudy.learning.distillation import soft_cross_entropy


def sharpened(logits: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return softmax(logits)^gamma, rows brought back to a sum of 1: [B, C].

    1 leaves the probabilities as they are; the greater gamma, the nearer to one class.
    """
    # The softmax of the multiple is the same number, and does not underflow.
    return (gamma * torch.log_softmax(logits, 1)).softmax(1)


def mixing_share(rng: np.random.Generator, beta: float) -> float:
    """Return the greater share of a mixture, from Beta(beta, beta): 0.5 to 1."""
    drawn = float(rng.beta(beta, beta))
    return max(drawn, 1 - drawn)


def mixed_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    share: float,
    permutation: torch.Tensor,
) -> torch.Tensor:
    """Return the cross-entropy of mixed items with the targets of both parts, weighted means over the batch.

    Where all weights are 0 it is 0.

    Args:
        logits: of mixed items, [B, C].
        targets: of the items, [B, C].
        weights: of the items' targets, [B].
        share: of the item itself.
        permutation: [B], names the items of the rest.
    """
    total = weights.sum()
    if total <= 0:
        return logits.sum() * 0.0
    own = soft_cross_entropy(logits, targets)
    other = soft_cross_entropy(logits, targets[permutation])
    return (share * (weights * own).sum() + (1 - share) * (weights[permutation] * other).sum()) / total


def mixed_class_contrast(
    mixed: torch.Tensor,
    other: torch.Tensor,
    labels: torch.Tensor,
    share: float,
    permutation: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return how badly mixed items find the other views of their classes, in either part: a mean.

        S = cos(mixed, other) / temperature,  Y_ij = [label i = label j],
        mean_i( share CE(S_i, Y_i) / |Y_i| + (1 - share) CE(S_i, Y_p(i)) / |Y_p(i)| ),  p the permutation

    Args:
        mixed: projections of mixed items, [B, D]; normalised here.
        other: of another view of the items, unmixed, [B, D].
        labels: [B].
        share: of the item itself.
        permutation: [B].
        temperature: mu.
    """
    logs = torch.log_softmax(cosines(mixed, other) / temperature, 1)
    alike = (labels[:, None] == labels[None]).to(logs)
    rows = -(logs * alike).sum(1) / alike.sum(1)
    crossed = -(logs * alike[permutation]).sum(1) / alike[permutation].sum(1)
    return (share * rows + (1 - share) * crossed).mean()


def class_imbalance(logits: torch.Tensor) -> torch.Tensor:
    """Return the divergence of the batch's mean probabilities from equal ones: KL(1/C || mean softmax)."""
    mean = torch.log_softmax(logits, 1).logsumexp(0) - np.log(len(logits))
    classes = logits.shape[1]
    return -(np.log(classes) + mean.mean())
