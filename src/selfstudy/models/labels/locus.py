"""The locus of observed labels: which labels their Frechet means can be, and which to observe next.

A label y can be reached from labels l_1 .. l_K where some p >= 0, sum p = 1, has
sum_i p_i (d(y, l_i)^2 - d(z, l_i)^2) <= 0 for all z. On trees that is the union of the paths between the l_i,
on a line all between the outermost, on a complete graph the l_i alone; elsewhere a linear program for each y
tells.
"""

from __future__ import annotations

import itertools
import logging
from typing import TypeGuard

import numpy as np

from selfstudy.models.labels.spaces import AT_ONCE, AnySpace, EmbeddedLabels, LabelMatrix, LabelTree

PROGRAMS = 400  # labels for which linear programs are solved
GREEDY = 16  # labels that are tried as the next one
TOGETHER = 100_000  # numbers of linear programs that are solved as one
SLACK = 1e-7  # of the mean cost: so far from 0 a margin counts as 0

_log = logging.getLogger(__name__)


def reachable(space: AnySpace, observed: np.ndarray, exponent: int = 2) -> np.ndarray | None:
    """Return which labels [N] can be reached; None with more than `PROGRAMS` labels and no closed form."""
    if isinstance(space, LabelTree):
        return tree_locus(space, observed)
    if is_line(space):
        return line_locus(space.vectors[:, 0], observed)
    if isinstance(space, LabelMatrix) and is_complete(space.matrix):
        return np.isin(np.arange(len(space.names)), observed)
    if len(space.names) > PROGRAMS:
        return None
    return program_locus(space.distances(observed) ** exponent, observed)


def is_line(space: AnySpace) -> TypeGuard[EmbeddedLabels]:
    """Return whether labels are numbers, and their distance the difference."""
    return isinstance(space, EmbeddedLabels) and space.between == "euclidean" and space.vectors.shape[1] == 1


def is_complete(matrix: np.ndarray) -> bool:
    """Return whether all labels are equally far from each other."""
    others = matrix[~np.eye(len(matrix), dtype=bool)]
    return bool(len(others) and others.min() > 0 and np.allclose(others, others[0], rtol=1e-9))


