"""Attention weights of selected layers and heads of a transformers decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from selfstudy.core.errors import UsageError


def record_attention(
    module: PreTrainedModel,
    tokens: torch.Tensor,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> torch.Tensor:
    """Return attention weights, [layers, heads, B, T, T]; rows are queries.

    Attention is computed by the plain implementation for this call, which alone gives weights; the model is
    left as it was.

    Args:
        module: any decoder of transformers with softmax attention.
        tokens: [B, T] of ids, without padding.
        layers: which, from 0; None is all.
        heads: which, from 0; None is all.

    Raises:
        UsageError: there is no such layer or head, or the model gives no attention weights.
    """
    before, training = module.config._attn_implementation, module.training
    module.eval()
    module.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            given = module(input_ids=tokens, output_attentions=True, use_cache=False).attentions
    finally:
        module.set_attn_implementation(before)
        module.train(training)
    if not given or any(weights is None for weights in given):
        raise UsageError(f"A {type(module).__name__} gives no attention weights of all its layers.")
    chosen = _chosen("layer", layers, len(given))
    which = _chosen("head", heads, given[0].shape[1])
    return torch.stack([given[layer][:, which].transpose(0, 1) for layer in chosen])


def _chosen(what: str, asked: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(range(count) if asked is None else asked)
    wrong = [i for i in chosen if not 0 <= i < count]
    if wrong or not chosen:
        raise UsageError(f"There are {count} {what}s, from 0 to {count - 1}; asked for: {chosen}.")
    return chosen
