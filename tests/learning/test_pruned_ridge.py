"""Distillation on a part of the data in ridge regression: formulas against drawn noise and a grid."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.learning.pruned_ridge import PrunedRidge


def drawn(seed: int = 0, count: int = 40, kept: int = 10) -> tuple[PrunedRidge, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs, truth = rng.normal(size=(5, count)), rng.normal(size=5)
    return PrunedRidge(inputs, rng.permutation(count)[:kept], ridge=0.7), truth


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_mean_and_spread_of_the_student(alpha: float) -> None:
    """Oracle: 20,000 drawn noises: the mean error is the bias, the covariance that of the noise map."""
    ridge, truth = drawn()
    noise = 0.8 * np.random.default_rng(1).normal(size=(40, 20_000))
    students = ridge.student((ridge.inputs.T @ truth)[:, None] + noise, alpha)
    spread = students.std(1) / np.sqrt(20_000)
    assert (np.abs(students.mean(1) - truth - ridge.bias(truth, alpha)) < 4 * spread).all()
    wanted = 0.64 * ridge.noise_map(alpha) @ ridge.noise_map(alpha).T
    assert np.allclose(np.cov(students), wanted, atol=0.03 * np.abs(wanted).max())
    errors = np.square(students - truth[:, None]).sum(0)
    assert abs(errors.mean() - ridge.error(truth, 0.8, alpha)) < 4 * errors.std() / np.sqrt(20_000)


def test_the_student_is_ridge_regression() -> None:
    """Oracle: the normal equations solved on the mixed targets; all kept and no teacher is the teacher."""
    ridge, truth = drawn()
    labels = ridge.inputs.T @ truth + np.random.default_rng(2).normal(size=40)
    few = ridge.inputs[:, ridge.kept]
    targets = 0.3 * labels[ridge.kept] + 0.7 * few.T @ ridge.teacher(labels)
    padded = np.hstack([few, np.sqrt(0.7) * np.eye(5)])  # a ridge is five more inputs with the target 0
    solved = np.linalg.lstsq(padded.T, np.concatenate([targets, np.zeros(5)]), rcond=None)[0]
    assert np.allclose(ridge.student(labels, 0.7), solved)
    whole = PrunedRidge(ridge.inputs, np.arange(40), 0.7)
    assert np.allclose(whole.student(labels, 0.0), whole.teacher(labels))


@pytest.mark.parametrize("deviation", [0.1, 1.0, 3.0])
def test_the_best_weight(deviation: float) -> None:
    """Oracle: a grid of weights, also outside 0 to 1; the error is a parabola through any three of them."""
    ridge, truth = drawn(3)
    grid = np.linspace(-2, 3, 5001)
    at = np.array([-1.0, 0.0, 2.0])
    parabola = np.polyfit(at, [ridge.error(truth, deviation, one) for one in at], 2)
    assert np.isclose(np.polyval(parabola, 0.77), ridge.error(truth, deviation, 0.77))
    best = ridge.best_alpha(truth, deviation)
    assert abs(best - grid[np.polyval(parabola, grid).argmin()]) < 2e-3


def test_noise_and_small_parts_speak_for_the_teacher() -> None:
    """Oracle: the mean best weight over 30 draws rises with the noise, and as less is kept."""

    def mean(deviation: float, kept: int) -> float:
        return float(
            np.mean([r.best_alpha(t, deviation) for r, t in (drawn(s, 200, kept) for s in range(30))])
        )

    assert mean(0.05, 10) < mean(0.5, 10) < mean(2.0, 10)
    assert mean(0.3, 100) < mean(0.3, 30) < mean(0.3, 10)


def test_a_ridge_that_is_none() -> None:
    """Oracle: 0 is refused."""
    with pytest.raises(UsageError, match="ridge is 0"):
        PrunedRidge(np.zeros((2, 3)), np.arange(2), ridge=0.0)
