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
