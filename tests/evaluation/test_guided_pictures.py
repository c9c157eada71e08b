"""Pictures of guided self-distillation: the parabola of errors, and what is drawn of a kernel model."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.evaluation.guided_pictures import fit_errors, kernel_pictures, weight_picture
from selfstudy.learning.kernel_self_distillation import KernelSelfDistiller
from selfstudy.models.kernels import named_kernel


def test_the_parabola() -> None:
    """Oracle: the error of the mixture of both fits, written out."""
    f, g, y = np.random.default_rng(0).normal(size=(3, 6, 2))
    for weight in (-0.5, 0.0, 0.3, 1.0, 1.7):
        wanted = ((weight * f + (1 - weight) * g - y) ** 2).sum() / 6
        assert fit_errors(f, g, y).at(np.asarray(weight)) == pytest.approx(wanted)


def test_the_chosen_weight_lies_on_its_curve() -> None:
    """Oracle: the dot of each step at its weight and error; the axis reaches weights outside 0 to 1."""
    f, g, y = np.random.default_rng(1).normal(size=(3, 9))
    errors = fit_errors(f, g, y)
    shown = weight_picture({2: errors}, [-0.4])
    curve, dot = shown["traces"]
    assert curve["x"][0] == -0.4 and curve["x"][-1] == 1
    assert dot["x"] == [-0.4] and dot["y"] == pytest.approx([float(errors.at(np.asarray(-0.4)))], rel=1e-4)


def test_a_kernel_model_is_drawn() -> None:
    """Oracle: the spectrum of every fit and of the limit; held-out errors of `predict`; less without rows."""
    rng = np.random.default_rng(2)
    rows, labels, held, truth = rng.normal(size=(14, 2)), rng.normal(size=(14, 1)), *_held(rng)
    fit = KernelSelfDistiller(named_kernel("rbf", 0.5), 0.5).fit(rows, labels)
    weight, steps, spectrum = kernel_pictures(fit, held, truth, [0.3, 0.6])
    assert [trace["name"] for trace in spectrum["traces"]] == ["fit 1", "fit 2", "fit 3", "in the limit"]
    assert spectrum["traces"][1]["y"][0] == pytest.approx(fit.spectrum(2, [0.3])[-1], rel=1e-4)
    wanted = [((fit.predict(held, step, [0.3, 0.6]) - truth) ** 2).mean() for step in (1, 2, 3)]
    assert steps["traces"][0]["y"] == pytest.approx(wanted, rel=1e-4)
    # A curve at its chosen weight is the error of the fit that was made with it.
    assert weight["traces"][-1]["y"] == pytest.approx(wanted[1:], rel=1e-4)
    assert len(kernel_pictures(fit, held[:0], truth[:0], [0.3])) == 1
    assert len(kernel_pictures(fit, held, truth, [])) == 1


def _held(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(6, 2)), rng.normal(size=(6, 1))
