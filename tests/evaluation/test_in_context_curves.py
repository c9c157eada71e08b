"""Curves, phases and plateaus of in-context learners, and the learners they are compared with."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from selfstudy.core.errors import UsageError
from selfstudy.evaluation.in_context_curves import (
    logistic_regression,
    nearest_mean,
    nearest_neighbour,
    phase,
    plateau_left,
    right_by_position,
    smoothed,
)


def sequences(seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (4, 12), generator=generator)
    return labels[..., None] + torch.randn(4, 12, 5, generator=generator), labels


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 100))
def test_against_scikit_learn(seed: int) -> None:
    """Oracle: scikit-learn's nearest neighbour, and means by numpy, anew for each position."""
    inputs, labels = sequences(seed)
    nearest, mean = nearest_neighbour(inputs, labels), nearest_mean(inputs, labels)
    for s, j in itertools.product(range(4), range(1, 12)):
        x, y = inputs[s, :j].numpy(), labels[s, :j].numpy()
        asked = inputs[s, j : j + 1].numpy()
        assert nearest[s, j - 1] == KNeighborsClassifier(1).fit(x, y).predict(asked)[0]
        known = sorted(set(y.tolist()))
        centres = np.stack([x[y == label].mean(0) for label in known])
        assert mean[s, j - 1] == known[((centres - asked) ** 2).sum(1).argmin()]


def test_rotations_change_nothing() -> None:
    """Oracle: an orthogonal projection keeps all distances, so every baseline tells the same labels."""
    inputs, labels = sequences(1)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))[0]
    for learner in (nearest_neighbour, nearest_mean, lambda x, y: logistic_regression(x, y, [3, 12])):
        assert torch.equal(learner(inputs @ turn.T, labels), learner(inputs, labels))


def test_logistic_regression() -> None:
    """Oracle: labels that a line tells apart; a context of one label tells that label."""
    inputs = torch.tensor([-2.0, 1.0, -1.5, 0.5, -0.5, 1.5, -1.0, 2.0, -0.2, 0.2, -0.7, 1.8])
    labels = (inputs > 0).long()[None]
    told = logistic_regression(inputs[None, :, None], labels, [12])
    assert told[0, 0] == labels[0, -1]
    assert logistic_regression(inputs[None, :, None], torch.ones_like(labels), [2])[0, 0] == 1
    with pytest.raises(UsageError, match="Position 1 has no example"):
        logistic_regression(inputs[None, :, None], labels, [1, 2])


@pytest.mark.parametrize(
    ("seen", "unseen", "expected"),
    [
        ([0.2, 0.2], [0.2, 0.2], "fail"),
        ([0.9, 0.92], [0.2, 0.2], "memorise"),
        ([0.2, 0.8], [0.2, 0.25], "identify"),
        ([0.9, 0.99], [0.2, 0.2], "memorise"),
        ([0.2, 0.8], [0.2, 0.31], "learn"),
        ([0.9, 0.9], [0.2, 0.7], "learn"),
        ([0.29, 0.29], [0.2, 0.29], "fail"),
    ],
)
def test_phases(seen: list[float], unseen: list[float], expected: str) -> None:
    """Oracle: the table of phases, with 10 points as what counts."""
    assert phase(seen, unseen, classes=5) == expected


def test_plateaus() -> None:
    """Oracle: by hand: 10 % below log 5 is 1.4485."""
    steps = [0, 10, 20, 30]
    assert plateau_left(steps, [1.61, 1.4486, 1.4484, 1.7], 5) == 20
    assert plateau_left(steps, [1.61, 1.6, 1.6, 1.5], 5) is None
    assert plateau_left(steps, [math.log(2)] * 3 + [0.6], 2) == 30


@settings(deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=30), st.integers(1, 10))
def test_smoothing(losses: list[float], width: int) -> None:
    """Oracle: means of slices."""
    expected = [np.mean(losses[max(0, i + 1 - width) : i + 1]) for i in range(len(losses))]
    assert np.allclose(smoothed(losses, width), expected)


def test_what_is_right() -> None:
    """Oracle: by hand."""
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]])
    assert right_by_position(scores, torch.tensor([[1, 1, 1]])).tolist() == [[True, False, True]]
