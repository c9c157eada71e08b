"""Values of steps from finished search trees, as in ReST-MCTS* (Zhang et al., 2024, arXiv 2406.03816).

The paper's badness r of a step (0 good, 1 bad) enters as a sign, +1 or -1. Feeding it the probability
that a step is *right* turns the method upside down, which is why no r occurs here.

The simple targets depart from the authors' program in one place: a child beside the route that leads to
another right leaf gets no target, where theirs calls it wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from selfstudy.search.tree import Forest

_FAR = np.iinfo(np.int64).max  # the distance of nodes that no right or wrong end leaf gives one


def step_value(previous: float, distance: int, good: bool) -> float:
    """Return the value of a prefix from that of the prefix without its last step.

    v = max(0, v_previous + (1 - v_previous) * sign / distance), so that the good steps of a solution of K
    give 1/K, 2/K, ... 1.

    Args:
        previous: value before the step; 0 before the first.
        distance: a good step: fewest steps to the right answer, this one included (1 for the last). A
            wrong step: the distance that its last good ancestor has.
        good: the step leads to the right answer.

    >>> step_value(0.25, 3, True), step_value(0.25, 3, False)
    (0.5, 0.0)
    """
    return max(0.0, previous + (1.0 - previous) * (1.0 if good else -1.0) / distance)


def hard_targets(
    forest: Forest, tree: int, correct: np.ndarray, mode: str = "full", end_gate: float | None = None
) -> dict[int, float]:
    """Return value targets for the nodes of one finished tree.

    Args:
        forest: finished trees; not changed (its `value` stays what the search made of it).
        tree: which one.
        correct: bool [N], verdict on each node that is an end leaf; other entries are not read. End leaves
            are the leaves that are ended or have a value of `end_gate` or more.
        mode: "full": from the distances to all end leaves. "simple": from one right route of K steps, k/K
            on it and max(0, (d - 1)/K) for children beside it at a parent of depth d; the route to the
            search's answer if that is right, else to the right leaf of the highest value (of equals the
            later). "he": 1 for a node from which some right end leaf was found, 0 if only wrong ones were.
        end_gate: another gate than the one the trees were grown with.

    Returns:
        node -> target in [0, 1], in the order of the nodes. The root and nodes that no end leaf lies
        below have none; a tree without a right end leaf has none at all.

    Raises:
        UsageError: an unknown mode, or verdicts for fewer nodes than the tree has.
    """
    if mode not in _MODES:
        raise UsageError(f"Unknown kind of value targets {mode!r}. {nearest(mode, _MODES)}")
    size = int(forest.size[tree])
    correct = np.asarray(correct, dtype=bool)
    if correct.ndim != 1 or len(correct) < size:
        raise UsageError(
            f"The verdicts have the shape {correct.shape}, the tree has {size} nodes; give one for each node."
        )
    ends = forest.end_leaves(tree, end_gate)
    right = ends[correct[ends]]
    return _MODES[mode](forest, tree, ends, right) if right.size else {}


def _full(forest: Forest, tree: int, ends: np.ndarray, right: np.ndarray) -> dict[int, float]:
    parent, size = forest.parent[tree].tolist(), int(forest.size[tree])
    distance = [_FAR] * size
    for leaf in right.tolist():
        distance[leaf] = 1
    for node in range(size - 1, 0, -1):  # children come after their parents
        if distance[node] < _FAR:
            distance[parent[node]] = min(distance[parent[node]], 1 + distance[node])
    good = [steps < _FAR for steps in distance]
    above = _above(forest, tree, ends)
    value = {0: 0.0}
    for node in range(1, size):
        if above[node]:
            if not good[node]:
                distance[node] = distance[parent[node]]  # no progress was made
            value[node] = step_value(value[parent[node]], distance[node], good[node])
    del value[0]
    return value


def _simple(forest: Forest, tree: int, ends: np.ndarray, right: np.ndarray) -> dict[int, float]:
    leaf = int(forest.answer[tree])
    if leaf not in right:
        leaf = forest.highest(tree, right)
    length = int(forest.depth[tree, leaf])
    leads = _above(forest, tree, right)
    targets, node = {}, leaf
    while node != 0:
        depth, above = int(forest.depth[tree, node]), int(forest.parent[tree, node])
        targets[node] = depth / length
        for sibling in forest.children[tree, above].tolist():
            if sibling > 0 and not leads[sibling]:
                targets[sibling] = max(0.0, (depth - 2) / length)
        node = above
    return dict(sorted(targets.items()))


def _he(forest: Forest, tree: int, ends: np.ndarray, right: np.ndarray) -> dict[int, float]:
    solved = _above(forest, tree, right)
    return {int(node): float(solved[node]) for node in np.flatnonzero(_above(forest, tree, ends)) if node}


def _above(forest: Forest, tree: int, leaves: np.ndarray) -> np.ndarray:
    """Tell which nodes lie on a route from the root to one of `leaves`, these included: bool [size]."""
    marked = np.zeros(int(forest.size[tree]), dtype=bool)
    for node in leaves.tolist():
        while node >= 0 and not marked[node]:
            marked[node] = True
            node = int(forest.parent[tree, node])
    return marked


_MODES: dict[str, Callable[[Forest, int, np.ndarray, np.ndarray], dict[int, float]]] = {
    "full": _full,
    "simple": _simple,
    "he": _he,
}
