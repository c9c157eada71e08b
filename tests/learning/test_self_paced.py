"""One round of self-paced machines: the objective, limits of the age, what stays from round to round."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.paced_state import SelfPaced, annotated
from selfstudy.learning.projection import projection
from selfstudy.learning.self_paced import (
    importance_of,
    learn,
    machine_classifier,
    objective,
    paced,
    ranked,
    scores_of,
    settled,
    solved,
)
from selfstudy.learning.weighted_svm import SvmLoss, weighted_svm
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.signals.self_paced import RegulariserName

from .paced_points import CLASSES, points, start

REGULARISERS: tuple[RegulariserName, ...] = ("linear", "hard", "logarithmic")
LOSSES: tuple[SvmLoss, ...] = ("hinge", "squared-hinge")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_the_objective_never_rises(loss: SvmLoss, regulariser: RegulariserName) -> None:
    """Oracle: each part is minimised exactly with the sets as they are, machines to a tolerance of 1e-4."""
    for seed in range(2):
        inputs, truth = points(spread=0.9, seed=seed)
        plan = SelfPaced(loss=loss, regulariser=regulariser, growth=1.0, kept=0.0, age=0.8, alternations=4)
        state = start(truth, plan)
        state = solved(state, inputs, plan, importance_of(state))
        state = ranked(state, inputs, plan)
        assert state.high.sum() > 20
        importance = importance_of(state)
        values = [objective(state, inputs, plan, importance)]
        for _ in range(4):
            state = paced(state, inputs, plan, importance)
            values.append(objective(state, inputs, plan, importance))
            state = solved(state, inputs, plan, importance)
            values.append(objective(state, inputs, plan, importance))
        for earlier, later in itertools.pairwise(values):
            assert later <= earlier + 1e-4 * (1 + abs(earlier)), (seed, values)
        assert values[-1] < values[0]


def test_an_infinite_age_is_self_training() -> None:
    """Oracle: machines of A and H with weights of 1, of each positive as many as all negatives."""
    inputs, truth = points()
    plan = SelfPaced(age=1e9, growth=1.0, alternations=1)
    found = learn(start(truth, plan), inputs, plan).state
    assert (found.weights[found.high] > 1 - 1e-6).all()
    held = found.held
    at = held != UNKNOWN
    signs = torch.where(held[at, None] == torch.arange(3), 1, -1)
    counts = held[at].bincount(minlength=3)
    weights = torch.where(signs > 0, (at.sum() - counts) / counts, 1.0)
    wanted = weighted_svm(inputs[at], signs, weights, loss="squared-hinge")
    assert found.machines is not None
    assert torch.allclose(found.machines.weights, wanted.weights, atol=1e-3)


def test_an_age_of_nothing_leaves_supervised_machines() -> None:
    """Oracle: machines of A alone, positives weighted by the counts of A and H, which the round goes by."""
    inputs, truth = points(spread=0.9)
    plan = SelfPaced(age=1e-9, pace=0.0, kept=0.0, growth=1.0)
    state = start(truth, plan)
    found = learn(state, inputs, plan).state
    chosen = ranked(solved(state, inputs, plan, importance_of(state)), inputs, plan)
    alone = solved(state, inputs, plan, importance_of(chosen))
    # What has no loss at all counts at any age, and pulls at no machine.
    assert found.high.any() and ((found.weights == 0) | (found.weights == 1)).all()
    assert found.machines is not None and alone.machines is not None
    assert torch.allclose(found.machines.weights, alone.machines.weights, atol=1e-2)


def test_some_count_where_the_age_lets_none() -> None:
    """Oracle: `kept` by hand: one per cent of a class's items, at least one, those of the least loss."""
    inputs, truth = points(spread=0.9)
    plan = SelfPaced(age=1e-9, pace=0.0, kept=0.2, growth=1.0, alternations=1, loss="hinge")
    state = start(truth, plan)
    state = ranked(solved(state, inputs, plan, importance_of(state)), inputs, plan)
    # Machines that are never sure: no positive is without a loss.
    assert state.machines is not None
    timid = state.machines._replace(weights=state.machines.weights / 10, bias=state.machines.bias / 10)
    found = paced(replace(state, machines=timid), inputs, plan, importance_of(state))
    for label in range(3):
        own = (found.pseudo == label).nonzero()[:, 0]
        count = found.weights[own, label] > 0
        assert int(count.sum()) == max(1, round(0.2 * len(own)))
        scores = scores_of(found, inputs[own])[:, label]
        assert scores[count].min() >= scores[~count].max()


