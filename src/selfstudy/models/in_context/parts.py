"""What models that regress in context share: tokens, attention, first weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Context

DEEP = 3  # models of more layers are treated more gently


def attend(seen: Tensor, examples: Tensor, qk: Tensor, vp: Tensor, *, softmax: bool = False) -> Tensor:
    """Return what the tokens `seen` [B, T, D] take from `examples` [B, n, D], summed over H heads: [B, T, D].

    Args:
        seen: give the queries.
        examples: give keys and values.
        qk: W_Q W_K^T of each head, [H, D, D].
        vp: W_V P of each head, [H, D, D].
        softmax: over the examples.
    """
    problems, count, width = seen.shape
    # All heads in one product, [D, H D], so that no product is repeated for each problem.
    left = (seen @ qk.transpose(0, 1).reshape(width, -1)).reshape(problems, -1, width)  # [B, T H, D]
    # Without softmax products are taken in the order that needs no map of attention.
    mixed = torch.softmax(left @ examples.mT, -1) @ examples if softmax else left @ (examples.mT @ examples)
    return mixed.reshape(problems, count, -1) @ vp.reshape(-1, width)


def first_weights(shape: Sequence[int], variance: float, stream: torch.Generator) -> Tensor:
    """Return normal weights cut at two deviations, widened so that the variance is as asked for."""
    weights = torch.empty(*shape)
    nn.init.trunc_normal_(weights, std=1.0, a=-2.0, b=2.0, generator=stream)
    return weights * math.sqrt(variance) / 0.87962566


def tokens(context: Context, query: Tensor) -> tuple[Tensor, Tensor]:
    """Return the examples (x_i, y_i) [B, n, d + 1] and the query (x_q, 0) [B, 1, d + 1]."""
    examples = torch.cat([context.inputs, context.targets[..., None]], -1)
    return examples, nn.functional.pad(query, (0, 1))[:, None]


def check_width(dimensions: int, given: int) -> None:
    """Refuse inputs of another width than the model's, with both numbers.

    Raises:
        UsageError: `given` is not the model's `dimensions`.
    """
    if given != dimensions:
        raise UsageError(
            f"The model reads tokens of width {dimensions + 1} (dimensions={dimensions} and a target), but "
            f"the problems have {given} dimensions and a target, width {given + 1}. Give the model "
            f"dimensions={given}."
        )
