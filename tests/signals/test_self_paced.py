"""Self-paced pieces: closed forms against searches, exact pseudo-labels, who is chosen and asked."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.signals.self_paced import (
    REGULARISERS,
    RegulariserName,
    aged,
    high_confidence,
    most_certain,
    most_doubtful,
    pseudo_labels,
)

NAMES: tuple[RegulariserName, ...] = ("linear", "hard", "logarithmic")
positive = st.floats(0.01, 5)


@given(st.sampled_from(NAMES), st.floats(0, 5), positive)
def test_weights_minimise_loss_and_penalty(name: RegulariserName, loss: float, age: float) -> None:
    """Oracle: a grid search of C v l + g(v; lambda) over [0, 1]."""
    grid = torch.linspace(0, 1, 10001, dtype=torch.float64)
    ages = torch.tensor(age, dtype=torch.float64)
    found = REGULARISERS[name].weights(torch.tensor(loss, dtype=torch.float64), ages)
    values = loss * grid + REGULARISERS[name].penalty(grid, ages)
    best = loss * found + REGULARISERS[name].penalty(found, ages)
    assert 0 <= found <= 1
    assert best <= values.min() + 1e-9
    if name != "hard":
        assert abs(float(found - grid[values.argmin()])) < 1e-3


@given(st.sampled_from(NAMES), st.floats(0, 5), st.floats(0, 5), positive, positive)
def test_weights_fall_with_the_loss_and_rise_with_the_age(
    name: RegulariserName, first: float, second: float, young: float, old: float
) -> None:
    """Oracle: the order of the two losses, and of the two ages."""
    weights = REGULARISERS[name].weights
    low, high = sorted((first, second))
    losses = torch.tensor([low, high], dtype=torch.float64)
    found = weights(losses, torch.tensor(young, dtype=torch.float64))
    assert found[0] >= found[1] - 1e-12
    ages = torch.tensor(sorted((young, old)), dtype=torch.float64)
    by_age = weights(torch.tensor(first, dtype=torch.float64), ages)
    assert by_age[0] <= by_age[1] + 1e-12


def test_linear_and_hard_weights_by_hand() -> None:
    """Oracle: max(0, 1 - l / lambda), and 1 below lambda."""
    losses, age = torch.tensor([0.0, 0.5, 2.0, 3.0]), torch.tensor(2.0)
    assert REGULARISERS["linear"].weights(losses, age).tolist() == [1.0, 0.75, 0.0, 0.0]
    assert REGULARISERS["hard"].weights(losses, age).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_ages_follow_what_is_right() -> None:
    """Oracle: lambda + alpha eta by hand."""
    found = aged(torch.tensor([0.2, 0.3]), torch.tensor([1.0, 0.5]), pace=0.08)
    assert torch.allclose(found, torch.tensor([0.28, 0.34]))


@settings(max_examples=200)
@given(st.integers(1, 5), st.integers(0, 10**6), st.booleans())
def test_pseudo_labels_are_the_best_of_all(classes: int, seed: int, squared: bool) -> None:
    """Oracle: brute force over the m + 1 label vectors with at most one positive class."""
    stream = torch.Generator().manual_seed(seed)
    scores = torch.randn(8, classes, generator=stream, dtype=torch.float64) * 1.5
    weights = torch.rand(8, classes, generator=stream, dtype=torch.float64)

    def loss(sign: float) -> torch.Tensor:
        hinge = (1 - sign * scores).clamp(min=0)
        return weights * (hinge**2 if squared else hinge)

    found = pseudo_labels(scores, loss(1) - loss(-1))
    for item, label in itertools.product(range(8), (UNKNOWN, *range(classes))):
        cost = loss(-1)[item].sum() + (0 if label == UNKNOWN else (loss(1) - loss(-1))[item, label])
        own = int(found[item])
        best = loss(-1)[item].sum() + (0 if own == UNKNOWN else (loss(1) - loss(-1))[item, own])
        assert best <= cost + 1e-12


def test_what_nobody_claims_has_no_pseudo_label() -> None:
    """Oracle: an item of negative scores; one whose weights are all 0, which takes the highest score."""
    scores = torch.tensor([[-0.1, -2.0], [0.3, 0.6]])
    assert pseudo_labels(scores, torch.zeros(2, 2)).tolist() == [UNKNOWN, 1]


def test_equal_weights_take_the_highest_score_up_to_1() -> None:
    """Oracle: l(+1, s) - l(-1, s) = -2 s for |s| <= 1 and -(1 + s) above, so that the highest score wins."""
    scores = torch.tensor([[0.9, 0.8, -1.0], [3.0, 0.9, 2.0]])
    rise = (1 - scores).clamp(min=0) - (1 + scores).clamp(min=0)
    assert torch.allclose(rise, torch.tensor([[-1.8, -1.6, 2.0], [-4.0, -1.8, -3.0]]))
    assert pseudo_labels(scores, rise).tolist() == [0, 0]


SCORES = torch.tensor(
    [
        [0.9, 0.8, -1.0],  # two claim it, closely
        [1.5, 0.2, -1.0],  # two claim it
        [-0.1, -0.5, -0.9],  # none does, nearly
        [-2.0, -0.5, -0.9],  # none does
        [0.4, -1.0, -1.0],  # one does
        [2.0, -1.0, -1.0],  # one does, surely
        [-1.0, 0.1, -1.0],  # one does, hardly
    ]
)
ALL = torch.ones(7, dtype=torch.bool)


def test_high_confidence_is_claimed_by_one_machine() -> None:
    """Oracle: the places by hand; (0.9, 0.8, -1) is never among them."""
    assert high_confidence(SCORES, ALL, 1).tolist() == [5, 6]
    assert high_confidence(SCORES, ALL, 7).tolist() == [4, 5, 6]
    allowed = ALL.clone()
    allowed[5] = False
    assert high_confidence(SCORES, allowed, 1).tolist() == [4, 6]


def test_an_easy_class_does_not_crowd_out_the_others() -> None:
    """Oracle: at most the quota of each class, of items of which 90 % are of the first."""
    scores = torch.full((100, 2), -1.0)
    scores[:90, 0], scores[90:, 1] = torch.linspace(1, 3, 90), torch.linspace(0.1, 0.9, 10)
    chosen = high_confidence(scores, torch.ones(100, dtype=torch.bool), 5)
    assert scores[chosen].argmax(1).bincount().tolist() == [5, 5]
    assert chosen.tolist() == [85, 86, 87, 88, 89, 95, 96, 97, 98, 99]
    assert most_certain(scores, torch.ones(100, dtype=torch.bool), 10).tolist() == list(range(80, 90))


def test_the_most_doubtful_are_asked_first() -> None:
    """Oracle: the order by hand: ambiguous ones by their gap, unclaimed ones, then the least sure."""
    assert most_doubtful(SCORES, ALL, 7).tolist() == [0, 1, 2, 3, 6, 4, 5]
    allowed = ALL.clone()
    allowed[[0, 3]] = False
    assert most_doubtful(SCORES, allowed, 3).tolist() == [1, 2, 6]


@pytest.mark.parametrize("choose", [high_confidence, most_certain, most_doubtful])
def test_nothing_is_chosen_of_nothing(choose: object) -> None:
    """Oracle: an empty set."""
    assert not len(choose(SCORES, ~ALL, 3))  # type: ignore[operator]
