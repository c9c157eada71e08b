"""What else labels queries of many episodes: logistic regression, self-training, spreading of labels.

Support [B, s, d] with targets [s, K] that all episodes share, queries [B, q, d]; scores are [B, q, K].
"""

from __future__ import annotations

import torch

from selfstudy.signals.affinity import affinity

STEPS = 150  # of the logistic regression
ROUNDS = 4  # of self-training


def logistic(
    support: torch.Tensor,
    targets: torch.Tensor,
    queries: torch.Tensor,
    *,
    penalty: float,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the log-probabilities of logistic regressions, one an episode.

    The least sum of weighted cross-entropies plus penalty |W|^2 / 2, biases free, by accelerated gradient
    descent (Nesterov 1983) on all episodes at once.

    Args:
        support: [B, s, d].
        targets: [..., s, K].
        queries: [B, q, d].
        penalty: above 0.
        weights: [B, s] of the labelled items; None is 1 each.
    """
    inputs = torch.cat([support, torch.ones_like(support[..., :1])], -1)
    scale = torch.ones(support.shape[:-1]) if weights is None else weights
    shrunk = torch.full(inputs.shape[-1:], penalty)
    shrunk[-1] = 0.0
    rows = inputs * scale.sqrt()[..., None]
    # The curvature is at most half of the largest eigenvalue, and that at most the largest sum of a row.
    largest = (rows @ rows.mT).abs().sum(-1).amax(-1)
    rate = 1 / (largest / 2 + penalty)[:, None, None]
    fitted = inputs.new_zeros(len(inputs), inputs.shape[-1], targets.shape[-1])
    ahead, momentum = fitted, 1.0
    for _ in range(STEPS):
        wrong = (torch.softmax(inputs @ ahead, -1) - targets) * scale[..., None]
        slope = inputs.mT @ wrong + shrunk[:, None] * ahead
        stepped, grown = ahead - rate * slope, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = stepped + (momentum - 1) / grown * (stepped - fitted)
        fitted, momentum = stepped, grown
    asked = torch.cat([queries, torch.ones_like(queries[..., :1])], -1)
    return torch.log_softmax(asked @ fitted, -1)


def self_trained(
    support: torch.Tensor, targets: torch.Tensor, queries: torch.Tensor, *, penalty: float
) -> torch.Tensor:
    """Return the log-probabilities of logistic regressions that learn from their surest predictions too.

    In round r of R the r / R surest queries of each predicted class are taken, with the predicted label.

    Args:
        support: [B, s, d].
        targets: [s, K].
        queries: [B, q, d].
        penalty: above 0.
    """
    batch, classes = len(support), targets.shape[-1]
    # The weights lie in the span of the items, which has fewer dimensions than long features.
    items = torch.linalg.qr(torch.cat([support, queries], 1).mT).R.mT
    support, queries = items.split([support.shape[1], queries.shape[1]], 1)
    known = targets.expand(batch, *targets.shape)
    scores = logistic(support, targets, queries, penalty=penalty)
    for turn in range(1, ROUNDS + 1):
        sure, told = scores.max(-1)
        guessed = torch.nn.functional.one_hot(told, classes).to(scores.dtype)
        # The place of a query among those of its class, surest first.
        above = ((told[:, :, None] == told[:, None]) & (sure[:, None] > sure[:, :, None])).sum(-1)
        size = (told[:, :, None] == told[:, None]).sum(-1)
        taken = (above < (size * turn / ROUNDS).ceil()).to(scores.dtype)
        weights = torch.cat([torch.ones(batch, support.shape[1]), taken], 1)
        scores = logistic(items, torch.cat([known, guessed], 1), queries, penalty=penalty, weights=weights)
    return scores


def spread_labels(
    support: torch.Tensor,
    targets: torch.Tensor,
    queries: torch.Tensor,
    *,
    neighbours: int,
    alpha: float,
) -> torch.Tensor:
    """Return labels spread over the graph of nearest neighbours (Zhou et al. 2004), in closed form.

    F = (I - alpha D^-1/2 W D^-1/2)^-1 Y over labelled items and queries.

    Args:
        support: [B, s, d].
        targets: [s, K].
        queries: [B, q, d].
        neighbours: k, of each item.
        alpha: how far labels spread, from 0 to 1.
    """
    found = affinity(torch.cat([support, queries], 1), neighbours).among
    root = found.sum(-1).rsqrt()
    scaled = root[:, :, None] * found * root[:, None]
    known = torch.cat(
        [targets.expand(len(queries), -1, -1), queries.new_zeros(*queries.shape[:2], targets.shape[-1])], 1
    )
    spread = torch.linalg.solve(torch.eye(found.shape[-1]) - alpha * scaled, known)
    return spread[:, support.shape[1] :]
