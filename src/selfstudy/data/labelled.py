"""Which items are labelled: as many of each class."""

from __future__ import annotations

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.image_sets import UNKNOWN


def balanced_places(
    labels: np.ndarray, count: int, draw: int, name: str, *, per_class: int = 1
) -> np.ndarray:
    """Return the places of `count` labelled items, of each class as many as of the others or one more.

    Args:
        labels: [N], `UNKNOWN` where there is none.
        count: how many; classes that have too few give all they have, and others more.
        draw: names the choice.
        name: of the set, for the choice and the error.
        per_class: fewest that a class must have.

    Raises:
        UsageError: more than there are, or fewer than `per_class` a class.
    """
    known = np.flatnonzero(labels != UNKNOWN)
    classes = np.unique(labels[known])
    least = per_class * len(classes)
    if not least <= count <= len(known):
        raise UsageError(
            f"labels={count} of {name!r} must be from {least}, {per_class} a class, to {len(known)}, all "
            "that have one."
        )
    order = generator("labelled", name, draw).permutation(known)
    turn = np.empty(len(order), dtype=np.int64)  # the n-th of each class comes before the n+1-th of any
    for label in classes:
        of_class = labels[order] == label
        turn[of_class] = np.arange(of_class.sum())
    return np.sort(order[np.lexsort((labels[order], turn))[:count]])


def balanced_draw(
    labels: np.ndarray, weights: np.ndarray, count: int, had: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the places of `count` items, drawn so that all classes come out as even as can be.

    Within a class they are drawn without replacement, each next one with a probability in proportion to its
    weight (Efraimidis and Spirakis 2006); items of weight 0 are never drawn.

    Args:
        labels: [N], classes.
        weights: [N], at least 0.
        count: how many; fewer where there are not so many.
        had: [C], how many there are of each class already, which count too.
        rng: of the draw.
    """
    with np.errstate(divide="ignore"):
        late = np.where(weights > 0, rng.exponential(size=len(labels)) / weights, np.inf)
    order = np.argsort(late, kind="stable")[: int((weights > 0).sum())]
    turn = np.empty(len(order), dtype=np.int64)  # how many of its class there are before it
    for label in np.unique(labels):
        of_class = labels[order] == label
        turn[of_class] = had[label] + np.arange(of_class.sum())
    return order[np.lexsort((labels[order], turn))[:count]]
