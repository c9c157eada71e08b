"""Tree of Thoughts (Yao et al., 2023, arXiv 2305.10601), breadth-first and depth-first, in lockstep.

The plain alternatives to the tree search of `mcts.py`, on the same domain, values and gate: breadth-first
keeps the best few paths of each length; depth-first follows the best step and turns back at dead ends.
Neither looks ahead or revises a value. Here as in the programs that ReST-MCTS* was compared with, a search
stops at the first path whose value reaches the gate; a path that the self-critic finds finished below the
gate is kept as a possible answer and takes no place among the paths being extended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive
from selfstudy.search.domain import Domain, check_number, check_range, finished
from selfstudy.search.tree import NO_NODE, Forest, sprout


@dataclass(frozen=True, kw_only=True)
class TreeOfThought:
    """Settings of both searches."""

    branch: int = 3
    """Next steps drawn when a path is extended."""
    keep: int = 2
    """Breadth-first: paths kept at each length. Depth-first: children followed of each node, best first."""
    depth: int = 8
    """Longest path, in steps."""
    nodes: int = 100
    """Depth-first: no path is extended once a tree has this many nodes."""
    end_gate: float = 0.9
    """Value at which the search stops."""
    low: float = 0.0
    """Least value."""
    high: float = 1.0
    """Greatest value."""

    def validate(self) -> None:
        """Raise `UsageError` when the settings contradict each other."""
        check_range(self.low, self.high, self.end_gate)
        for name in ("branch", "keep", "depth", "nodes"):
            check_number(name, getattr(self, name), least=1)


def tree_of_thought_bfs(
    domain: Domain,
    problems: Sequence[int],
    settings: TreeOfThought,
    keys: np.ndarray,
    *,
    check: Callable[[], None] = lambda: None,
) -> Forest:
    """Search breadth-first: extend all kept paths, keep the best, until the gate or the depth limit.

    Args:
        domain: what is searched.
        problems: T indices that the domain understands.
        settings: limits.
        keys: uint64 [T], the random stream of each tree.
        check: called before every round; may raise to stop the search.

    Returns:
        T trees; `answer` is the path at the gate, else the finished path with the highest value, else the
        leaf with the highest value, of equals the later.

    Raises:
        UsageError: settings that contradict each other, or not one key for each problem.
    """
    forest, keys, done = _start(problems, settings, keys)
    trees, nodes = np.arange(len(problems)), np.zeros(len(problems), dtype=np.int64)
    for _ in range(settings.depth):
        if not trees.size:
            break
        check()
        trees, nodes = _extend(forest, domain, trees, nodes, keys, done, settings)
        trees, nodes = _best(forest, trees, nodes, settings.keep)
    return _answered(forest, done)


def tree_of_thought_dfs(
    domain: Domain,
    problems: Sequence[int],
    settings: TreeOfThought,
    keys: np.ndarray,
    *,
    check: Callable[[], None] = lambda: None,
) -> Forest:
    """Search depth-first: extend the latest best path, turn back at the depth limit and at finished paths.

    Arguments, result and errors are those of `tree_of_thought_bfs`; it ends at the gate, when `nodes` are
    used up, or when nothing is left to extend.
    """
    forest, keys, done = _start(problems, settings, keys)
    stacks = [[0] for _ in problems]
    while True:
        waiting = [t for t, stack in enumerate(stacks) if stack and forest.size[t] < settings.nodes]
        if not waiting:
            return _answered(forest, done)
        check()
        trees = np.array(waiting)
        nodes = np.array([stacks[t].pop() for t in waiting])
        new = _best(forest, *_extend(forest, domain, trees, nodes, keys, done, settings), settings.keep)
        for tree in trees[forest.answer[trees] != NO_NODE].tolist():
            stacks[tree].clear()
        # The best child of each node comes first in `new` and must be taken from the stack first.
        for tree, node in reversed(list(zip(*(part.tolist() for part in new), strict=True))):
            if forest.depth[tree, node] < settings.depth:
                stacks[tree].append(node)


def _start(
    problems: Sequence[int], settings: TreeOfThought, keys: np.ndarray
) -> tuple[Forest, np.ndarray, list[list[int]]]:
    """Return the roots, the keys as an array, and room for the finished paths of each tree."""
    settings.validate()
    keys = np.asarray(keys, dtype=np.uint64)
    if keys.shape != (len(problems),):
        raise UsageError(
            f"The search was given {len(problems)} problems and keys of shape {keys.shape}; "
            "give one key for each problem."
        )
    roots = Forest.roots(problems, branch=settings.branch, low=settings.low, end_gate=settings.end_gate)
    return roots, keys, [[] for _ in problems]


def _extend(
    forest: Forest,
    domain: Domain,
    trees: np.ndarray,
    nodes: np.ndarray,
    keys: np.ndarray,
    done: list[list[int]],
    settings: TreeOfThought,
) -> tuple[np.ndarray, np.ndarray]:
    """Give leaves their children, note the finished ones in `done`, return the others.

    A tree where a child reaches the gate has its answer then, and returns none.
    """
    streams = derive(keys[trees], nodes)
    trees, nodes = sprout(forest, domain, trees, nodes, streams, settings.low, settings.high)
    values = forest.value[trees, nodes]
    for row in np.lexsort((nodes, values)):  # the last to be written is the highest, of equals the later
        if values[row] >= settings.end_gate:
            forest.answer[trees[row]] = nodes[row]
    open_ = forest.answer[trees] == NO_NODE
    trees, nodes = trees[open_], nodes[open_]
    forest.ended[trees, nodes] = finished(domain, forest.states(trees, nodes))
    open_ = ~forest.ended[trees, nodes]
    for tree, node in zip(trees[~open_].tolist(), nodes[~open_].tolist(), strict=True):
        done[tree].append(node)
    return trees[open_], nodes[open_]


def _best(forest: Forest, trees: np.ndarray, nodes: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `keep` of the nodes in each tree, best first, of equals the earlier first."""
    order = np.lexsort((nodes, -forest.value[trees, nodes], trees))
    trees, nodes = trees[order], nodes[order]
    rank = np.arange(len(trees)) - np.searchsorted(trees, trees)
    return trees[rank < keep], nodes[rank < keep]


def _answered(forest: Forest, done: list[list[int]]) -> Forest:
    for tree in np.flatnonzero(forest.answer == NO_NODE).tolist():
        nodes = np.array(done[tree]) if done[tree] else forest.leaves(tree)
        forest.answer[tree] = forest.highest(tree, nodes)
    return forest.trim()
