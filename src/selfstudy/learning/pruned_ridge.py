"""Distillation on a part of the data where all of it can be written down: ridge regression with noisy labels.

    teacher   theta_t = (S + lam)^-1 X y                                  S   = X X', all N columns
    student   theta_s = (S_f + lam)^-1 X_f [(1 - a) y_f + a X_f' theta_t]   S_f = X_f X_f', the kept ones

with y = X' theta + noise. The student's expected error is quadratic in the weight a of the teacher, so that
the best weight has a closed form. The teacher has averaged N noises, the student N_f: the more noise there
is, and the less is kept, the more weight the teacher should have (the motivation of Ben-Baruch et al. 2024,
arXiv 2403.07854, worked out for ridge regression).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from selfstudy.core.errors import UsageError


@dataclass(frozen=True)
class PrunedRidge:
    """Inputs, which of them are kept, and a ridge.

    Attributes:
        inputs: X, [d, N], an input a column.
        kept: [N_f], places of those the student is fitted on.
        ridge: lam, above 0.
    """

    inputs: np.ndarray
    kept: np.ndarray
    ridge: float

    def __post_init__(self) -> None:
        """Refuse a ridge that is none.

        Raises:
            UsageError: not above 0.
        """
        if not self.ridge > 0:
            raise UsageError(f"ridge is {self.ridge:g}; it must be above 0.")

    def teacher(self, labels: np.ndarray) -> np.ndarray:
        """Return theta_t [d], fitted on all labels [N]."""
        return self._inverse(self.inputs) @ self.inputs @ labels

    def student(self, labels: np.ndarray, alpha: float) -> np.ndarray:
        """Return theta_s [d], fitted on the kept labels of [N] and the teacher's with the weight alpha."""
        few = self.inputs[:, self.kept]
        targets = (1 - alpha) * labels[self.kept] + alpha * few.T @ self.teacher(labels)
        return self._inverse(few) @ few @ targets

    def bias(self, truth: np.ndarray, alpha: float) -> np.ndarray:
        """Return E theta_s - theta, [d]: -lam (S_f + lam)^-1 [theta + a S_f (S + lam)^-1 theta]."""
        few = self.inputs[:, self.kept]
        drawn = few @ few.T @ self._inverse(self.inputs) @ truth
        return -self.ridge * self._inverse(few) @ (truth + alpha * drawn)

    def noise_map(self, alpha: float) -> np.ndarray:
        """Return the matrix [d, N] that takes the noise of the labels to that of theta_s."""
        few = self.inputs[:, self.kept]
        own = np.zeros((len(self.kept), self.inputs.shape[1]))
        own[np.arange(len(self.kept)), self.kept] = 1
        told = few.T @ self._inverse(self.inputs) @ self.inputs
        return self._inverse(few) @ few @ ((1 - alpha) * own + alpha * told)

    def error(self, truth: np.ndarray, deviation: float, alpha: float) -> float:
        """Return E |theta_s - theta|^2 for noise of a standard deviation."""
        squares = np.square(self.bias(truth, alpha)).sum()
        return float(squares + deviation**2 * np.square(self.noise_map(alpha)).sum())

    def best_alpha(self, truth: np.ndarray, deviation: float) -> float:
        """Return the weight with the least error; it may lie outside 0 to 1.

        Bias and noise are on lines b0 + a b1 and A + a B, so that it is
        -(b0 . b1 + s^2 <A, B>) / (|b1|^2 + s^2 |B|^2).
        """
        bias, noise = self.bias(truth, 0), self.noise_map(0)
        bias_step, noise_step = self.bias(truth, 1) - bias, self.noise_map(1) - noise
        along = bias @ bias_step + deviation**2 * np.sum(noise * noise_step)
        return float(-along / (bias_step @ bias_step + deviation**2 * np.square(noise_step).sum()))

    def _inverse(self, inputs: np.ndarray) -> np.ndarray:
        return np.linalg.inv(inputs @ inputs.T + self.ridge * np.eye(len(inputs)))
