"""The best that one layer of linear attention can do in context, in closed form, and other exact references.

All steps are on the sum of squared errors and all risks are mean squared errors E (ŷ - y)², without a half
(Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576). von Oswald et al. 2022 (arXiv 2212.07677) step on the
mean over N examples and halve the loss: η = N · step and loss = risk / 2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Regression, check_covariance


class Optimum(NamedTuple):
    """The best predictor Σ_i y_i x_i^T Γ x_q of a distribution of problems."""

    matrix: np.ndarray  # Γ [d, d]
    risk: float
    """E (ŷ - y)² of it, noise included."""
    zero_risk: float
    """That of predicting 0."""
    exact: bool = True
    """Whether this is a closed form of the very distribution, not of one that stands in for it."""

    @property
    def step(self) -> float:
        """The step of gradient descent it comes to: the mean diagonal of Γ."""
        return float(np.trace(self.matrix) / len(self.matrix))

    @property
    def isotropic(self) -> bool:
        """Whether it is a plain step of gradient descent, without a preconditioner."""
        return bool(np.allclose(self.matrix, self.step * np.eye(len(self.matrix))))


def isotropic_optimum(
    context: int,
    dimensions: int,
    *,
    variance: float = 1.0,
    fourth: float = 3.0,
    weight_scale: float = 1.0,
    noise: float = 0.0,
) -> Optimum:
    """Return the best step for inputs with independent, equal, symmetric coordinates and w ~ N(0, a² I).

    With s = E x², m = E x⁴ of a coordinate: step = t1 / t2 for t1 = n d s a² and
    t2 = a² (n (d m + d (d-1) s²) + n (n-1) d s²) + n d s σ², and risk = s (d a² - t1² / t2) + σ².

    >>> best = isotropic_optimum(20, 5)  # N(0, I): 1 / (n + d + 1 + σ²)
    >>> round(1 / best.step, 9), round(best.risk, 6)
    (26.0, 1.153846)
    >>> best = isotropic_optimum(10, 10, variance=1 / 12, fourth=1 / 80)  # uniform in (-1/2, 1/2)
    >>> round(10 * best.step, 2), round(best.risk / 2, 4)
    (6.06, 0.2062)
    """
    _check(context, noise)
    n, d, s, a2 = context, dimensions, variance, weight_scale**2
    t1 = n * d * s * a2
    t2 = a2 * (n * (d * fourth + d * (d - 1) * s**2) + n * (n - 1) * d * s**2) + n * d * s * noise**2
    zero = s * d * a2 + noise**2
    step = s * t1 / (s * t2)
    return Optimum(step * np.eye(d), zero - s * t1 * step, zero)


def optimal_step(context: int, dimensions: int, noise: float = 0.0) -> float:
    """Return η* = 1 / (n + d + 1 + σ²), the best step for x ~ N(0, I), w ~ N(0, I)."""
    _check(context, noise)
    return 1 / (context + dimensions + 1 + noise**2)


def optimal_preconditioner(
    context: int, covariance: np.ndarray, noise: float = 0.0, prior: str = "identity"
) -> np.ndarray:
    """Return Γ* [d, d] for x ~ N(0, Λ): [(n+1)Λ + (tr Λ + σ²) I]^-1, or η* Λ^-1 for the prior N(0, Λ^-1).

    Args:
        context: n.
        covariance: Λ [d, d].
        noise: σ.
        prior: of the weights: "identity", N(0, I), or "inverse", N(0, Λ^-1).

    Raises:
        UsageError: n < 1, σ < 0, a Λ that is not symmetric positive definite, an unknown prior, or "inverse"
            with a Λ too close to singular.
    """
    _check(context, noise)
    if prior not in ("identity", "inverse"):
        raise UsageError(f"prior={prior} is none of identity, inverse.")
    check_covariance(covariance, len(covariance), inverted=prior == "inverse")
    return _gaussian(context, np.asarray(covariance, dtype=float), noise, prior).matrix


def optimal_risk(context: int, covariance: np.ndarray, noise: float = 0.0, prior: str = "identity") -> float:
    """Return the risk of `optimal_preconditioner`: σ² + tr Λ Λ_w - n tr(Λ² Γ* Λ_w), Λ_w the prior's.

    >>> round(optimal_risk(20, np.eye(5), 0.5), 6)
    1.440476
    """
    optimal_preconditioner(context, covariance, noise, prior)  # raises for what is out of range
    return _gaussian(context, np.asarray(covariance, dtype=float), noise, prior).risk


def _gaussian(context: int, covariance: np.ndarray, noise: float, prior: str) -> Optimum:
    d = len(covariance)
    if prior == "inverse":
        gamma, spread = optimal_step(context, d, noise) * np.linalg.inv(covariance), np.eye(d)
    else:
        shift = np.trace(covariance) + noise**2
        gamma, spread = np.linalg.inv((context + 1) * covariance + shift * np.eye(d)), covariance
    zero = float(noise**2 + np.trace(spread))
    return Optimum(gamma, zero - context * float(np.trace(covariance @ gamma @ spread)), zero)


def relu_optimum(context: int, dimensions: int, noise: float = 0.0, weight_scale: float = 1.0) -> Optimum:
    """Return the best step for x ~ N(0, I) and random two-layer ReLU networks: 1 / (n + 2d + 3 + 4σ²).

    From the covariance of their outputs, K(x, x') = |x||x'| (sin θ + (π - θ) cos θ) / 2π, with
    E K(x, x') x·x' = d/4 and E K(x, x)|x|² = d (d + 2)/2, for any number of hidden units.
    """
    _check(context, noise)
    n, d, sigma2 = context, dimensions, (noise / weight_scale) ** 2
    step = 1 / (n + 2 * d + 3 + 4 * sigma2)
    risk, zero = d / 2 + sigma2 - step * n * d / 4, d / 2 + sigma2
    return Optimum(step * np.eye(d), weight_scale**2 * risk, weight_scale**2 * zero)


def one_layer_optimum(problems: Regression) -> Optimum | None:
    """Return the best one-layer predictor of a distribution of problems, or None without a closed form.

    For rows of a table with linear responses it is that of Gaussian inputs with the rows' covariance, which
    is close but not exact.
    """
    n, d, noise, scale = problems.context, problems.dimensions, problems.noise, problems.weight_scale
    if problems.corrupted or problems.responses in ("sine", "column"):
        return None
    if problems.inputs == "gaussian" or problems.rows is not None:
        covariance = problems.moments
        if problems.responses == "linear":
            best = _gaussian(n, covariance, noise / scale, problems.prior)
            power = scale**2
            return Optimum(
                best.matrix, power * best.risk, power * best.zero_risk, exact=problems.rows is None
            )
        if problems.rows is None and problems.responses == "absolute":
            power = float(np.trace(covariance)) if problems.prior == "identity" else float(d)
            zero = scale**2 * power + noise**2
            return Optimum(np.zeros((d, d)), zero, zero)
        if problems.rows is None and np.array_equal(covariance, np.eye(d)):
            return relu_optimum(n, d, noise, scale)
        return None
    if problems.inputs == "uniform" and problems.responses == "linear":
        s, m = problems.scale**2 / 12, problems.scale**4 / 80
        return isotropic_optimum(n, d, variance=s, fourth=m, weight_scale=scale, noise=noise)
    return None


def _check(context: int, noise: float) -> None:
    if context < 1 or not 0 <= noise < math.inf:
        raise UsageError(
            f"The closed forms need a context of at least 1, not {context}, and a noise of 0 or more, "
            f"not {noise:g}."
        )
