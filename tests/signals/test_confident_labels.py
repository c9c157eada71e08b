"""Counts of confident disagreement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.signals.confident_labels import confident_classes, estimate_noise


def by_force(labels: np.ndarray, probabilities: np.ndarray) -> tuple[list[list[float]], list[bool]]:
    """Equations 1 and 2 of Northcutt et al. 2021 with cleanlab's calibration, item by item."""
    classes = probabilities.shape[1]
    thresholds = [
        sum(p[k] for p, label in zip(probabilities, labels, strict=True) if label == k) / sum(labels == k)
        for k in range(classes)
    ]
    counts = [[0.0] * classes for _ in range(classes)]
    suspects = []
    for p, label in zip(probabilities, labels, strict=True):
        sure = [k for k in range(classes) if p[k] >= thresholds[k]]
        if sure:
            counts[label][max(sure, key=lambda k: p[k])] += 1
        suspects.append(bool(sure) and max(sure, key=lambda k: p[k]) != label)
    for k in range(classes):
        counts[k][k] = max(counts[k][k], 1)
        total = sum(counts[k])
        counts[k] = [count / total * sum(labels == k) for count in counts[k]]
    return counts, suspects


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_as_the_definition_says(seed: int, classes: int) -> None:
    """Oracle: the definition, by brute force."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(30) % classes)
    probabilities = rng.dirichlet(np.full(classes, 0.7), 30)
    found = estimate_noise(labels, probabilities)
    counts, suspects = by_force(labels, probabilities)
    assert np.allclose(found.joint, counts) and found.suspects.tolist() == suspects
    assert np.isclose(found.joint.sum(), 30)
    assert np.isclose(found.rate, 1 - np.trace(np.array(counts)) / 30)
    assert np.allclose(found.doubt, [1 - p[label] for p, label in zip(probabilities, labels, strict=True)])


def test_a_sure_classifier_finds_every_flip() -> None:
    """Oracle: labels that were flipped by hand, with probabilities that know the truth."""
    truth = np.arange(90) % 3
    labels = truth.copy()
    labels[:9] = (labels[:9] + 1) % 3
    found = estimate_noise(labels, np.eye(3)[truth] * 0.9 + 0.1 / 3)
    assert np.array_equal(np.flatnonzero(found.suspects), np.arange(9))
    wanted = 27 * np.eye(3) + 3 * np.roll(np.eye(3), 1, 0)  # given the class after the true one
    assert np.isclose(found.rate, 0.1) and np.allclose(found.joint, wanted)


def test_who_is_sure_of_nothing_is_of_no_class() -> None:
    """Oracle: probabilities below both thresholds."""
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.45, 0.55]])
    assert confident_classes(np.array([0, 0, 1, 0]), probabilities).tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        ([0, 1], np.ones((3, 2)) / 2),
        ([0, 2], np.ones((2, 2)) / 2),
        ([0, 0], np.ones((2, 2)) / 2),
        ([], np.ones((0, 2))),
    ],
)
def test_what_does_not_fit_is_refused(labels: list[int], probabilities: np.ndarray) -> None:
    """Oracle: wrong lengths, a label beyond the classes, a class without an item, nothing at all."""
    with pytest.raises(DataError, match=r"labels|label"):
        estimate_noise(np.array(labels, dtype=np.int64), probabilities)
