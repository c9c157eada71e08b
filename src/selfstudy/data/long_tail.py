"""Long-tailed samples: each class has fewer inputs than the one before, by one factor."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator


def long_tail_counts(most: int, classes: int, tail: float) -> np.ndarray:
    """Return how many inputs each class has, the most frequent first: most * tail^(c / (C - 1)), cut off.

    >>> long_tail_counts(100, 3, 0.01).tolist()
    [100, 10, 1]

    Args:
        most: of the most frequent class.
        classes: C, at least 2.
        tail: size of the rarest class over that of the most frequent, above 0 and at most 1.
    """
    if classes < 2 or not 0 < tail <= 1:
        raise UsageError(
            f"A long tail of {classes} classes that falls to {tail:g} of the first cannot be made: give at "
            "least two classes, and a tail above 0 and at most 1."
        )
    # Rounded first: 100 * 0.01^(1/2) is 10 and not 9.999...
    return np.floor(np.round(most * tail ** (np.arange(classes) / (classes - 1)), 9)).astype(np.int64)


def long_tail(labels: np.ndarray, tail: float, *, draw: int, total: int = 0) -> np.ndarray:
    """Return the places of a long-tailed sample, in order.

    Which class is frequent and which inputs of it are taken depends on `draw` alone, so that the difficulty
    of classes does not stand for their frequency.

    Args:
        labels: [N], from 0 to C - 1; negative where unknown, which is never taken.
        tail: size of the rarest class over that of the most frequent.
        draw: names the order of the classes and the choice of inputs.
        total: most inputs in all; 0 is as many as the smallest class allows.

    Raises:
        UsageError: the rarest class would be empty.
    """
    sizes = np.bincount(labels[labels >= 0])
    most = int(sizes.min())
    if total:
        sums = range(most + 1)
        most = bisect_right(sums, total, key=lambda n: long_tail_counts(n, len(sizes), tail).sum()) - 1
    counts = long_tail_counts(most, len(sizes), tail)
    if counts[-1] < 1:
        raise UsageError(
            f"With a tail of {tail:g} the most frequent class has {most} inputs and the rarest none. Give a "
            f"tail of at least {1 / max(most, 1):.2g}, or more inputs."
        )
    ranks = generator("long tail", draw).permutation(len(sizes))
    order = generator("long tail", draw, "inputs").permutation(len(labels))
    kept = [order[labels[order] == label][: counts[rank]] for label, rank in enumerate(ranks)]
    return np.sort(np.concatenate(kept))
