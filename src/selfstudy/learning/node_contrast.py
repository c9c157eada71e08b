"""Node contrast: each node of one view finds itself among the nodes of the other (InfoNCE).

Zhu et al. 2020, "Deep Graph Contrastive Representation Learning" (GRACE), arXiv 2006.04131, with the
negatives of the other view alone. All of it computes in float32 or wider.
"""

from __future__ import annotations

import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.precision import full, full_precision

BLOCK = 256  # rows of the similarity that are worked on at once; 256 of some thousand columns fit in a cache
LEAST_TEMPERATURE = 0.03  # below it exp(-2 / temperature) is 0 in float32


def node_contrast(
    first: torch.Tensor,
    second: torch.Tensor,
    temperature: float,
    *,
    anchors: torch.Tensor | None = None,
    keep: bool = True,
) -> torch.Tensor:
    """Return the mean of -log(S_ii / sum_j S_ij) over nodes and both directions, S = exp(h1 h2^T / tau).

    Args:
        first: h1 [N, d], rows of length 1.
        second: h2 [N, d], likewise.
        temperature: tau, at least 0.03.
        anchors: [M], nodes over which the mean goes, without bias if they are drawn evenly; None is all.
        keep: whether S is kept for the gradient: N^2 numbers of memory, else it is computed twice.

    Raises:
        UsageError: the temperature is lower.
    """
    if not temperature >= LEAST_TEMPERATURE:
        raise UsageError(f"temperature is {temperature}; it must be at least {LEAST_TEMPERATURE}.")
    if anchors is None:
        over_second, over_first = log_sums(first, second, temperature, keep=keep)
        same = (first * second).sum(1) / temperature
    else:
        over_second, _ = log_sums(first[anchors], second, temperature, keep=keep)
        over_first, _ = log_sums(second[anchors], first, temperature, keep=keep)
        same = (first[anchors] * second[anchors]).sum(1) / temperature
    return ((over_second + over_first) / 2 - full(same)).mean()


def log_sums(
    first: torch.Tensor, second: torch.Tensor, temperature: float, *, keep: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log sum_j exp(u_i v_j / tau) for each i, [M], and log sum_i of the same for each j, [N].

    Args:
        first: u [M, d], rows of length 1.
        second: v [N, d], likewise.
        temperature: tau.
        keep: whether all M N similarities are kept for the gradient; else blocks of 256 rows are made twice.
    """
    return _LogSums.apply(full(first), full(second), temperature, keep)


class _LogSums(torch.autograd.Function):
    """Both sums from one matrix of similarities, and their exact gradients from it, block by block."""

    @staticmethod
    def forward(ctx, first, second, temperature, keep):
        scaled = first / temperature
        rows = first.new_empty(len(first))
        columns = first.new_zeros(len(second))
        kept = first.new_empty(len(first), len(second)) if keep else None
        with full_precision(first):
            for start in range(0, len(first), BLOCK):
                at = slice(start, start + BLOCK)
                out = kept[at] if kept is not None else None
                block = _similarities(scaled[at], second, temperature, out)
                rows[at] = block.sum(1)
                columns += block.sum(0)
        ctx.save_for_backward(first, second, rows, columns, *([kept] if keep else []))
        ctx.temperature = temperature
        return rows.log() + 1 / temperature, columns.log() + 1 / temperature

    @staticmethod
    def backward(ctx, of_rows, of_columns):
        first, second, rows, columns, *kept = ctx.saved_tensors
        scaled = first / ctx.temperature
        row_weights, column_weights = of_rows / rows, of_columns / columns
        to_first, to_second = torch.empty_like(first), torch.zeros_like(second)
        with full_precision(first):
            for start in range(0, len(first), BLOCK):
                at = slice(start, start + BLOCK)
                block = kept[0][at] if kept else _similarities(scaled[at], second, ctx.temperature, None)
                weights = (row_weights[at, None] + column_weights).mul_(block)
                to_first[at] = weights @ second
                to_second.addmm_(weights.T, first[at])
        return to_first / ctx.temperature, to_second / ctx.temperature, None, None


def _similarities(
    scaled: torch.Tensor, second: torch.Tensor, temperature: float, out: torch.Tensor | None
) -> torch.Tensor:
    """Return exp((u v - 1) / tau) of a block, at most 1 for rows of length 1."""
    return torch.mm(scaled, second.T, out=out).sub_(1 / temperature).exp_()
