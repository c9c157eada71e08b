"""What one layer of linear attention computes, term by term, and how far that is from one step of descent."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from selfstudy.data.regression import Batch
from selfstudy.evaluation.alignment import predictions
from selfstudy.models.in_context.predictors import preconditioned


class EffectiveMap(NamedTuple):
    """f = Σ_i [y_i x_i^T G x_q + y_i² s·x_q + Σ_h (p_h·x_i)(x_i^T A_h x_q)] of one layer with H heads.

    Only the first term is a step of (preconditioned) gradient descent; the others are spurious. Mahankali,
    Hashimoto and Ma 2023, arXiv 2307.03576, with u_h = (p_h, c_h) and M_h = [A_h; a_h^T].
    """

    matrix: Tensor
    """G = Σ_h c_h A_h + p_h a_h^T: [d, d]."""
    p: Tensor
    """What weighs the inputs: [H, d]."""
    a: Tensor
    """What targets contribute to the value: [H, d]."""
    square: Tensor
    """s = Σ_h c_h a_h, the coefficient of the squared targets: [d]."""
    spurious_share: float
    """Mean square of the spurious terms over that of the output."""


def effective_map(model: Any, batch: Batch) -> EffectiveMap:
    """Return the terms of a model of one layer; the share of the spurious ones is measured on `batch`.

    Args:
        model: with `bilinear()`: `LinearSelfAttention` or `BilinearAttention`.
        batch: problems.

    Raises:
        UsageError: the model is no bilinear map (several layers, softmax, layer norm).
    """
    with torch.no_grad():
        u, m = model.bilinear()
        p, c = u[:, :-1], u[:, -1]
        inner, a = m[:, :-1], m[:, -1]
        matrix = torch.einsum("h,hij->ij", c, inner) + p.mT @ a
        square = c @ a
    output = predictions(model, batch)
    spurious = output - predictions(preconditioned(matrix), batch)
    power = float(output.square().mean())
    share = float(spurious.square().mean()) / power if power > 0 else 0.0
    return EffectiveMap(matrix, p, a, square, share)