def test_positives_weigh_as_much_as_negatives() -> None:
    """Oracle: the sums of the weights of both signs, in each machine."""
    _, truth = points()
    plan = SelfPaced()
    state = start(truth[:50], plan, labelled=7)  # 3, 2 and 2 of a class
    importance = importance_of(state)[:7]
    positive = state.labels[:7, None] == torch.arange(3)
    assert torch.allclose((importance * positive).sum(0), (importance * ~positive).sum(0))


def test_high_confidence_grows_and_leaves_out_what_people_refused() -> None:
    """Oracle: the quota of each round by hand; refused, unsure and annotated items are never in H."""
    inputs, truth = points(count=300)
    plan = SelfPaced(growth=0.1, alternations=1)
    state = start(truth, plan)
    state = replace(state, refused=state.refused.index_fill(0, torch.arange(20, 30), 0))
    state = replace(state, unsure=state.unsure.index_fill(0, torch.arange(30, 40), True))
    for number in range(1, 4):
        state = learn(state, inputs, plan).state
        assert 0 < int(state.pseudo[state.high].bincount().max()) <= round(0.1 * number * 291 / 3)
        assert not state.high[:9].any() and not state.high[20:40].any()


def test_a_pseudo_label_may_be_dropped() -> None:
    """Oracle: an item of H that is annotated otherwise, and one whose score falls below 0."""
    inputs, truth = points()
    plan = SelfPaced(growth=1.0)
    state = learn(start(truth, plan), inputs, plan).state
    place = int(state.high.nonzero()[0])
    other = (state.pseudo[place] + 1) % 3
    state = annotated(state, torch.tensor([place]), other[None], CLASSES, plan)
    assert not state.high[place] and state.held[place] == other
    moved = inputs.clone()
    gone = int(state.high.nonzero()[0])
    moved[gone] = -moved[gone] * 3
    again = learn(state, moved, plan).state
    assert not again.high[gone] or again.pseudo[gone] != state.pseudo[gone]


def test_cumulative_labels_stay() -> None:
    """Oracle: pseudo-labels of an earlier round, whatever the machines say now; full weights."""
    inputs, truth = points(spread=1.0)
    plan = SelfPaced(growth=0.2)
    first = learn(start(truth, plan), inputs, plan, pseudo="cumulative").state
    second = learn(first, inputs, plan, pseudo="cumulative").state
    assert int(first.high.sum()) == round(0.2 * 81) and int(second.high.sum()) == round(0.4 * 81)
    assert torch.equal(second.pseudo[first.high], first.pseudo[first.high])
    assert (second.weights[second.high] == 1).all()


def test_ages_rise_with_accuracy_and_then_stay() -> None:
    """Oracle: lambda + alpha eta, eta 1 for classes that are told apart; after tau rounds the same."""
    inputs, truth = points(spread=0.01)
    plan = SelfPaced(penalty=2.0, age=0.2, pace=0.08, aging=2)
    state = start(truth, plan)
    for wanted in (0.4 + 0.16, 0.4 + 0.32, 0.4 + 0.32):
        state = learn(state, inputs, plan).state
        assert torch.allclose(state.ages, torch.full((3,), wanted, dtype=torch.float64))


def test_every_solution_is_counted() -> None:
    """Oracle: one solution of A, then one of A and H in each alternation."""
    inputs, truth = points()
    plan, seen = SelfPaced(growth=0.3, alternations=2), list[int]()
    state = learn(start(truth, plan), inputs, plan, charge=seen.append).state
    trained = int(((state.annotated | state.high) & (state.weights > 0).any(1)).sum())
    assert seen[0] == 9 and len(seen) == 3 and seen[2] == trained


def test_the_classifier_says_what_the_machines_say() -> None:
    """Oracle: the machines' scores of projected features; probabilities add up, and the highest wins."""
    features, truth = points()
    plan, seen = SelfPaced(), projection(features * 7 + 3, 3)
    state = learn(start(truth, plan), seen(features * 7 + 3), plan).state
    model = machine_classifier(FlatEncoder(width=4), seen, state)
    raw = (features * 7 + 3).float()
    assert torch.allclose(model.head.margins(raw).double(), scores_of(state, seen(raw)), atol=1e-3)
    found = model.scores_of(raw)
    assert torch.allclose(found.sum(1), torch.ones(90), atol=1e-5)
    assert torch.equal(found.argmax(1), model.head.margins(raw).argmax(1))
    assert (found.argmax(1) == truth).float().mean() > 0.9


def test_nothing_changes_is_noticed() -> None:
    """Oracle: the same state; one with another pseudo-label."""
    inputs, truth = points()
    plan = SelfPaced()
    state = learn(start(truth, plan), inputs, plan).state
    assert settled(state, state, inputs)
    other = state.pseudo.clone()
    other[int(state.high.nonzero()[0])] = UNKNOWN
    assert not settled(state, replace(state, pseudo=other), inputs)
