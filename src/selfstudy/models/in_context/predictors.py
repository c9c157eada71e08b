"""Predictors that are not trained: gradient descent, ridge regression and their relatives, as functions.

Each function here returns a predictor, (context, query [B, d]) -> predictions [B], for B problems at once.

Steps are those on the SUM of squared errors, ½ Σ_i (w·x_i - y_i)²: one step of size s from 0 predicts
s Σ_i y_i x_i·x_q. This is the step η of Mahankali et al. 2023. The step η of von Oswald et al. 2022 is on the
mean over N examples: s = η / N.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Context, Predictor


def zero(context: Context, query: Tensor) -> Tensor:
    """Predict 0."""
    return torch.zeros_like(query[:, 0])


def gradient_descent(
    step: float | Tensor, steps: int = 1, curvature: float | Tensor = 0.0, start: Tensor | None = None
) -> Predictor:
    """Return gradient descent on ½ Σ_i (w·x_i - y_i)²; with `curvature`, GD++.

    GD++ also moves the inputs after each step: x_j <- (I - γ Σ_i x_i x_i^T) x_j, those of the context and the
    query. With K layers this is what trained linear attention does (von Oswald et al. 2022).

    Args:
        step: s; s = η/N for a step η on the mean.
        steps: K.
        curvature: γ.
        start: w_0 [d]; None is 0.
    """

    def predict(context: Context, query: Tensor) -> Tensor:
        return descent_path(context, query, step, steps, curvature, start)[-1]

    return predict


def descent_path(
    context: Context,
    query: Tensor,
    step: float | Tensor,
    steps: int,
    curvature: float | Tensor = 0.0,
    start: Tensor | None = None,
) -> Tensor:
    """Return the predictions after 0, 1, ..., `steps` steps: [steps + 1, B]; see `gradient_descent`."""
    x, y = context
    gram = x.mT @ x  # [B, d, d]
    slope = (x.mT @ y[..., None])[..., 0]  # X^T (y - X w) in the moved inputs, [B, d]
    prediction = torch.zeros_like(query[:, 0])
    if start is not None:
        slope, prediction = slope - gram @ start, query @ start
    path = [prediction]
    curved = isinstance(curvature, Tensor) or curvature != 0
    for _ in range(steps):
        prediction = prediction + step * (slope * query).sum(-1)
        path.append(prediction)
        slope = slope - step * _apply(gram, slope)
        if curved:
            query = query - curvature * _apply(gram, query)
            slope = slope - curvature * _apply(gram, slope)
            moved = torch.eye(gram.shape[-1], dtype=gram.dtype) - curvature * gram
            gram = moved @ gram @ moved
    return torch.stack(path)


def preconditioned(matrix: Tensor | np.ndarray) -> Predictor:
    """Return one preconditioned step from 0: Σ_i y_i x_i^T Γ x_q, with Γ = `matrix` [d, d]."""
    gamma = torch.as_tensor(matrix)

    def predict(context: Context, query: Tensor) -> Tensor:
        slope = (context.inputs.mT @ context.targets[..., None])[..., 0]
        return (slope @ gamma.to(query.dtype) * query).sum(-1)

    return predict


def ridge(penalty: float, prior: Any = None) -> Predictor:
    """Return ridge regression, ŵ = (X^T X + penalty Λ_w^-1)^-1 X^T y, Λ_w = `prior` [d, d] (None: identity).

    With penalty σ² this is the posterior mean under w ~ N(0, Λ_w), the best prediction there is.

    Raises:
        UsageError: the penalty is not above 0, where the system may be singular.
    """
    if not (penalty > 0 and math.isfinite(penalty)):
        raise UsageError(
            f"Ridge regression needs a penalty above 0, not {penalty:g}: without one its system is singular "
            "where examples are fewer than dimensions. Without noise take least_squares, its limit."
        )
    return _whitened(
        lambda z, y: torch.linalg.solve(
            z.mT @ z + penalty * torch.eye(z.shape[-1], dtype=z.dtype), z.mT @ y[..., None]
        ),
        prior,
    )


def least_squares(prior: Any = None) -> Predictor:
    """Return least squares of least norm (in that of the prior), the limit of `ridge` at penalty 0."""
    return _whitened(lambda z, y: torch.linalg.pinv(z) @ y[..., None], prior)


def posterior_mean(noise: float, prior: Any = None) -> Predictor:
    """Return the best prediction for y = w·x + N(0, noise²), w ~ N(0, prior)."""
    return ridge(noise**2, prior) if noise > 0 else least_squares(prior)


def _whitened(solve: Any, prior: Any) -> Predictor:
    """Solve for v in w = L v, prior = L L^T, in double precision; w·x = v·(L^T x)."""

    def predict(context: Context, query: Tensor) -> Tensor:
        x, q = context.inputs.double(), query.double()
        if prior is not None:
            factor = torch.linalg.cholesky(torch.as_tensor(prior, dtype=torch.float64))
            x, q = x @ factor, q @ factor
        v = solve(x, context.targets.double())
        return (q[:, None] @ v)[:, 0, 0].to(query.dtype)

    return predict


def relu_kernel_ridge(noise: float) -> Predictor:
    """Return the best predictor that is linear in the targets, for the random networks of "relu" responses.

    Kernel ridge regression with the covariance of their outputs, the arc-cosine kernel of degree 1 (Cho and
    Saul 2009): E[f(x) f(x')] = |x||x'| (sin θ + (π - θ) cos θ) / 2π, with penalty noise².
    """

    def predict(context: Context, query: Tensor) -> Tensor:
        x, q = context.inputs.double(), query.double()[:, None]
        system = arc_cosine(x, x)
        # Without noise the kernel's matrix is regular but close to singular for close inputs.
        system = system + max(noise**2, 1e-9) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(system, context.targets.double()[..., None])
        return (arc_cosine(q, x) @ weights)[:, 0, 0].to(query.dtype)

    return predict


def arc_cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the arc-cosine kernel of degree 1, halved, between the rows of a [B, n, d] and b [B, m, d]."""
    norms = a.norm(dim=-1)[..., :, None] * b.norm(dim=-1)[..., None, :]
    cosine = (a @ b.mT / norms.clamp_min(1e-30)).clamp(-1, 1)
    angle = torch.arccos(cosine)
    return norms * (torch.sin(angle) + (math.pi - angle) * cosine) / (2 * math.pi)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
