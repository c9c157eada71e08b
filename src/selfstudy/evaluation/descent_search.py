"""The best step of gradient descent, and of GD++, on given problems: searched for, by exact evaluation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from selfstudy.data.regression import Batch
from selfstudy.models.in_context.predictors import ridge

DIVERGED = 1e30  # a risk that is not finite, for searches that compare


class Spectra(NamedTuple):
    """Problems in the eigenvectors of their own Σ_i x_i x_i^T, in which descent acts number by number."""

    values: Tensor  # [B, d]
    slope: Tensor  # X^T y, [B, d]
    query: Tensor  # [B, d]
    answer: Tensor  # [B]

    def risk(self, step: float, steps: int, curvature: float = 0.0) -> float:
        """Return the mean squared error of gradient descent, or GD++ where the curvature is not 0."""
        values, slope, query = self.values, self.slope, self.query
        predicted = torch.zeros_like(self.answer)
        for _ in range(steps):
            predicted = predicted + step * (slope * query).sum(-1)
            moved = 1 - curvature * values
            slope = moved * (1 - step * values) * slope
            query, values = moved * query, moved**2 * values
        risk = float(((predicted - self.answer) ** 2).mean())
        return risk if math.isfinite(risk) else DIVERGED


def spectra(batch: Batch) -> Spectra:
    """Return the problems of `batch` in their eigenvectors."""
    x, y = (part.double() for part in batch.context)
    values, vectors = torch.linalg.eigh(x.mT @ x)
    slope = vectors.mT @ (x.mT @ y[..., None])
    query = vectors.mT @ batch.query.double()[..., None]
    return Spectra(values.clamp_min(0), slope[..., 0], query[..., 0], batch.answer.double())


def best_descent(batch: Batch, steps: int) -> float:
    """Return the step s with which `steps` steps of gradient descent do best on `batch` (Brent)."""
    problems = spectra(batch)
    # Descent diverges on a problem beyond 2 / λ; the best step for all cannot be far above their mean.
    limit = 4 / float(problems.values[:, -1].mean())
    found = optimize.minimize_scalar(
        lambda step: problems.risk(step, steps),
        bounds=(0, limit),
        method="bounded",
        options={"xatol": 1e-6 * limit},
    )
    return float(found.x)


def best_curved_descent(batch: Batch, steps: int) -> tuple[float, float]:
    """Return the step s and the curvature γ with which `steps` steps of GD++ do best (Nelder and Mead)."""
    step = best_descent(batch, steps)
    if steps == 1:
        return step, 0.0  # inputs moved after the only step change nothing
    problems = spectra(batch)
    found = optimize.minimize(
        lambda point: problems.risk(step * point[0], steps, step * point[1]),
        np.array([1.0, 0.1]),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-7, "maxiter": 300},
    )
    return float(step * found.x[0]), float(step * found.x[1])


def best_ridge(batch: Batch) -> float:
    """Return the penalty with which ridge regression does best on `batch` (Brent, between 1e-4 and 1e6)."""

    def risk(exponent: float) -> float:
        predicted = ridge(10.0**exponent)(batch.context, batch.query)
        return float(((predicted - batch.answer) ** 2).mean())

    found = optimize.minimize_scalar(risk, bounds=(-4, 6), method="bounded", options={"xatol": 1e-2})
    return float(10.0**found.x)
