"""Repeated self-distillation of kernel ridge regression, all in closed form.

Borup and Andersen 2021, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed
by Self-Distillation", arXiv 2102.13088. K = V diag(d) V' is the kernel matrix, lambda the penalty, y the
labels. Step tau fits ridge regression to alpha y + (1 - alpha) y^(tau-1), y^(0) = y; with
a_k = d_k / (d_k + lambda) the fitted values are V diag(B) V' y, where

    B^(1) = a,    B^(tau) = a (alpha + (1 - alpha) B^(tau-1)),    B^(inf) = alpha d / (alpha d + lambda).

For d_k > d_j the ratio B_k / B_j is (a_k / a_j)^tau without labels and rises with every step. With labels it
comes to (d_k (alpha d_j + lambda)) / (d_j (alpha d_k + lambda)), but may pass that on the way and come back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.label_weight import CONVEX, estimate_alpha
from selfstudy.models.kernels import MOST_BYTES, Kernel, Spectrum, spectrum

Alpha = float | Sequence[float]
"""Weight of the labels at every step, or of each step from the second on."""


class KernelSelfDistiller:
    """Kernel ridge regression, distilled from itself for any number of steps from one decomposition.

        distiller = KernelSelfDistiller(named_kernel("rbf", gamma=0.03), lam=0.1).fit(X, y)
        alpha = distiller.optimal_alpha(X_held, y_held, step=2)
        distiller.predict(X_new, step=2, alpha=alpha)

    y [n] or [n, C], of independent columns, is centred unless told otherwise, and its mean is added again.
    After `fit` each step, weight or penalty costs n numbers a column, not another decomposition.

    Args:
        kernel: from rows [n, d] and [m, d] to [n, m].
        lam: lambda, above 0.
        rank: of Nystrom's approximation; 0 is exact.
        centred: whether the mean of y is fitted apart.
        most_bytes: that the exact decomposition may take.

    Attributes:
        mean: of y, [C], which is added to what is predicted; 0 where y is not centred. There after `fit`.

    Raises:
        UsageError: a penalty that is not above 0.
    """

    def __init__(
        self,
        kernel: Kernel,
        lam: float,
        *,
        rank: int = 0,
        centred: bool = True,
        most_bytes: float = MOST_BYTES,
    ) -> None:
        _check_penalty(lam)
        if rank < 0:
            raise UsageError(f"rank is {rank}; it must be at least 0, which is exact.")
        self.kernel, self.lam, self.rank, self.centred = kernel, lam, rank, centred
        self._most_bytes = most_bytes
        self._spectrum: Spectrum | None = None

    def fit(self, inputs: ArrayLike, labels: ArrayLike) -> Self:
        """Decompose the kernel matrix of rows [n, d] and take in their labels, [n] or [n, C].

        Raises:
            DataError: values that are not finite, another number of labels, or too large a matrix.
        """
        rows, wanted = _finite(inputs, "The rows"), _finite(labels, "The labels")
        if rows.ndim != 2 or len(rows) != len(wanted) or not len(rows):
            raise DataError(
                f"A fit takes rows [n, d] and a label of each; the shapes are {rows.shape} and "
                f"{wanted.shape}."
            )
        self._shape = wanted.shape[1:]
        columns = wanted.reshape(len(wanted), -1)
        self._constant = self.centred and bool((columns == columns[0]).all())
        # The mean of labels that are all alike differs from them by rounding.
        middle = columns[0] if self._constant else columns.mean(0)
        self.mean = middle if self.centred else np.zeros(columns.shape[1])
        self._spectrum = spectrum(self.kernel, rows, self.rank, most_bytes=self._most_bytes)
        self._labels = self._spectrum.vectors.T @ (columns - self.mean)  # V' y, [r, C]
        return self

    def with_penalty(self, lam: float) -> KernelSelfDistiller:
        """Return the fit with another lambda, from the same decomposition."""
        _check_penalty(lam)
        other = copy.copy(self)
        other.lam = lam
        return other

    @property
    def decomposed(self) -> Spectrum:
        """The kernel matrix's spectrum.

        Raises:
            UsageError: nothing was fitted yet.
        """
        if self._spectrum is None:
            raise UsageError("Call fit(inputs, labels) first.")
        return self._spectrum

    def spectrum(self, step: int, alpha: Alpha = 0.0, *, allow_extrapolation: bool = False) -> np.ndarray:
        """Return B^(step): how much of each eigenvector's part of y is fitted, [r], in the order of d.

        Raises:
            UsageError: a step below 1, or a weight outside 0 to 1 without `allow_extrapolation`.
        """
        values = self.decomposed.values
        shrunk = values / (values + self.lam)
        return shrunk * self._targets(step, alpha, allow_extrapolation)

    def limit_spectrum(self, alpha: float) -> np.ndarray:
        """Return B^(inf) = alpha d / (alpha d + lambda), [r]: ridge regression with lambda / alpha."""
        _check_alpha(alpha, False)
        values = self.decomposed.values
        return alpha * values / (alpha * values + self.lam)

    def predict(
        self, inputs: ArrayLike, step: int = 1, alpha: Alpha = 0.0, *, allow_extrapolation: bool = False
    ) -> np.ndarray:
        """Return f^(step)(x) of rows [m, d]: [m] or [m, C]; step 1 is ridge regression itself."""
        return self.values(self.project(inputs), self._targets(step, alpha, allow_extrapolation))

    def limit(self, inputs: ArrayLike, alpha: float) -> np.ndarray:
        """Return f^(inf)(x) of rows [m, d]; 0 beside the mean where alpha is 0."""
        _check_alpha(alpha, False)
        values = self.decomposed.values
        # alpha (alpha d + lambda)^-1 as a factor of (d + lambda)^-1.
        return self.values(self.project(inputs), alpha * (values + self.lam) / (alpha * values + self.lam))

    def project(self, inputs: ArrayLike) -> np.ndarray:
        """Return k(x, X) V of rows [m, d]: [m, r]. Many steps and weights can share it; see `values`."""
        found = self.decomposed
        return self.kernel(_finite(inputs, "The rows"), found.anchors) @ found.onto

    def values(self, projected: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return predictions [m] or [m, C] at projected rows, ridge-fitted to V diag(targets) V' y."""
        weights = (targets / (self.decomposed.values + self.lam))[:, None] * self._labels
        return (projected @ weights + self.mean).reshape(len(projected), *self._shape)

    def coefficients(self, step: int, alpha: Alpha = 0.0, *, allow_extrapolation: bool = False) -> np.ndarray:
        """Return what f^(step) weighs k(x, anchors) by, beside the mean: [a, C]."""
        found = self.decomposed
        targets = self._targets(step, alpha, allow_extrapolation)
        return found.onto @ ((targets / (found.values + self.lam))[:, None] * self._labels)

    def optimal_alpha(
        self,
        inputs: ArrayLike,
        labels: ArrayLike,
        step: int = 2,
        clip: tuple[float, float] | None = CONVEX,
        *,
        before: Alpha = 0.0,
    ) -> float:
        """Return the weight of the labels in `step` with the least squared error on held-out rows.

        f_alpha = alpha f^(1) + (1 - alpha) g, where g is fitted to the predictions of the step before alone.

        Args:
            inputs: held-out rows [V, d], on which nothing was fitted and nothing will be judged.
            labels: of them.
            step: 2 or more.
            clip: least and greatest weight; None may go beyond both fits.
            before: weights of the steps before.

        Raises:
            DataError: no rows.
            UsageError: a step below 2, whose weight does not matter.
        """
        if step < 2:
            raise UsageError(f"step is {step}; the first fit has no teacher, so give 2 or more.")
        held = _finite(labels, "The labels")
        if not len(held):
            raise DataError("No rows are held out, and the weight of the labels is told from such rows.")
        if self._constant:
            return 1.0
        projected = self.project(inputs)
        first = self.values(projected, np.ones_like(self.decomposed.values))
        # g: ridge regression fitted to the values of the step before.
        teacher = self.spectrum(step - 1, before, allow_extrapolation=True)
        return estimate_alpha(first, self.values(projected, teacher), held, clip=clip)

    def _targets(self, step: int, alpha: Alpha, allow_extrapolation: bool) -> np.ndarray:
        """Return the targets of a step in the eigenvectors, as shares of V' y: [r]."""
        if step < 1:
            raise UsageError(f"step is {step}; the first fit is step 1.")
        alphas = [alpha] * (step - 1) if isinstance(alpha, int | float) else list(alpha)
        if len(alphas) < step - 1:
            raise UsageError(
                f"Step {step} needs {step - 1} weights, of steps 2 on, and there are {len(alphas)}."
            )
        values = self.decomposed.values
        shrunk = values / (values + self.lam)
        targets = np.ones_like(values)
        for weight in alphas[: step - 1]:
            _check_alpha(weight, allow_extrapolation)
            targets = weight + (1 - weight) * shrunk * targets
        return targets


def _check_penalty(lam: float) -> None:
    if not 0 < lam < np.inf:
        raise UsageError(f"The penalty lambda is {lam}; it must be a number above 0.")


def _check_alpha(alpha: float, allow_extrapolation: bool) -> None:
    if not np.isfinite(alpha) or not (allow_extrapolation or 0 <= alpha <= 1):
        raise UsageError(
            f"The weight of the labels is {alpha}; it must be from 0 to 1. With allow_extrapolation=True it "
            "may lie outside, where the fit goes beyond both the first one and the distilled one."
        )


def _finite(given: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(given, dtype=np.float64)
    if not np.isfinite(array).all():
        raise DataError(f"{what} have values that are not finite. Mend them, or leave those rows out.")
    return array
