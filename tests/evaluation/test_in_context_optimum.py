"""Closed forms of the best layer: values by hand, limits, and Monte Carlo with stated standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Batch, Regression
from selfstudy.evaluation.alignment import predictions, squared_errors
from selfstudy.evaluation.descent_search import best_curved_descent, best_descent, best_ridge, spectra
from selfstudy.evaluation.in_context_optimum import (
    isotropic_optimum,
    one_layer_optimum,
    optimal_preconditioner,
    optimal_risk,
    optimal_step,
    relu_optimum,
)
from selfstudy.models.in_context.predictors import descent_path, gradient_descent, preconditioned, ridge

SPECTRUM = np.diag([4.0, 2.0, 1.0, 0.5, 0.25])


def problems(size: int = 100_000, **fields) -> Batch:
    settings = {"inputs": "gaussian", "dimensions": 5, "context": 20, **fields}
    return Regression(**settings).draw(size, generator("optimum", str(sorted(fields))))


def slopes(batch: Batch) -> np.ndarray:
    return (batch.context.inputs.mT @ batch.context.targets[..., None])[..., 0].double().numpy()


def standard_errors(values: np.ndarray, expected: float) -> float:
    return abs(values.mean() - expected) / (values.std() / np.sqrt(len(values)))


def test_values() -> None:
    """Oracle: d = 5, n = 20: 1/26 and 30/26 without noise, 1/26.25 and 0.25 + 5 · 6.25/26.25 with σ = 0.5."""
    assert optimal_step(20, 5) == pytest.approx(1 / 26)
    assert optimal_risk(20, np.eye(5)) == pytest.approx(30 / 26)
    assert optimal_step(20, 5, 0.5) == pytest.approx(1 / 26.25)
    assert optimal_risk(20, np.eye(5), 0.5) == pytest.approx(0.25 + 5 * 6.25 / 26.25)


def test_limits() -> None:
    """Oracle: n η* → 1 and R* → σ² for many examples; η* σ² → 1 for much noise; one example helps little."""
    assert 1e7 * optimal_step(10**7, 5) == pytest.approx(1, rel=1e-5)
    assert optimal_risk(10**7, np.eye(5), 0.5) == pytest.approx(0.25, rel=1e-4)
    assert optimal_step(20, 5, 1e5) * 1e10 == pytest.approx(1, rel=1e-6)
    assert (
        optimal_risk(1, np.eye(5), 0.5) < 5.25 == pytest.approx(isotropic_optimum(1, 5, noise=0.5).zero_risk)
    )


def test_special_cases_agree() -> None:
    """Oracle: Λ = I under either prior, the coordinates' form with Gaussian moments, and uniform inputs."""
    for prior in ("identity", "inverse"):
        np.testing.assert_allclose(optimal_preconditioner(20, np.eye(5), 0.5, prior), np.eye(5) / 26.25)
        assert optimal_risk(20, np.eye(5), 0.5, prior) == pytest.approx(1.4404761904761905)
    same = isotropic_optimum(20, 5, noise=0.5)
    assert same.risk == pytest.approx(1.4404761904761905) and same.step == pytest.approx(1 / 26.25)
    uniform = one_layer_optimum(Regression())
    assert uniform is not None
    assert 10 * uniform.step == pytest.approx(6.06, abs=0.005)
    assert uniform.risk / 2 == pytest.approx(0.2062, abs=5e-5)
    assert uniform.zero_risk / 2 == pytest.approx(0.4167, abs=5e-5)


def test_moments_behind_the_step() -> None:
    """Oracle: E||X^T y||² = n d (n + d + 1 + σ²) and E w^T X^T X w = n d, 200,000 problems, 4 s.e."""
    batch = problems(200_000, noise=0.5)
    n, d = 20, 5
    power = (slopes(batch) ** 2).sum(1)
    assert standard_errors(power, n * d * (n + d + 1 + 0.25)) < 4
    clean = (batch.context.targets.double().numpy() ** 2).sum(1)  # ||Xw||² plus n σ²
    assert standard_errors(clean, n * d + n * 0.25) < 4


