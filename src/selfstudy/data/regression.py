"""Regression in context: batches of small regression problems, each with its own rule behind its examples.

A problem has n examples (x_i, y_i) and a query x_q whose answer is asked for. The rule that makes the answers
is drawn anew for every problem, so nothing but the examples tells it. von Oswald et al. 2022, arXiv
2212.07677 (uniform inputs, sine, corrupted targets); Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576
(covariances, priors, non-linear responses).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from selfstudy.core.errors import DataError, UsageError

WORST_CONDITION = 1e8  # of a covariance that is to be inverted


class Context(NamedTuple):
    """The examples of B problems."""

    inputs: Tensor  # [B, n, d]
    targets: Tensor  # [B, n]


class Batch(NamedTuple):
    """B problems with their answers."""

    context: Context
    query: Tensor  # [B, d]
    answer: Tensor  # [B]


Predictor = Callable[[Context, Tensor], Tensor]
"""(context, query [B, d]) -> predictions [B]."""


class Rows(NamedTuple):
    """Rows of a table that problems are sampled from."""

    features: np.ndarray  # [R, d]
    targets: np.ndarray | None  # [R]


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A distribution of regression problems.

    Attributes:
        dimensions: d, of an input.
        context: n, examples in a problem.
        inputs: "uniform" in (-scale/2, scale/2)^d; "gaussian", N(0, covariance); "normal", "exponential" or
            "laplace", each divided by the Frobenius norm of the context's inputs and multiplied by `scale`.
        scale: of all but gaussian inputs; a factor on rows.
        covariance: Λ [d, d] of gaussian inputs, or of rows at scale 1; None is the identity.
        responses: a name in `RESPONSES`, or "column", the targets of `rows`.
        prior: of the weights of linear responses: "identity", N(0, I), or "inverse", N(0, Λ^-1).
        weight_scale: a factor on the responses.
        noise: σ, standard deviation of what is added to every answer, the query's too.
        hidden: units of the random network of "relu".
        corrupted: so many targets of the context are replaced by N(0, 1).
        rows: sample distinct rows of a table instead of drawing inputs.
    """

    dimensions: int = 10
    context: int = 10
    inputs: str = "uniform"
    scale: float = 1.0
    covariance: np.ndarray | None = None
    responses: str = "linear"
    prior: str = "identity"
    weight_scale: float = 1.0
    noise: float = 0.0
    hidden: int = 16
    corrupted: int = 0
    rows: Rows | None = None

    def __post_init__(self) -> None:
        """Check the fields against each other; raises UsageError or DataError."""
        if self.context < 1 or self.dimensions < 1 or self.hidden < 1:
            raise UsageError(
                f"context={self.context}, dimensions={self.dimensions} and hidden={self.hidden} must each be "
                "at least 1: a problem without an example tells nothing."
            )
        if not (0 <= self.noise < np.inf and 0 < self.scale < np.inf and 0 < self.weight_scale < np.inf):
            raise UsageError(
                f"noise={self.noise:g} must be 0 or more, range={self.scale:g} and weight_scale="
                f"{self.weight_scale:g} above 0, and all finite."
            )
        if not 0 <= self.corrupted <= self.context:
            raise UsageError(f"corrupted={self.corrupted} must be 0 to {self.context}, the context.")
        for field, known in (
            ("inputs", (*NORMALISED, "uniform", "gaussian")),
            ("prior", ("identity", "inverse")),
            ("responses", (*RESPONSES, "column")),
        ):
            if getattr(self, field) not in known:
                raise UsageError(f"{field}={getattr(self, field)} is none of {', '.join(known)}.")
        if self.responses == "sine" and self.dimensions != 1:
            raise UsageError(f"Sine responses need dimensions=1, not {self.dimensions}.")
        # The covariance of rows may be singular, as with constant columns, unless a prior inverts it.
        if self.covariance is not None and (self.rows is None or self.prior == "inverse"):
            check_covariance(self.covariance, self.dimensions, inverted=self.prior == "inverse")
        if self.rows is not None and len(self.rows.features) <= self.context:
            raise DataError(
                f"A problem needs {self.context + 1} distinct rows, its query included, and there are "
                f"{len(self.rows.features)}. Give a larger table or a smaller context."
            )
        if self.responses == "column" and (self.rows is None or self.rows.targets is None):
            raise UsageError("responses=column needs a table and the name of its target column.")

    @property
    def moments(self) -> np.ndarray:
        """Λ = E[x x^T] as asked for: the covariance, or the identity."""
        matrix = np.eye(self.dimensions) if self.covariance is None else np.asarray(self.covariance, float)
        return matrix if self.rows is None else self.scale**2 * matrix

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """Return `size` problems; what is corrupted is drawn last, so that all else stays the same."""
        if self.rows is None:
            x, y = self._inputs(size, rng), None
        else:
            chosen = distinct(len(self.rows.features), size, self.context + 1, rng)
            x = self.scale * self.rows.features[chosen]
            y = self.rows.targets[chosen] if self.responses == "column" else None  # type: ignore[index]
        if y is None:
            y = RESPONSES[self.responses](self, x, rng)
        y = self.weight_scale * y
        if self.noise:
            y = y + self.noise * rng.standard_normal(y.shape)
        if self.corrupted:
            y[:, : self.corrupted] = rng.standard_normal((size, self.corrupted))
        inputs, answers = (torch.from_numpy(values.astype(np.float32)) for values in (x, y))
        context = Context(inputs[:, :-1], answers[:, :-1])
        return Batch(context, inputs[:, -1], answers[:, -1])

    def _inputs(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return the inputs of `size` problems, the query last: [size, n + 1, d]."""
        shape = (size, self.context + 1, self.dimensions)
        if self.inputs == "uniform":
            return self.scale * (rng.random(shape, dtype=np.float32) - 0.5)
        if self.inputs == "gaussian":
            z = rng.standard_normal(shape, dtype=np.float32)
            return z if self.covariance is None else z @ np.linalg.cholesky(self.covariance).T
        x = NORMALISED[self.inputs](rng, shape)
        return self.scale * x / np.linalg.norm(x[:, :-1], axis=(1, 2), keepdims=True)


# What inputs "normal", "exponential" and "laplace" are before they are normalised.
NORMALISED: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
}


# Responses: (distribution, x [B, n + 1, d], rng) -> y [B, n + 1].


def _linear(problems: Regression, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """w·x with w ~ N(0, I), or N(0, Λ^-1) = L^-T N(0, I) for Λ = L L^T."""
    w = rng.standard_normal((len(x), problems.dimensions, 1), dtype=x.dtype)
    if problems.prior == "inverse":
        w = np.linalg.inv(np.linalg.cholesky(problems.moments)).T @ w
    return products(x, w)


def products(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return w·x of every input, x [B, n + 1, d] and w [B, d, 1] to [B, n + 1].

    Raises:
        DataError: they are not finite.
    """
    # A false alarm: for 5 columns of float32, OpenBLAS has a kernel for AVX-512 (its pull request 3260; seen
    # in 0.3.31) that also multiplies memory which nobody wrote, and leaves it out of the sum. Where the bits
    # of a signalling nan lie there, numpy is told of an invalid value, though the products are right.
    with np.errstate(invalid="ignore"):
        found: np.ndarray = (x @ w)[..., 0]
    if not np.isfinite(found).all():
        raise DataError(
            f"Responses to inputs of up to {np.abs(x).max():g} are not finite in {x.dtype}. Take inputs of a "
            "smaller range."
        )
    return found


def _absolute(problems: Regression, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.abs(_linear(problems, x, rng))


def _relu(problems: Regression, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random network a·max(Wx, 0)/sqrt(hidden), all weights N(0, 1)."""
    first = rng.standard_normal((len(x), problems.dimensions, problems.hidden))
    second = rng.standard_normal((len(x), problems.hidden, 1)) / np.sqrt(problems.hidden)
    return (np.maximum(x @ first, 0) @ second)[..., 0]


def _sine(problems: Regression, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A sin(x + φ) with A ~ U(0.1, 0.5) and φ ~ U(0, π)."""
    amplitude, phase = rng.uniform(0.1, 0.5, (len(x), 1)), rng.uniform(0, np.pi, (len(x), 1))
    return amplitude * np.sin(x[..., 0] + phase)


RESPONSES = {"linear": _linear, "absolute": _absolute, "relu": _relu, "sine": _sine}


def distinct(among: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `size` rows of `count` distinct whole numbers below `among` in random order (Floyd 1987)."""
    chosen = np.empty((size, count), dtype=np.int64)
    for i, last in enumerate(range(among - count, among)):
        drawn = rng.integers(last + 1, size=size)
        taken = (chosen[:, :i] == drawn[:, None]).any(1)
        chosen[:, i] = np.where(taken, last, drawn)
    return rng.permuted(chosen, axis=1)


def check_covariance(covariance: np.ndarray, dimensions: int, *, inverted: bool = False) -> None:
    """Refuse what is no covariance of that size, or cannot be inverted where it has to be.

    Raises:
        UsageError: a wrong shape, not symmetric positive definite, or a condition above 1e8.
    """
    matrix = np.asarray(covariance, dtype=float)
    if matrix.shape != (dimensions, dimensions) or not np.isfinite(matrix).all():
        raise UsageError(
            f"A covariance of {dimensions} dimensions is a finite matrix of {dimensions} rows and columns "
            f"(or as many variances), not of shape {matrix.shape}."
        )
    if not np.allclose(matrix, matrix.T):
        raise UsageError("The covariance is not symmetric.")
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= 1e-12 * max(values[-1], 1e-300):
        raise UsageError(
            f"The covariance is not positive definite: its smallest eigenvalue is {values[0]:.3g}. Leave out "
            "inputs that depend on the others, or add a little to its diagonal."
        )
    if inverted and values[-1] / values[0] > WORST_CONDITION:
        raise UsageError(
            f"The prior 'inverse' inverts the covariance, whose condition is {values[-1] / values[0]:.2g}; "
            f"at most {WORST_CONDITION:.0g} is possible. Take prior=identity, or leave out inputs."
        )
