"""Calibration and selection of a classifier: figures against closed forms and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from selfstudy.core.errors import DataError
from selfstudy.evaluation.calibration import (
    Told,
    calibration,
    calibration_metrics,
    expected_calibration_error,
    least_area,
    reliability_picture,
    risk_coverage,
    risk_coverage_area,
    risk_coverage_picture,
    told,
)


def made(confidence: list[float], right: list[bool]) -> Told:
    nothing = np.zeros(len(right))
    return Told(np.array(confidence), np.array(right), nothing, nothing)


def test_all_right() -> None:
    """Oracle: without an error there is no area, whatever the confidence."""
    found = calibration(made([0.9, 0.3, 0.5], [True, True, True]))
    assert (found.error, found.aurc, found.e_aurc) == (0, 0, 0)


def test_four_items_by_hand() -> None:
    """Oracle: right, wrong, right, wrong by falling confidence: 0, 1/2, 1/3, 1/2; at best 0, 0, 1/3, 1/2."""
    found = made([0.6, 0.9, 0.7, 0.8], [False, True, True, False])
    assert risk_coverage(found) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert risk_coverage_area(found) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert least_area(found.right) == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert calibration(found).e_aurc == pytest.approx(1 / 2 / 4)


def test_calibration_error_by_hand() -> None:
    """Oracle: two bins by hand; 0.8 belongs to the bin that ends there."""
    found = made([0.75, 0.8, 0.95, 0.91], [True, False, True, True])
    wanted = (2 * abs(0.5 - 0.775) + 2 * abs(1 - 0.93)) / 4
    assert expected_calibration_error(found) == pytest.approx(wanted)


def test_a_calibrated_sampler_has_no_calibration_error() -> None:
    """Oracle: labels drawn from the told probabilities; the error is within sampling error of 0."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4) * 0.7, 40_000)
    labels = (probabilities.cumsum(1) < rng.random((40_000, 1))).sum(1).clip(max=3)
    found = told(torch.from_numpy(probabilities), labels)
    assert expected_calibration_error(found) < 0.01
    assert expected_calibration_error(found._replace(confidence=found.confidence**2)) > 0.05


def test_figures_of_probabilities() -> None:
    """Oracle: scikit-learn's log loss, and Brier's score and the error written out."""
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(5), 60)
    labels = rng.integers(0, 5, 60)
    found = told(torch.from_numpy(probabilities), labels)
    assert calibration(found).nll == pytest.approx(log_loss(labels, probabilities, labels=range(5)))
    assert calibration(found).error == pytest.approx((probabilities.argmax(1) != labels).mean())
    assert found.squared == pytest.approx(((probabilities - np.eye(5)[labels]) ** 2).sum(1))
    certain = told(torch.tensor([[1.0, 0.0]]), np.array([1]))
    assert np.isfinite(certain.loss).all()


@given(st.lists(st.tuples(st.floats(0.01, 1), st.booleans()), min_size=1, max_size=40))
def test_laws_of_the_area(items: list[tuple[float, bool]]) -> None:
    """Oracle: the area is at least the least one, at most the share that errors could have, and only the
    order of confidences counts."""
    found = made([confidence for confidence, _ in items], [right for _, right in items])
    figures = calibration(found)
    assert figures.e_aurc >= -1e-12 and 0 <= figures.aurc <= 1 and 0 <= figures.ece <= 1
    _, order = np.unique(found.confidence, return_inverse=True)
    assert risk_coverage_area(found._replace(confidence=order + 1.0)) == pytest.approx(figures.aurc)


def test_nothing_told() -> None:
    """Oracle: an error, not a mean of nothing."""
    with pytest.raises(DataError, match="there are none"):
        calibration(made([], []))


def test_pictures_and_names() -> None:
    """Oracle: the data of the curves by hand; one set of five figures a classifier."""
    found = made([0.95, 0.85, 0.75, 0.65], [True, True, False, True])
    drawn = reliability_picture({"one": found})["traces"][1]
    assert drawn["x"] == [0.65, 0.75, 0.85, 0.95] and drawn["y"] == [1, 0, 1, 1]
    curve = risk_coverage_picture({"one": found})["traces"][0]
    assert curve["x"] == [0.25, 0.5, 0.75, 1] and curve["y"] == pytest.approx([0, 0, 1 / 3, 1 / 4], abs=1e-4)
    rows = calibration_metrics({"one": found, "two": found}, "validation")
    assert len(rows) == 10 and rows["error, %, one, validation"] == 25