CASES = [
    Regression(noise=0.3),
    Regression(weight_scale=2.0, noise=0.3, scale=2.0),
    Regression(inputs="gaussian", dimensions=5, context=20, noise=0.5, weight_scale=2.0),
    Regression(inputs="gaussian", dimensions=5, context=20, noise=0.5, covariance=SPECTRUM),
    Regression(inputs="gaussian", dimensions=5, context=20, noise=0.5, covariance=SPECTRUM, prior="inverse"),
    Regression(inputs="gaussian", dimensions=5, context=20, noise=3.0, responses="relu", weight_scale=2.0),
    Regression(inputs="gaussian", dimensions=5, context=20, noise=0.5, responses="absolute"),
]


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_risks_and_their_minimum(case: Regression) -> None:
    """Oracle: Monte Carlo on 40,000 problems: the risk within 4 s.e.; its slope in every entry of Γ is 0.

    The slope of the mean of (ŷ - y)² in Γ_jk is that of 2 (ŷ - y) (X^T y)_j x_k; along Γ, of 2 (ŷ - y) ŷ.
    """
    best = one_layer_optimum(case)
    assert best is not None and best.exact
    batch = case.draw(40_000, generator("risks"))
    predictor = preconditioned(best.matrix)
    assert standard_errors(squared_errors(predictor, batch).double().numpy(), best.risk) < 4
    assert standard_errors(batch.answer.double().numpy() ** 2, best.zero_risk) < 4
    residual = (predictor(*batch[:2]) - batch.answer).double().numpy()
    if best.matrix.any():
        assert standard_errors(residual * predictions(predictor, batch).double().numpy(), 0.0) < 4
    for j in range(case.dimensions):
        for k in range(case.dimensions):
            slope = residual * slopes(batch)[:, j] * batch.query[:, k].double().numpy()
            assert standard_errors(slope, 0.0) < 4.5  # at most 100 entries: one in 1,500 by chance


def test_the_risk_is_a_parabola_around_the_step() -> None:
    """Oracle: three steps on 100,000 problems; the parabola's vertex is at η* within 4 s.e. by ten parts."""
    batch = problems()
    steps = np.array([0.8, 1.0, 1.2]) / 26
    errors = np.stack([squared_errors(gradient_descent(step), batch).double().numpy() for step in steps])
    parts = errors.reshape(3, 10, -1).mean(2)  # [steps, parts]
    vertices = np.array([-b / (2 * a) for a, b, _ in (np.polyfit(steps, part, 2) for part in parts.T)])
    assert abs(vertices.mean() - 1 / 26) < 4 * vertices.std(ddof=1) / np.sqrt(10)


def test_relu_does_not_depend_on_the_hidden_units() -> None:
    """Oracle: 1/33 for n = 20, d = 5 by hand, and Monte Carlo with 3 hidden units within 4 s.e."""
    best = relu_optimum(20, 5)
    assert best.step == pytest.approx(1 / 33)
    batch = problems(responses="relu", hidden=3)
    assert standard_errors(squared_errors(gradient_descent(best.step), batch).double().numpy(), best.risk) < 4


def test_even_responses_have_no_step() -> None:
    """Oracle: E y_q x_q·X^T y is 0 for y = |w·x|, 3 s.e. of 100,000 problems."""
    batch = problems(responses="absolute")
    cross = (slopes(batch) * batch.query.double().numpy()).sum(1) * batch.answer.double().numpy()
    assert standard_errors(cross, 0.0) < 3


