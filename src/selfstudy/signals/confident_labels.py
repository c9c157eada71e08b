"""Label noise of any classifier: counts of confident disagreement (Northcutt et al. 2021, arXiv 1911.00068).

Its probabilities must be out of sample, as of cross-validation: a network knows the labels it was trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError


class NoiseEstimate(NamedTuple):
    """How labels are wrong, and which.

    Attributes:
        joint: [C, C], how many of all N items have the given label of the row and the true one of the column.
        rate: share of wrong labels.
        suspects: [N], those confidently of another class.
        doubt: [N], one less the probability of the given label.
    """

    joint: np.ndarray
    rate: float
    suspects: np.ndarray
    doubt: np.ndarray


def confident_classes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the class [N] that each item is confidently of, -1 where of none.

    It is the most likely of those classes whose probability is at least their mean probability among the
    items that have their label (equation 1).

    Args:
        labels: [N], given, from 0.
        probabilities: [N, C], out of sample.

    Raises:
        DataError: shapes or labels that do not fit, or a class without an item.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    count, classes = probabilities.shape
    if labels.shape != (count,) or count == 0 or labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"There are {len(labels)} labels from {labels.min() if len(labels) else 0} on, and probabilities "
            f"of the shape {probabilities.shape}. Give labels [N] from 0 to C - 1, and probabilities [N, C]."
        )
    sizes = np.bincount(labels, minlength=classes)
    if not sizes.all():
        raise DataError(f"No item has the label {int(np.argmin(sizes))}; give one or more of each class.")
    own = probabilities[np.arange(count), labels]
    thresholds = np.bincount(labels, weights=own, minlength=classes) / sizes
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(confident.max(1) >= 0, confident.argmax(1), -1)


def estimate_noise(labels: np.ndarray, probabilities: np.ndarray) -> NoiseEstimate:
    """Estimate how many labels are wrong, in which way, and which they are.

    The counts of confident classes are stretched so that each row has as many items as have its label.

    Args:
        labels: [N], given, from 0.
        probabilities: [N, C], out of sample.

    Raises:
        DataError: as `confident_classes`.
    """
    told = confident_classes(labels, probabilities)
    labels, classes = np.asarray(labels), probabilities.shape[1]
    known = told >= 0
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[known], told[known]), 1)
    # Every class has one right label at least, so that no row is empty.
    np.fill_diagonal(counts, counts.diagonal().clip(min=1))
    joint = counts / counts.sum(1, keepdims=True) * np.bincount(labels, minlength=classes)[:, None]
    return NoiseEstimate(
        joint=joint,
        rate=float(1 - joint.trace() / len(labels)),
        suspects=known & (told != labels),
        doubt=1 - np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels],
    )
