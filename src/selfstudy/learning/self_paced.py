"""One round of self-paced machines: classifiers, pseudo-labels and weights, brought up to each other in turn.

Lin et al. 2017, "Active Self-Paced Learning for Cost-Effective and Progressive Face Identification",
arXiv 1701.03555. Each part is found exactly with the others as they are, so that the objective never rises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.paced_state import Paced, SelfPaced, full_weights
from selfstudy.learning.projection import Projection
from selfstudy.learning.weighted_svm import Machines, svm_losses, svm_objective, weighted_svm
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import OneVersusAllHead
from selfstudy.signals.self_paced import REGULARISERS, aged, high_confidence, most_certain, pseudo_labels

Pseudo = Literal["curriculum", "cumulative", "none"]
Charge = Callable[[int], object]
"""Called before each solution of the machines, with the number of items."""


class Learnt(NamedTuple):
    """What a round gives."""

    state: Paced
    objectives: list[float]
    """After each alternation; it never rises, but by what `SelfPaced.kept` adds."""


def learn(
    state: Paced,
    inputs: torch.Tensor,
    settings: SelfPaced,
    *,
    pseudo: Pseudo = "curriculum",
    charge: Charge = lambda items: None,
) -> Learnt:
    """Return the state after one round.

    Args:
        state: before it.
        inputs: features, centred and scaled, [N, e].
        settings: the pace.
        pseudo: "curriculum" is the method. "cumulative" takes the most certain items, by the highest score,
            for good and with full weight. "none" learns from annotated items alone.
        charge: counts the items.
    """
    state = solved(state, inputs, settings, importance_of(state), charge)
    objectives: list[float] = []
    if pseudo == "curriculum":
        state = ranked(state, inputs, settings)
        importance = importance_of(state)
        for _ in range(settings.alternations):
            state = paced(state, inputs, settings, importance)
            state = solved(state, inputs, settings, importance, charge)
            objectives.append(objective(state, inputs, settings, importance))
    elif pseudo == "cumulative":
        state = accumulated(state, inputs, settings)
        state = solved(state, inputs, settings, importance_of(state), charge)
    if state.rounds < settings.aging:
        ages = aged(state.ages, _right(state, inputs), settings.pace * settings.penalty)
        state = replace(state, ages=ages)
    return Learnt(replace(state, rounds=state.rounds + 1), objectives)


def scores_of(state: Paced, inputs: torch.Tensor) -> torch.Tensor:
    """Return the scores [M, C] of features [M, e]."""
    assert state.machines is not None
    return state.machines.scores(inputs)


def settled(before: Paced, after: Paced, inputs: torch.Tensor) -> bool:
    """Return whether a round has changed neither pseudo-labels nor what the machines say of [N, e]."""
    if not torch.equal(before.pseudo, after.pseudo):
        return False
    return torch.equal(scores_of(before, inputs).argmax(1), scores_of(after, inputs).argmax(1))


def machine_classifier(encoder: Any, seen: Projection, state: Paced) -> FeatureClassifier:
    """Return the machines of `state`, trained in the projection `seen`, as a classifier of items."""
    assert state.machines is not None
    weights, bias = seen.undone(*state.machines)
    head = OneVersusAllHead(width=weights.shape[1], classes=len(weights))
    with torch.no_grad():
        head.linear.weight.copy_(weights)
        head.linear.bias.copy_(bias)
    # A class that was named after the last round has no machine yet.
    return FeatureClassifier(encoder, head, state.classes[: len(weights)]).eval()


def solved(
    state: Paced,
    inputs: torch.Tensor,
    settings: SelfPaced,
    importance: torch.Tensor,
    charge: Charge = lambda items: None,
) -> Paced:
    """Find the machines, with pseudo-labels and weights as they are."""
    at = ((state.annotated | state.high) & (state.weights > 0).any(1)).nonzero()[:, 0]
    charge(len(at))
    losses = settings.penalty * importance[at] * state.weights[at]
    machines: Machines = weighted_svm(inputs[at], _signs(state)[at], losses, loss=settings.loss)
    return replace(state, machines=machines)


def ranked(state: Paced, inputs: torch.Tensor, settings: SelfPaced) -> Paced:
    """Rank and select H: as many of each class; its items count fully until their weights are found."""
    scores = scores_of(state, inputs)
    quota = max(1, round(_grown(state, settings) / len(state.classes)))
    places = high_confidence(scores, state.allowed, quota)
    high, pseudo = torch.zeros_like(state.high), torch.full_like(state.pseudo, UNKNOWN)
    weights = full_weights(state.labels, len(state.classes))
    high[places], pseudo[places], weights[places] = True, scores[places].argmax(1), 1.0
    return replace(state, high=high, pseudo=pseudo, weights=weights)


def paced(state: Paced, inputs: torch.Tensor, settings: SelfPaced, importance: torch.Tensor) -> Paced:
    """Find pseudo-labels, then weights, of H with the machines as they are."""
    at = state.high.nonzero()[:, 0]
    scores, pseudo, weights = scores_of(state, inputs[at]), state.pseudo.clone(), state.weights.clone()
    ones = torch.ones_like(scores)
    rise = svm_losses(scores, ones, settings.loss) - svm_losses(scores, -ones, settings.loss)
    labels = pseudo_labels(scores, importance[at] * weights[at] * rise)
    losses = settings.penalty * svm_losses(scores, _one_hot(labels, len(state.classes)), settings.loss)
    own = REGULARISERS[settings.regulariser].weights(losses, state.ages)
    for label in labels.unique().tolist() if settings.kept else ():
        same = (labels == label).nonzero()[:, 0]
        if label != UNKNOWN and not own[same, label].any():
            least = losses[same, label].argsort(stable=True)
            own[same[least[: max(1, round(settings.kept * len(same)))]], label] = 1.0
    pseudo[at], weights[at] = labels, own
    return replace(state, pseudo=pseudo, weights=weights)


def accumulated(state: Paced, inputs: torch.Tensor, settings: SelfPaced) -> Paced:
    """Add the most certain items to those of earlier rounds, which keep their labels and count fully."""
    scores = scores_of(state, inputs)
    more = round(_grown(state, settings)) - int(state.high.sum())
    places = most_certain(scores, state.allowed & ~state.high, max(0, more))
    high, pseudo, weights = state.high.clone(), state.pseudo.clone(), state.weights.clone()
    high[places], pseudo[places] = True, scores[places].argmax(1)
    weights[high] = 1.0
    return replace(state, high=high, pseudo=pseudo, weights=weights)


def objective(state: Paced, inputs: torch.Tensor, settings: SelfPaced, importance: torch.Tensor) -> float:
    """Return the sum over classes of 1/2 |w|^2 + C v loss + g(v; lambda), items counted by `importance`."""
    assert state.machines is not None
    at, high = state.annotated | state.high, state.high
    losses = settings.penalty * importance[at] * state.weights[at]
    machines = svm_objective(state.machines, inputs[at], _signs(state)[at], losses, settings.loss)
    penalty = REGULARISERS[settings.regulariser].penalty(state.weights[high], state.ages)
    return float(machines.sum() + (importance[high] * penalty).sum())


def importance_of(state: Paced) -> torch.Tensor:
    """Return by how much each item counts in each machine, [N, C]: a class's own as much as all others.

    It is that of labels as they are; within a round it stays, so that the objective is one.
    """
    held = state.held
    own = torch.bincount(held[held != UNKNOWN], minlength=len(state.classes))
    ratio = (own.sum() - own) / own.clamp(min=1)
    return torch.where(_one_hot(held, len(state.classes)) > 0, ratio.double(), 1.0)


def _grown(state: Paced, settings: SelfPaced) -> float:
    """Return how many items may have a pseudo-label in this round."""
    return min(1.0, settings.growth * (state.rounds + 1)) * int((~state.annotated).sum())


def _one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return 1 for the class of each label [N] and -1 for the others: [N, C]."""
    return torch.where(labels[:, None] == torch.arange(classes), 1.0, -1.0).double()


def _signs(state: Paced) -> torch.Tensor:
    return _one_hot(state.held, len(state.classes))


def _right(state: Paced, inputs: torch.Tensor) -> torch.Tensor:
    """Return eta: the share of A and H that each machine has on the right side: [C]."""
    at = state.annotated | state.high
    return (scores_of(state, inputs[at]) * _signs(state)[at] > 0).double().mean(0)
