"""The sampler of regression problems: moments, responses, corruption, rows, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Regression, Rows, check_covariance, distinct, products

SKEWED = np.array([[2.0, 0.6], [0.6, 0.5]])


def draw(size: int = 20_000, name: str = "a", **fields: Any):
    return Regression(**{"dimensions": 2, "context": 3, **fields}).draw(size, generator("test", name))


def test_moments_of_inputs() -> None:
    """Oracle: E x x^T = r²/12 I and E x⁴ = r⁴/80 of uniform inputs, Λ of Gaussian ones; 4 standard errors."""
    x = draw(inputs="uniform", scale=3.0).context.inputs.numpy().reshape(-1, 2)
    se = x.std() ** 2 / np.sqrt(len(x))
    assert np.abs(x).max() <= 1.5
    assert np.abs(x.T @ x / len(x) - 0.75 * np.eye(2)).max() < 4 * se
    assert abs((x**4).mean() - 81 / 80) < 4 * (x**4).std() / np.sqrt(x.size)
    z = draw(inputs="gaussian", covariance=SKEWED).context.inputs.numpy().reshape(-1, 2)
    assert np.abs(z.T @ z / len(z) - SKEWED).max() < 4 * 3 * 2 / np.sqrt(len(z))  # sd of x² is at most 3


@pytest.mark.parametrize("inputs", ["normal", "exponential", "laplace"])
def test_normalised_inputs(inputs: str) -> None:
    """Oracle: the Frobenius norm of every context is the scale; exponential inputs are positive."""
    x = draw(50, inputs=inputs, scale=2.0).context.inputs
    np.testing.assert_allclose(x.flatten(1).norm(dim=1), 2.0, rtol=1e-5)
    assert (inputs == "exponential") == bool((x > 0).all())


@pytest.mark.parametrize("prior", ["identity", "inverse"])
def test_linear_responses_and_priors(prior: str) -> None:
    """Oracle: least squares recovers w exactly from 3 examples; E w w^T is I, or Λ^-1; 5 standard errors."""
    batch = draw(inputs="gaussian", covariance=SKEWED, prior=prior)
    x, y = (part.double().numpy() for part in batch.context)
    usable = np.linalg.cond(x) < 50
    w = (np.linalg.pinv(x[usable]) @ y[usable][..., None])[..., 0]
    answers = (w * batch.query.numpy()[usable]).sum(1)
    np.testing.assert_allclose(answers, batch.answer.numpy()[usable], atol=2e-4)
    expected = np.eye(2) if prior == "identity" else np.linalg.inv(SKEWED)
    assert np.abs(w.T @ w / len(w) - expected).max() < 5 * np.abs(w).std() ** 2 * 3 / np.sqrt(len(w))


class _Alarming(np.ndarray):
    """An array whose products are right, and come with the alarm of an invalid value."""

    def __matmul__(self, other: Any) -> Any:
        np.float64(np.inf) - np.float64(np.inf)
        return self.view(np.ndarray) @ other


def test_products_that_come_with_a_false_alarm() -> None:
    """Oracle: a sum in a loop, and no warning; what is really not finite is refused."""
    x, w = generator("test", "x").normal(size=(2, 3, 5)), generator("test", "w").normal(size=(2, 5, 1))
    found = products(x.view(_Alarming), w)
    expected = [[sum(x[b, i, k] * w[b, k, 0] for k in range(5)) for i in range(3)] for b in range(2)]
    np.testing.assert_allclose(found, expected)
    x[1, 2, 4] = np.inf
    with pytest.raises(DataError, match="up to inf are not finite in float64"):
        products(x.view(_Alarming), w)


def test_other_responses() -> None:
    """Oracle: |w·x| is the absolute value of the same draw; sines lie within 0.5; ReLU: E f² = d/2, 4 s.e."""
    linear, absolute = draw(100), draw(100, responses="absolute")
    np.testing.assert_array_equal(linear.context.targets.abs(), absolute.context.targets)
    sine = draw(1000, dimensions=1, scale=10.0, responses="sine")
    assert 0.4 < float(sine.answer.abs().max()) <= 0.5
    squares = draw(inputs="gaussian", responses="relu").answer.numpy() ** 2
    assert abs(squares.mean() - 1.0) < 4 * squares.std() / np.sqrt(len(squares))


def test_noise_scale_and_corruption_change_nothing_else() -> None:
    """Oracle: the plain draw; corruption touches the first targets alone, noise every answer."""
    plain, scaled, corrupted = draw(), draw(weight_scale=3.0), draw(corrupted=2)
    np.testing.assert_allclose(scaled.answer, 3 * plain.answer, rtol=1e-5)
    assert (corrupted.answer == plain.answer).all() and (
        corrupted.context.inputs == plain.context.inputs
    ).all()
    same = corrupted.context.targets == plain.context.targets
    assert same[:, 2].all() and not same[:, :2].any()
    assert (draw(corrupted=0).context.targets == plain.context.targets).all()
    added = (draw(noise=0.5).answer - plain.answer).numpy()
    assert abs(added.var() - 0.25) < 4 * 0.25 * np.sqrt(2 / len(added))


def test_rows_are_distinct_and_scaled() -> None:
    """Oracle: the table itself; each row is as often the query as any other (chi-squared, 0.1 %)."""
    rows = Rows(np.arange(10.0)[:, None], np.arange(10.0) ** 2)
    problems = Regression(dimensions=1, context=3, rows=rows, responses="column", scale=2.0)
    batch = problems.draw(5000, generator("rows"))
    everything = np.concatenate([batch.context.inputs[..., 0].numpy(), batch.query.numpy()], 1) / 2
    assert all(len(set(problem)) == 4 for problem in everything.tolist())
    np.testing.assert_allclose(batch.answer, (batch.query[:, 0] / 2) ** 2, rtol=1e-5)
    counts = np.bincount(everything[:, -1].astype(int), minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 27.9


def test_distinct_takes_all() -> None:
    """Oracle: as many as there are is a permutation, and every place gets every number."""
    drawn = distinct(4, 300, 4, generator("all"))
    assert (np.sort(drawn, 1) == np.arange(4)).all()
    assert all(set(drawn[:, place]) == set(range(4)) for place in range(4))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"context": 0}, "context=0"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"scale": 0.0}, "range=0"),
        ({"inputs": "cauchy"}, "cauchy"),
        ({"responses": "cubic"}, "cubic"),
        ({"responses": "sine"}, "dimensions=1"),
        ({"responses": "column"}, "table"),
        ({"corrupted": 4}, "corrupted=4"),
        ({"covariance": np.diag([1.0, 0.0])}, "smallest eigenvalue is 0"),
        ({"covariance": np.diag([1.0, -2.0])}, "smallest eigenvalue is -2"),
        ({"covariance": np.eye(3)}, "2 rows"),
        ({"covariance": np.array([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
    ],
)
def test_refused(fields: dict[str, Any], word: str) -> None:
    """Oracle: each field out of range; the message names it."""
    with pytest.raises(UsageError, match=word):
        Regression(**{"dimensions": 2, "context": 3, **fields})


def test_too_close_to_singular() -> None:
    """Oracle: a condition of 1e9 may be sampled from but not inverted; too few rows are a fault of data."""
    steep = np.diag([1.0, 1e-9])
    check_covariance(steep, 2)
    with pytest.raises(UsageError, match="condition is 1e"):
        check_covariance(steep, 2, inverted=True)
    with pytest.raises(DataError, match="4 distinct rows"):
        replace(Regression(dimensions=1, context=3), rows=Rows(np.ones((3, 1)), None))
