"""Weights with which linear self-attention is gradient descent, by construction (von Oswald et al. 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selfstudy.models.in_context.linear_attention import LinearSelfAttention


def gd_weights(
    dimensions: int, step: float, start: Tensor | None = None, curvature: float = 0.0
) -> dict[str, Tensor]:
    """Return the four matrices [D, D] of a head whose layer takes one step of gradient descent.

    y_j <- y_j - s Σ_i (y_i - w_0·x_i) x_i·x_j: targets become residuals, and the query's 0 becomes minus what
    the step adds to w_0·x_q. With a curvature γ also x_j <- x_j - γ Σ_i x_i x_i·x_j (GD++).

    Args:
        dimensions: d.
        step: s, on the sum of squared errors: η/N for a step η on their mean.
        start: w_0 [d]; None is 0.
        curvature: γ.
    """
    width = dimensions + 1
    look = torch.eye(width)
    look[-1, -1] = 0.0
    value = torch.zeros(width, width)
    value[-1, -1] = -1.0
    projection = torch.zeros(width, width)
    projection[-1, -1] = step
    if start is not None:
        value[:-1, -1] = start
    if curvature:
        value[:-1, :-1] = torch.eye(dimensions)
        projection[:-1, :-1] = -curvature * torch.eye(dimensions)
    return {"query": look, "key": look.clone(), "value": value, "projection": projection}


def gd_attention(
    dimensions: int, step: float, layers: int = 1, start: Tensor | None = None, curvature: float = 0.0
) -> LinearSelfAttention:
    """Return the model with the weights of `gd_weights`: `layers` steps of gradient descent."""
    model = LinearSelfAttention(dimensions=dimensions, layers=layers, clip=math.inf)
    with torch.no_grad():
        for name, weight in gd_weights(dimensions, step, start, curvature).items():
            getattr(model, name).copy_(weight)
    return model
