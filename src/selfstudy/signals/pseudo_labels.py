"""Selectors of pseudo-labels, as a table: HAST's vote of neighbours, and what it is compared with.

Schröder and Heyer 2024, "Self-Training for Sample-Efficient Active Learning for Text Classification with
Pre-Trained Language Models", arXiv 2406.09206.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from selfstudy.signals.compared_selectors import actune, nest, ust, verips
from selfstudy.signals.evidence import (
    CHOSEN,
    NONE_PASSED,
    ONE_CLASS,
    Evidence,
    PseudoLabels,
    Selection,
    SelectorName,
)
from selfstudy.signals.neighbours import nearest_others

WEIGHT = 10.0  # alpha lies between 2.69 and this


def select(evidence: Evidence, settings: PseudoLabels) -> tuple[Selection, str]:
    """Return the pseudo-labels and how it ended: "chosen", "none_passed" or "one_class".

    Where the classifier tells the same class everywhere its labels could teach nothing, and none is taken.
    """
    if settings.selector == "none":
        return no_labels(evidence, settings), CHOSEN
    if len(np.unique(evidence.told)) < 2:
        return no_labels(evidence, settings), ONE_CLASS
    found = SELECTORS[settings.selector](evidence, settings)
    return found, CHOSEN if len(found.places) else NONE_PASSED


def hast(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return the items that are told like most of their neighbours, and likely to be of that class."""
    told = evidence.told
    elected, share = neighbour_vote(evidence, settings)
    likely = evidence.probabilities.max(1).values.numpy()
    passed = (elected == told) & (likely > settings.confidence) & (share > settings.vote)
    places = np.flatnonzero(passed)
    labels = told[places]
    weights = settings.weight * class_weights(labels, evidence.probabilities.shape[1], settings.balanced)
    return Selection(places, labels, weights, np.ones(len(evidence.labels)))


def neighbour_vote(evidence: Evidence, settings: PseudoLabels) -> tuple[np.ndarray, np.ndarray]:
    """Return the class [S] that most neighbours of an item are told to have, and their share [S].

    Neighbours are found by the cosine among different inputs, so that a copy does not vote for itself. Of
    classes with equally many votes it is the first.
    """
    told, classes = evidence.told, evidence.probabilities.shape[1]
    first, group = np.unique(evidence.groups, return_inverse=True)
    count = settings.neighbours - 1
    if len(first) <= count:
        count = len(first) - 1
        warnings.warn(
            f"There are {len(first)} different unlabelled items, too few for {settings.neighbours - 1} "
            f"neighbours of each: {count} vote.",
            stacklevel=2,
        )
    if not count:
        return told, np.zeros(len(told))
    near = nearest_others(evidence.features[first], count, space="cosine", backend=settings.backend).places
    votes = torch.zeros(len(first), classes)
    votes.scatter_add_(1, torch.from_numpy(told[first])[near], torch.ones(near.shape))
    most = votes.max(1)
    return most.indices.numpy()[group], (most.values.double() / count).numpy()[group]


def class_weights(labels: np.ndarray, classes: int, balanced: bool = True) -> np.ndarray:
    """Return alpha of each pseudo-label: 10 sigmoid((m - h_c) / h_c), m the mean count h rounded down.

    It is 5 where classes are balanced, more for rare ones; without balancing it is 1.

    Args:
        labels: [K], classes.
        classes: C.
        balanced: whether rare classes weigh more.
    """
    if not balanced:
        return np.ones(len(labels))
    counts = np.bincount(labels, minlength=classes)
    missing = np.where(counts > 0, (len(labels) // classes - counts) / np.maximum(counts, 1), 1.0)
    return (WEIGHT / (1 + np.exp(-missing)))[labels]


def threshold(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return all items whose most likely class is above `sure`, with the weight of a label."""
    places = np.flatnonzero(evidence.probabilities.max(1).values.numpy() > settings.sure)
    return Selection(places, evidence.told[places], np.ones(len(places)), np.ones(len(evidence.labels)))


def no_labels(evidence: Evidence, settings: PseudoLabels) -> Selection:
    """Return no item."""
    nothing = np.empty(0, dtype=np.int64)
    return Selection(nothing, nothing, np.empty(0), np.ones(len(evidence.labels)))


SELECTORS: dict[SelectorName, Callable[[Evidence, PseudoLabels], Selection]] = {
    "hast": hast,
    "ust": ust,
    "actune": actune,
    "verips": verips,
    "nest": nest,
    "threshold": threshold,
    "none": no_labels,
}
