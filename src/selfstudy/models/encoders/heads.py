"""Heads on top of an encoder that are thrown away after pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def projector(width: int, layers: Sequence[int], key: int, *, normalised: bool = True) -> nn.Sequential:
    """Return a perceptron from features [B, width] to [B, layers[-1]].

    Every layer but the last is followed by batch normalisation and a ReLU, and has no bias then.

    Args:
        width: of the features.
        layers: widths of the layers, the last being D.
        key: of the stream of its first weights.
        normalised: whether with batch normalisation.
    """
    parts: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key >> 1)
        for place, layer in enumerate(layers):
            last = place == len(layers) - 1
            parts.append(nn.Linear(width, layer, bias=not normalised))
            if not last:
                parts += [nn.BatchNorm1d(layer)] if normalised else []
                parts.append(nn.ReLU())
            width = layer
    return nn.Sequential(*parts)
