"""Whether a classifier is as sure as it is right, and whether its doubts tell its errors.

Calibration: of what is told with a confidence of 80 %, are 80 % right? Selection: if the least sure answers
are withheld, how fast do errors go away? Confidence is the probability of the class that is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import DataError
from selfstudy.evaluation.pictures import Picture, Trace, line, picture

BINS = 10
LEAST = 1e-30  # of a probability, before its logarithm
CURVE = 200  # points of a drawn curve


class Told(NamedTuple):
    """What a classifier told of N items whose class is known.

    Attributes:
        confidence: [N], probability of the class that it told.
        right: [N], whether that is the true class.
        loss: [N], negative log-likelihood of the true class.
        squared: [N], squared error of the probabilities, summed over classes: Brier's score.
    """

    confidence: np.ndarray
    right: np.ndarray
    loss: np.ndarray
    squared: np.ndarray


class Calibration(NamedTuple):
    """Five figures of a classifier; less is better in all of them.

    Attributes:
        error: share of items told wrong.
        nll: mean negative log-likelihood, in nats.
        ece: expected calibration error.
        aurc: area under the risk-coverage curve.
        e_aurc: that area less the least one with as many errors.
    """

    error: float
    nll: float
    ece: float
    aurc: float
    e_aurc: float

    def row(self) -> dict[str, float]:
        """Return the figures by name and in the units of the literature."""
        return {
            "error, %": 100 * self.error,
            "negative log-likelihood": self.nll,
            "expected calibration error, %": 100 * self.ece,
            "area under risk-coverage, 1/1000": 1000 * self.aurc,
            "excess area under risk-coverage, 1/1000": 1000 * self.e_aurc,
        }


def told(probabilities: torch.Tensor, labels: np.ndarray) -> Told:
    """Return what probabilities [N, C] tell of items of the classes `labels` [N]."""
    rows = probabilities.detach().double()
    truth = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    confidence, classes = rows.max(1)
    of_truth = rows.gather(1, truth[:, None])[:, 0]
    loss = -of_truth.clamp_min(LEAST).log()
    squared = rows.square().sum(1) - 2 * of_truth + 1
    return Told(confidence.numpy(), (classes == truth).numpy(), loss.numpy(), squared.numpy())


def calibration(found: Told) -> Calibration:
    """Return the five figures of what was told.

    Raises:
        DataError: nothing was told.
    """
    if not len(found.right):
        raise DataError("Calibration is measured on items whose class is known, and there are none.")
    area, least = risk_coverage_area(found), least_area(found.right)
    return Calibration(
        error=float(1 - found.right.mean()),
        nll=float(found.loss.mean()),
        ece=expected_calibration_error(found),
        aurc=area,
        e_aurc=area - least,
    )


def expected_calibration_error(found: Told, bins: int = BINS) -> float:
    """Return the mean over items of |accuracy - confidence| of their bin (Naeini et al. 2015).

    Args:
        found: what was told.
        bins: equal ones of the confidence, open below.
    """
    count, accuracy, confidence = reliability(found, bins)
    return float(np.sum(count * np.abs(accuracy - confidence)) / max(1, count.sum()))


def reliability(found: Told, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many items each bin of confidence has, their accuracy and mean confidence: [bins] each.

    Bins without items have 0 in all three.
    """
    which = np.clip(np.ceil(found.confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = np.maximum(count, 1)
    accuracy = np.bincount(which, found.right, bins) / filled
    return count, accuracy, np.bincount(which, found.confidence, bins) / filled


def risk_coverage(found: Told) -> np.ndarray:
    """Return the error among the n surest items, for n from 1 to N: [N]."""
    order = np.argsort(-found.confidence, kind="stable")
    return running_error(~found.right[order])


def running_error(wrong: np.ndarray) -> np.ndarray:
    """Return the share of errors among the first n of items [N], for n from 1 to N: [N]."""
    return np.cumsum(wrong) / np.arange(1, len(wrong) + 1)


def risk_coverage_area(found: Told) -> float:
    """Return the mean of `risk_coverage`: AURC (Geifman and El-Yaniv 2017)."""
    return float(risk_coverage(found).mean())


def least_area(right: np.ndarray) -> float:
    """Return the least AURC with as many errors: that of a classifier that is least sure of just those."""
    return float(running_error(~np.sort(right)[::-1]).mean())


def reliability_picture(ways: Mapping[str, Told]) -> Picture:
    """Return accuracy over confidence, a curve for each classifier, and the diagonal of a calibrated one."""
    traces: list[Trace] = [line("calibrated", [0, 1], [0, 1], line={"dash": "dot", "color": "#888"})]
    for name, found in ways.items():
        count, accuracy, confidence = reliability(found)
        filled = count > 0
        traces.append(
            line(
                name,
                confidence[filled],
                accuracy[filled],
                mode="lines+markers",
                customdata=count[filled].tolist(),
                hovertemplate="confidence %{x:.3f}, accuracy %{y:.3f}, %{customdata} images",
            )
        )
    return picture(
        "As sure as right?",
        traces,
        x="mean confidence of a bin",
        y="accuracy of that bin",
        note="On validation images. Below the diagonal the classifier is surer than it is right, above it "
        "less sure. Point at a dot for the number of images: bins of few images say little.",
        layout={"xaxis": {"range": [0, 1.02]}, "yaxis": {"range": [0, 1.02]}},
    )


def risk_coverage_picture(ways: Mapping[str, Told]) -> Picture:
    """Return the error among the surest items over how many of them are answered."""
    traces = []
    for name, found in ways.items():
        risk = risk_coverage(found)
        at = np.unique(np.linspace(0, len(risk) - 1, min(CURVE, len(risk))).round().astype(int))
        traces.append(line(name, (at + 1) / len(risk), risk[at]))
    return picture(
        "Errors left when doubtful answers are withheld",
        traces,
        x="share of images answered, the surest first",
        y="error among them",
        note="On validation images. The lower the curve lies, the better the classifier's doubts tell its "
        "errors.",
        layout={"xaxis": {"range": [0, 1], "tickformat": ".0%"}, "yaxis": {"tickformat": ".0%"}},
    )


def calibration_metrics(ways: Mapping[str, Told], where: str) -> dict[str, Any]:
    """Return the figures of each classifier as metrics named by it and `where` it was measured."""
    return {
        f"{figure}, {name}, {where}": value
        for name, found in ways.items()
        for figure, value in calibration(found).row().items()
    }
