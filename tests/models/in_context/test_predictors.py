"""Predictors that are not trained: against second implementations, limits and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Batch, Regression
from selfstudy.models.in_context.predictors import (
    arc_cosine,
    gradient_descent,
    least_squares,
    posterior_mean,
    preconditioned,
    relu_kernel_ridge,
    ridge,
    zero,
)

SKEWED = np.array([[2.0, 0.6, 0.0], [0.6, 0.5, 0.1], [0.0, 0.1, 1.0]])


def problems(n: int = 8, name: str = "p", size: int = 50, **fields) -> Batch:
    settings = {"dimensions": 3, "inputs": "gaussian", "context": n, **fields}
    return Regression(**settings).draw(size, generator("test", name))


def test_many_steps_reach_least_squares() -> None:
    """Oracle: descent converges to numpy's least squares, from any start where examples suffice."""
    batch = problems(n=12)
    solutions = [
        np.linalg.lstsq(x.double().numpy(), y.double().numpy(), rcond=None)[0]
        for x, y in zip(*batch.context, strict=True)
    ]
    expected = (torch.tensor(np.stack(solutions)) * batch.query.double()).sum(-1).float()
    torch.testing.assert_close(least_squares()(*batch[:2]), expected, rtol=1e-3, atol=1e-4)
    far = gradient_descent(0.02, 4000, start=torch.ones(3))(*batch[:2])
    torch.testing.assert_close(far, expected, rtol=1e-3, atol=2e-3)


def test_without_curvature_gd_is_gd() -> None:
    """Oracle: plain descent."""
    batch = problems()
    torch.testing.assert_close(
        gradient_descent(0.03, 5, 0.0)(*batch[:2]), gradient_descent(0.03, 5)(*batch[:2])
    )


def test_preconditioned() -> None:
    """Oracle: one step with the identity; the definition by loops with another matrix."""
    batch = problems()
    torch.testing.assert_close(
        preconditioned(0.1 * np.eye(3))(*batch[:2]), gradient_descent(0.1)(*batch[:2]), rtol=1e-5, atol=1e-6
    )
    sums = [
        sum(
            float(y_i) * x_i.double().numpy() @ SKEWED @ q.double().numpy()
            for x_i, y_i in zip(x, y, strict=True)
        )
        for x, y, q in zip(*batch.context, batch.query, strict=True)
    ]
    torch.testing.assert_close(
        preconditioned(SKEWED)(*batch[:2]), torch.tensor(sums).float(), rtol=1e-4, atol=1e-4
    )


def test_ridge() -> None:
    """Oracle: the normal equations (X^T X + λ Λ_w^-1)^-1 X^T y in numpy; fewer examples than dimensions."""
    batch = problems(n=2)
    for x, y, q, got in zip(*batch.context, batch.query, ridge(0.7, SKEWED)(*batch[:2]), strict=True):
        X = x.double().numpy()
        w = np.linalg.solve(X.T @ X + 0.7 * np.linalg.inv(SKEWED), X.T @ y.double().numpy())
        assert abs(float(got) - w @ q.double().numpy()) < 1e-5 * (1 + abs(float(got)))


def test_least_squares_is_the_limit_of_ridge() -> None:
    """Oracle: ridge with a penalty of 1e-9, also where examples are fewer than dimensions."""
    for n in (2, 8):
        batch = problems(n=n)
        for prior in (None, SKEWED):
            limit = ridge(1e-9, prior)(*batch[:2])
            torch.testing.assert_close(posterior_mean(0.0, prior)(*batch[:2]), limit, rtol=1e-3, atol=1e-3)


def test_no_penalty_is_refused() -> None:
    """Oracle: zero, below zero, nan; the message names the way out."""
    for penalty in (0.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match="least_squares"):
            ridge(penalty)


def test_the_posterior_mean_is_best() -> None:
    """Oracle: no other penalty has a lower risk on 20,000 problems of its own prior; seeded."""
    batch = problems(n=4, noise=0.6, size=20_000)
    risk = {p: float(((ridge(p)(*batch[:2]) - batch.answer) ** 2).mean()) for p in (0.1, 0.36, 1.2)}
    assert risk[0.36] == min(risk.values())


def test_the_kernel_is_that_of_random_networks() -> None:
    """Oracle: E f(x) f(x') over 100,000 networks, 5 standard errors; without noise it interpolates."""
    x = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.7], [-1.0, -0.5, 0.3]])
    rng = generator("networks")
    first, second = rng.standard_normal((100_000, 3, 8)), rng.standard_normal((100_000, 8)) / np.sqrt(8)
    f = np.einsum("bih,bh->bi", np.maximum(np.einsum("id,bdh->bih", x, first), 0), second)
    pairs = f[:, :, None] * f[:, None, :]
    kernel = arc_cosine(torch.tensor(x)[None], torch.tensor(x)[None])[0].numpy()
    assert (np.abs(pairs.mean(0) - kernel) < 5 * pairs.std(0) / np.sqrt(len(f))).all()
    batch = problems(n=6, responses="relu")
    shown = batch.context.inputs[:, 2]
    torch.testing.assert_close(
        relu_kernel_ridge(0.0)(batch.context, shown), batch.context.targets[:, 2], rtol=1e-3, atol=1e-3
    )


def test_zero() -> None:
    """Oracle: zeros."""
    assert not zero(*problems()[:2]).any()