def line_locus(numbers: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the locus [N] of numbers [N] on a line: all between the outermost observed ones."""
    return (numbers >= numbers[observed].min()) & (numbers <= numbers[observed].max())


def tree_locus(space: LabelTree, observed: np.ndarray) -> np.ndarray:
    """Return the locus [N] on a tree: the nodes of all paths between observed ones."""
    below = np.zeros(len(space.names), dtype=np.int64)  # observed nodes at or below each
    below[observed] = 1
    for level in space.levels[:0:-1]:
        np.add.at(below, space.parents[level], below[level])
    found = np.isin(np.arange(len(space.names)), observed)
    # An edge is on a path where there are observed nodes on both of its sides.
    inside = (below > 0) & (below < len(observed)) & (space.parents >= 0)
    found[inside] = found[space.parents[inside]] = True
    return found


def grid_locus(shape: tuple[int, int], observed: np.ndarray) -> np.ndarray:
    """Return the locus [rows * columns] on a grid of streets: the rectangle that observed labels span.

    Two opposite corners reach all of it, but only by ties: on each diagonal between them costs are equal.

    Args:
        shape: rows and columns; label r * columns + c is at row r and column c.
        observed: [K].
    """
    found = np.ones(shape[0] * shape[1], dtype=bool)
    for places in np.unravel_index(np.arange(len(found)), shape):
        found &= (places >= places[observed].min()) & (places <= places[observed].max())
    return found


def program_locus(costs: np.ndarray, observed: np.ndarray, *, unique: bool = False) -> np.ndarray:
    """Return the locus [N] by a linear program for each label that is not observed.

    Args:
        costs: d(l_i, y)^exponent, [K, N].
        observed: [K].
        unique: only labels that some p leads to without a tie.
    """
    found = np.isin(np.arange(costs.shape[1]), observed)
    tried = np.arange(len(found)) if unique else np.flatnonzero(~found)
    found[tried] = margins(costs, tried) > (SLACK if unique else -SLACK)
    return found


def margins(costs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return by how much each of `labels` can be cheaper than all others, in mean costs; below 0 where never.

    One linear program, max m with p >= 0, sum p = 1 and sum_i p_i (c_iy - c_iz) + m <= 0 for all z, for each
    label y. They share nothing, so that several are solved as one.

    Args:
        costs: d(l_i, y)^exponent, [K, N].
        labels: [n].
    """
    count, others = len(costs), costs.shape[1] - 1
    size = max(1, TOGETHER // ((count + 1) * max(1, others)))
    parts = [labels[start : start + size] for start in range(0, len(labels), size)]
    return (
        np.concatenate([_solved(costs, part) for part in parts] or [np.empty(0)])
        if others
        else np.full(len(labels), np.inf)
    )


def _solved(costs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from scipy.optimize import linprog
    from scipy.sparse import block_diag

    scaled = (costs / (costs.mean() or 1.0)).T  # [N, K]
    over = [
        np.pad(scaled[label] - np.delete(scaled, label, axis=0), ((0, 0), (0, 1)), constant_values=1)
        for label in labels
    ]
    simplex = np.append(np.ones(len(costs)), 0.0)[None]
    solved = linprog(
        np.tile(simplex[0] - 1, len(labels)),
        A_ub=block_diag(over, format="csr"),
        b_ub=np.zeros(len(over) * len(over[0])),
        A_eq=block_diag([simplex] * len(labels), format="csr"),
        b_eq=np.ones(len(labels)),
        bounds=([(0, None)] * len(costs) + [(None, None)]) * len(labels),
        method="highs",
    )
    return solved.x[len(costs) :: len(costs) + 1]


def pairwise_locus(space: AnySpace, observed: np.ndarray, exponent: int = 2) -> np.ndarray:
    """Return which labels [N] two of the observed ones reach already; all of the locus on trees."""
    costs = space.distances(observed) ** exponent
    found = np.isin(np.arange(len(space.names)), observed)
    for pair in itertools.combinations(range(len(observed)), 2):
        found |= program_locus(costs[list(pair)], observed[list(pair)])
    return found


def next_classes(space: AnySpace, observed: np.ndarray, count: int = 1, exponent: int = 2) -> list[int]:
    """Return the labels to observe next, in order, at most `count`: fewer where all can be reached then.

    On a tree or a line it is the label farthest from the locus, which is best there. Elsewhere it is the one
    with which most can be reached, by linear programs, tried among the `GREEDY` farthest from the observed
    ones; with more than `PROGRAMS` labels it is the farthest itself.
    """
    known = np.asarray(observed)
    chosen: list[int] = []
    while len(chosen) < count:
        step = _next(space, known, exponent)
        if step is None:
            break
        chosen.append(step)
        known = np.append(known, step)
    return chosen


def _next(space: AnySpace, observed: np.ndarray, exponent: int) -> int | None:
    locus = reachable(space, observed, exponent)
    if locus is None:
        _log.warning(
            "The label to observe next is the one farthest from the observed ones: with more than %d labels "
            "that are no tree and no line, what each would make reachable is not found out.",
            PROGRAMS,
        )
        return _farthest(space, observed)
    if locus.all():
        return None
    if isinstance(space, LabelTree):
        return int(distance_to(space, locus).argmax())
    if is_line(space):
        numbers = space.vectors[:, 0]
        inside = numbers[locus]
        return int(np.maximum(inside.min() - numbers, numbers - inside.max()).argmax())
    tried = np.flatnonzero(~locus)
    if len(tried) > GREEDY:
        far = space.distances(observed).min(0)
        tried = np.sort(tried[np.argsort(-far[tried], kind="stable")[:GREEDY]])
    covered = [reachable(space, np.append(observed, label), exponent).sum() for label in tried]  # type: ignore[union-attr]
    return int(tried[np.argmax(covered)])


def distance_to(tree: LabelTree, marked: np.ndarray) -> np.ndarray:
    """Return the distance [N] of each node of a tree to the nearest marked one [N]."""
    found = np.where(marked, 0.0, np.inf)
    for level in tree.levels[:0:-1]:
        np.minimum.at(found, tree.parents[level], found[level] + tree.lengths[level])
    for level in tree.levels[1:]:
        found[level] = np.minimum(found[level], found[tree.parents[level]] + tree.lengths[level])
    return found


def _farthest(space: AnySpace, observed: np.ndarray) -> int | None:
    """Return the label farthest from all observed ones; None where none is apart from them."""
    far = np.full(len(space.names), np.inf)
    size = max(1, AT_ONCE // len(space.names))
    for start in range(0, len(observed), size):
        far = np.minimum(far, space.distances(observed[start : start + size]).min(0))
    return int(far.argmax()) if far.max() > 0 else None
