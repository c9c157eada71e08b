"""How alike two predictors are: what they predict, how they react to the query, and their weights.

All but the weights works for any callable (context, query) -> predictions. von Oswald et al. 2022, arXiv
2212.07677, section 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Batch, Predictor
from selfstudy.models.in_context.linear_attention import LinearSelfAttention


class Alignment(NamedTuple):
    """Means over problems."""

    cosine: float
    """Between the two sensitivities."""
    model_difference: float
    """Euclidean distance of the two sensitivities."""
    prediction_difference: float
    """Absolute difference of the two predictions."""


class Products(NamedTuple):
    """The two products that a layer depends on, with the free factor between them fixed."""

    qk: Tensor  # [sets, D, D], mean of the first d diagonal entries 1
    vp: Tensor  # [sets, D, D]


def predictions(predictor: Predictor, batch: Batch) -> Tensor:
    """Return what it predicts: [B]."""
    with torch.no_grad():
        return predictor(batch.context, batch.query)


def squared_errors(predictor: Predictor, batch: Batch) -> Tensor:
    """Return (prediction - answer)² of each problem: [B]."""
    return (predictions(predictor, batch) - batch.answer) ** 2


def sensitivities(predictor: Predictor, batch: Batch) -> Tensor:
    """Return ∂ŷ/∂x_q of each problem, [B, d]; of a linear model this is its weights."""
    query = batch.query.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(predictor(batch.context, query).sum(), query)
    return gradient


def alignment(a: Predictor, b: Predictor, batch: Batch) -> Alignment:
    """Return how alike `a` and `b` are on the problems of `batch`."""
    first, second = sensitivities(a, batch), sensitivities(b, batch)
    return Alignment(
        cosine=float(torch.nn.functional.cosine_similarity(first, second, dim=-1).mean()),
        model_difference=float((first - second).norm(dim=-1).mean()),
        prediction_difference=float((predictions(a, batch) - predictions(b, batch)).abs().mean()),
    )


def can_average(model: LinearSelfAttention) -> bool:
    """Tell whether its layers are told by two products: single heads without softmax and layer norm."""
    return model.query.shape[1] == 1 and not model.softmax and model.norm is None


def products(model: LinearSelfAttention) -> Products:
    """Return QK and VP of the layers, QK scaled so that the mean of its first d diagonal entries is 1.

    Only these products matter, and only up to a factor from one to the other.

    Raises:
        UsageError: several heads, a softmax or a layer norm, where layers are not told by two products; or QK
            has no diagonal to scale by.
    """
    heads = model.query.shape[1]
    if not can_average(model):
        raise UsageError(
            "Weights can be averaged only for single heads without softmax and layer norm: there a layer "
            "is told by two products up to one factor. With more heads they may be permuted and mixed, and "
            "with a softmax or a norm the factor is not free. This model has "
            f"heads={heads}, softmax={model.softmax}, layer_norm={model.norm is not None}. "
            "Compare predictions and sensitivities instead."
        )
    with torch.no_grad():
        qk, vp = (product[:, 0] for product in model.products())
        scale = qk.diagonal(dim1=-2, dim2=-1)[:, :-1].mean(-1)
        if not (scale.abs() > 1e-12).all() or not torch.isfinite(scale).all():
            raise UsageError(
                f"The products cannot be scaled: the mean diagonal of QK is {scale.tolist()}, which must be "
                "finite and not 0. Has the model been trained?"
            )
        scale = scale[:, None, None]
        return Products(qk / scale, vp * scale)


def interpolate(a: LinearSelfAttention, b: LinearSelfAttention, share: float = 0.5) -> LinearSelfAttention:
    """Return a model whose scaled products are (1 - share) those of `a` plus share those of `b`.

    Raises:
        UsageError: models that `products` refuses, or of different shapes.
    """
    first, second = products(a), products(b)
    if first.qk.shape != second.qk.shape or a.layers != b.layers:
        raise UsageError(
            f"Models of different shapes cannot be averaged: {a.layers} layers with products "
            f"{tuple(first.qk.shape)}, and {b.layers} with {tuple(second.qk.shape)}."
        )
    mixed = a.copy()
    with torch.no_grad():
        mixed.query[:, 0] = torch.lerp(first.qk, second.qk, share)
        mixed.value[:, 0] = torch.lerp(first.vp, second.vp, share)
        for identity in (mixed.key, mixed.projection):
            identity[:, 0] = torch.eye(a.dimensions + 1)
    return mixed


def relative_distance(a: Tensor, b: Tensor) -> float:
    """Return the Frobenius norm of a - b over that of b; where b is 0, the norm of a."""
    scale = float(b.norm())
    return float((a - b).norm()) / (scale if scale > 0 else 1.0) if math.isfinite(scale) else math.nan