def test_whitening() -> None:
    """Oracle: under the inverse prior the preconditioned step is the plain step in whitened inputs."""
    rng = generator("whitening")
    root = np.linalg.cholesky(SPECTRUM)
    x, w, q = rng.standard_normal((50, 20, 5)), rng.standard_normal((50, 5)), rng.standard_normal((50, 5))
    skewed, asked = x @ root.T, q @ root.T
    y = np.einsum("bij,bj->bi", skewed, w @ np.linalg.inv(root))
    gamma = optimal_preconditioner(20, SPECTRUM, 0.0, "inverse")
    ours = np.einsum("bi,bij,jk,bk->b", y, skewed, gamma, asked)
    white = optimal_step(20, 5) * np.einsum("bi,bij,bj->b", np.einsum("bij,bj->bi", x, w), x, q)
    np.testing.assert_allclose(ours, white, rtol=1e-10)


def test_rotations_change_nothing() -> None:
    """Oracle: a random rotation of inputs, query and weights alike."""
    batch = problems(100)
    turn, _ = np.linalg.qr(generator("turn").standard_normal((5, 5)))
    turned = torch.tensor(turn, dtype=torch.float32)
    context = batch.context._replace(inputs=batch.context.inputs @ turned)
    f = gradient_descent(optimal_step(20, 5))
    torch.testing.assert_close(f(context, batch.query @ turned), f(*batch[:2]), rtol=1e-4, atol=1e-5)


def test_searches() -> None:
    """Oracle: the closed form for one step (6.06 ± 0.1 for η); a fine grid; the path of descent itself."""
    assert 10 * best_descent(Regression().draw(40_000, generator("one")), 1) == pytest.approx(6.06, abs=0.1)
    batch = Regression().draw(4000, generator("search"))
    assert best_curved_descent(batch, 1) == (best_descent(batch, 1), 0.0)
    step, curvature = best_curved_descent(batch, 3)
    exact = float(((descent_path(*batch[:2], step, 3, curvature)[-1] - batch.answer) ** 2).mean())
    found = spectra(batch)
    assert found.risk(step, 3, curvature) == pytest.approx(exact, rel=1e-4)
    around = [found.risk(step * a, 3, curvature * b) for a in (0.97, 1, 1.03) for b in (0.97, 1, 1.03)]
    assert found.risk(step, 3, curvature) <= min(around) < found.risk(best_descent(batch, 3), 3)
    grid = min(np.linspace(0.1, 1.5, 141), key=lambda s: found.risk(s, 3))
    assert best_descent(batch, 3) == pytest.approx(grid, abs=0.01)


def test_the_best_penalty() -> None:
    """Oracle: the noise's variance over that of the weights, 0.49, where that is known; within a third."""
    batch = problems(5000, noise=0.7, context=8)
    assert best_ridge(batch) == pytest.approx(0.49, rel=0.34)
    assert float(((ridge(best_ridge(batch))(*batch[:2]) - batch.answer) ** 2).mean()) < 1.2


def test_where_no_form_is_known() -> None:
    """Oracle: by hand: sines, corrupted targets, normalised inputs; rows of a table are not exact."""
    for fields in (
        {"responses": "sine", "dimensions": 1},
        {"corrupted": 1},
        {"inputs": "laplace"},
        {"inputs": "gaussian", "covariance": np.diag(np.arange(1.0, 11.0)), "responses": "relu"},
    ):
        assert one_layer_optimum(Regression(**fields)) is None
    rows = one_layer_optimum(selfstudy.task("in-context-regression?table=diabetes&noise=0.5").problems)
    assert rows is not None and not rows.exact


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((0, np.eye(2)), "at least 1"),
        ((3, np.eye(2), -0.1), "noise"),
        ((3, np.diag([1.0, -0.5])), "smallest eigenvalue is -0.5"),
        ((3, np.diag([1.0, 1e-9]), 0.0, "inverse"), "condition"),
        ((3, np.eye(2), 0.0, "flat"), "flat"),
    ],
)
def test_refused(arguments, word: str) -> None:
    """Oracle: each out of range."""
    with pytest.raises(UsageError, match=word):
        optimal_preconditioner(*arguments)
    with pytest.raises(UsageError, match=word):
        optimal_risk(*arguments)
