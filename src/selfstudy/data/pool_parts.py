"""The parts of a pool: labelled items, of which some tell when to stop, and unlabelled ones."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.items import Texts, Vectors, first_equal

HELD_FROM = 5  # labels of a class from which some are held out
_log = logging.getLogger(__name__)


class PoolParts(NamedTuple):
    """Places within a pool.

    Attributes:
        fit: [n], labelled items to train on.
        labels: [n], of those.
        held: [H], labelled items that tell when to stop.
        held_labels: [H].
        unlabelled: [M].
    """

    fit: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray
    unlabelled: np.ndarray


def pool_parts(
    items: ImageSet | Texts | Vectors,
    given: np.ndarray,
    *,
    held_out: float,
    rng: np.random.Generator,
    strict: bool = False,
) -> PoolParts:
    """Return the parts of a pool; an unlabelled item that equals a labelled one is in none.

    Args:
        items: N of them.
        given: [N], labels, `UNKNOWN` where there is none.
        held_out: share of the labels of each class that are held out.
        rng: of that draw.
        strict: whether equal items are an error.

    Raises:
        DataError: fewer than two classes have a label, or items are equal and that is an error.
    """
    labelled, unlabelled = np.flatnonzero(given != UNKNOWN), np.flatnonzero(given == UNKNOWN)
    if len(np.unique(given[labelled])) < 2:
        raise DataError(
            f"{items.name!r} has {len(labelled)} labelled items of {len(np.unique(given[labelled]))} "
            "classes; a classifier needs labels of two classes or more."
        )
    first = first_equal(items)
    twice = np.isin(first[unlabelled], first[labelled])
    if twice.any():
        said = f"{int(twice.sum())} unlabelled items of {items.name!r} equal a labelled one"
        if strict:
            raise DataError(f"{said}, the first at place {unlabelled[twice][0]}. Leave them out of the pool.")
        _log.warning("%s and are left out.", said)
    fit, held = held_out_labels(given[labelled], held_out, rng)
    return PoolParts(
        labelled[fit], given[labelled][fit], labelled[held], given[labelled][held], unlabelled[~twice]
    )


def held_out_labels(
    labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of n labelled items are trained on, and which are held out: of each class the same share.

    A class with fewer than `HELD_FROM` keeps all its labels: so few tell nothing about when to stop.

    Args:
        labels: [n].
        share: of each class that is held out.
        rng: of the draw.
    """
    order = rng.permutation(len(labels))
    held = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        held.append(of_class[: round(share * len(of_class)) if len(of_class) >= HELD_FROM else 0])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
