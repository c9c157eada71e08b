"""Pictures of guided self-distillation: what the weight of the labels does, by step and by eigenvector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from selfstudy.evaluation.pictures import Picture, line, picture, points
from selfstudy.learning.kernel_self_distillation import KernelSelfDistiller

GRID = np.linspace(0, 1, 41)  # of weights that are drawn
MOST = 400  # eigenvectors that are drawn


class FitErrors(NamedTuple):
    """Squared errors of two fits on held-out items, and how far they are apart; means over items.

    Attributes:
        first: of the fit to the labels.
        distilled: of the fit to the teacher alone.
        apart: mean squared difference of the two fits.
    """

    first: float
    distilled: float
    apart: float

    def at(self, weight: np.ndarray) -> np.ndarray:
        """Return the error of the mixture of both fits with a weight of the first: a parabola.

        |y - a f - (1 - a) g|^2 = a |y - f|^2 + (1 - a) |y - g|^2 - a (1 - a) |f - g|^2.
        """
        return weight * self.first + (1 - weight) * self.distilled - weight * (1 - weight) * self.apart


def fit_errors(first: np.ndarray, distilled: np.ndarray, truth: np.ndarray) -> FitErrors:
    """Return the errors of outputs [V, C] or [V] on held-out labels alike."""
    pairs = ((first, truth), (distilled, truth), (first, distilled))
    return FitErrors(*(squared_error(a, b) for a, b in pairs))


def squared_error(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Return the squared error of outputs [V, C] or [V], summed over C, the mean over items."""
    return float(np.sum((outputs - truth) ** 2) / len(truth))


def weight_picture(errors: Mapping[int, FitErrors], weights: Sequence[float]) -> Picture:
    """Return the held-out error over the weight of the labels, a curve for each step.

    Args:
        errors: by step, from 2 on.
        weights: of those steps, in order.
    """
    low, high = min([0.0, *weights]), max([1.0, *weights])
    grid = low + (high - low) * GRID
    traces = [line(f"step {step}", grid, found.at(grid)) for step, found in errors.items()]
    chosen = [found.at(np.asarray(weight)) for found, weight in zip(errors.values(), weights, strict=True)]
    traces.append(points("chosen", weights, [float(error) for error in chosen], marker={"size": 11}))
    return picture(
        "How much weight the labels should have",
        traces,
        x="weight of the labels",
        y="squared error on held-out items",
        note="At 1 a step is the first fit over again, at 0 it is taught by its teacher alone. Between them "
        "the curve is that of a mixture of the two fits: exactly what a kernel model does, and about what a "
        "network does.",
    )


def steps_picture(held: Sequence[float]) -> Picture:
    """Return the held-out error of each fit, in order."""
    names = [f"fit {step}" for step in range(1, len(held) + 1)]
    return picture(
        "Fit after fit",
        [line("held-out items", names, held, mode="lines+markers")],
        y="squared error on held-out items",
        note="Weights that were computed on these items make the errors a little too good. Most of what "
        "there is to gain comes with the second fit.",
        layout={"xaxis": {"type": "category"}},
    )


def spectrum_picture(values: np.ndarray, kept: Mapping[str, np.ndarray]) -> Picture:
    """Return how much of each eigenvector's part of the labels every fit keeps.

    Args:
        values: d, eigenvalues, rising, [r].
        kept: by fit, B, [r].
    """
    order = np.arange(len(values))[::-1]
    shown = np.unique(np.geomspace(1, len(order), min(MOST, len(order))).round().astype(int)) - 1
    return picture(
        "What each fit keeps",
        [line(name, shown + 1, shares[order][shown], mode="lines+markers") for name, shares in kept.items()],
        x="eigenvector of the kernel matrix, largest first",
        y="share of the labels' part that is fitted",
        note="Distilling without labels shrinks the small eigenvectors most, step by step towards nothing. "
        "With labels it stops at ridge regression with the penalty divided by their weight.",
        layout={"xaxis": {"type": "log"}},
    )


def kernel_pictures(
    found: KernelSelfDistiller, rows: np.ndarray, wanted: np.ndarray, weights: Sequence[float]
) -> list[Picture]:
    """Return all pictures of a kernel model.

    Args:
        found: fitted.
        rows: held-out ones, [V, d]; none leaves the errors out.
        wanted: their labels, [V, C].
        weights: of the labels in steps 2 on.
    """
    steps = range(1, len(weights) + 2)
    kept = {f"fit {step}": found.spectrum(step, weights, allow_extrapolation=True) for step in steps}
    if weights and 0 < weights[-1] <= 1:
        kept["in the limit"] = found.limit_spectrum(weights[-1])
    shown = [spectrum_picture(found.decomposed.values, kept)]
    if not len(rows) or not weights:
        return shown

    def told(step: int, alphas: Sequence[float]) -> np.ndarray:
        return found.predict(rows, step, alphas, allow_extrapolation=True)

    errors = {
        step: fit_errors(told(1, []), told(step, [*weights[: step - 2], 0.0]), wanted) for step in steps[1:]
    }
    held = [squared_error(told(step, weights), wanted) for step in steps]
    return [weight_picture(errors, weights), steps_picture(held), *shown]
