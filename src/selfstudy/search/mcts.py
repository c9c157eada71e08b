"""MCTS*, the tree search of ReST-MCTS* (Zhang et al., 2024, arXiv 2406.03816), on many problems at once.

Every iteration selects one leaf in each tree, expands it, looks ahead from its most promising child and
backs the values up; each question to the domain covers all trees, so that a language model or a value
model behind it sees one batch. A tree draws from its own random stream alone: searched with a hundred
others it becomes the tree that it becomes when searched by itself.

Against plain Monte Carlo tree search: every child has a value from the start, a greedy look-ahead by
value replaces the random playout, a self-critic closes finished paths, and a gate on the value ends the
search. Against beams it can return to a branch that it left.

The phases are in `phases.py`; other searches replace some of them. Order and counts follow the authors'
program: the gate looks at the selected leaf only, at its current value (look-ahead included); the child that
the look-ahead starts from is counted as visited at once, its parents in the backup, so a node's visits are
not its children's plus one; backing up replaces a value by the visit-weighted mean of the children's. The
root is neither assessed (nothing is done yet: its value is `low`) nor judged by the self-critic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.search.domain import Domain, check_number, check_range
from selfstudy.search.phases import MCTS_STAR, SELECT, Rules, Search
from selfstudy.search.tree import NO_NODE, Forest


@dataclass(frozen=True, kw_only=True)
class TreeSearch:
    """Settings of the tree search; of `iterations` and `seconds` exactly one is set."""

    iterations: int | None = None
    """Iterations of each tree; three times the length of a solution is a start for short ones."""
    seconds: float | None = None
    """Wall-clock limit in place of `iterations`, for all trees of a call; one iteration is always made."""
    branch: int = 3
    """Next steps drawn when a node is expanded."""
    roll_branch: int = 1
    """Next steps drawn at each step of the look-ahead, of which the best is taken."""
    roll_steps: int = 1
    """Longest look-ahead, in steps."""
    exploration: float = 0.5
    """Weight of the exploration term of visited children."""
    unvisited: float = 0.9
    """Bonus of a child not visited yet; finite, so that a good visited child can beat a bad new one."""
    end_gate: float = 0.9
    """Value from which a leaf counts as a solution."""
    alpha: float = 0.5
    """Share of the look-ahead in a child's value: 0 keeps the first assessment, 1 replaces it."""
    low: float = 0.0
    """Least value."""
    high: float = 1.0
    """Greatest value."""

    def validate(self) -> None:
        """Raise `UsageError` when the settings contradict each other."""
        if (self.iterations is None) == (self.seconds is None):
            raise UsageError(
                f"The tree search was given iterations={self.iterations} and seconds={self.seconds}; "
                "set exactly one of the two limits."
            )
        check_range(self.low, self.high, self.end_gate)
        if self.iterations is not None:
            check_number("iterations", self.iterations, least=1)
        if self.seconds is not None:
            check_number("seconds", self.seconds, least=0)
        for name in ("branch", "roll_branch", "roll_steps"):
            check_number(name, getattr(self, name), least=1)
        for name in ("exploration", "unvisited"):
            check_number(name, getattr(self, name), least=0)
        check_number("alpha", self.alpha, least=0, most=1)


def grow(
    domain: Domain,
    problems: Sequence[int],
    settings: TreeSearch,
    keys: np.ndarray,
    *,
    collect: bool,
    rules: Rules = MCTS_STAR,
    check: Callable[[], None] = lambda: None,
) -> Forest:
    """Grow one search tree for each problem.

    Args:
        domain: what is searched.
        problems: T indices that the domain understands; the same index may occur several times.
        settings: limits and weights.
        keys: uint64 [T], the random stream of each tree.
        collect: True grows whole trees, where a leaf that reaches the gate is only marked as ended; False
            stops a tree at the first selected leaf that reaches the gate, which becomes its `answer`.
        rules: the four phases.
        check: called before every iteration; may raise to stop the search.

    Returns:
        T trees in the order of `problems`.

    Raises:
        UsageError: settings that contradict each other, or not one key for each problem.
        DataError: the domain answers something that cannot be used.
    """
    settings.validate()
    keys = np.asarray(keys, dtype=np.uint64)
    if keys.shape != (len(problems),):
        raise UsageError(
            f"The search was given {len(problems)} problems and keys of shape {keys.shape}; "
            "give one key for each problem."
        )
    forest = Forest.roots(problems, branch=settings.branch, low=settings.low, end_gate=settings.end_gate)
    judged = np.ones((len(problems), 1), dtype=bool)  # an empty path is never finished
    search = Search(domain, settings, rules, forest, keys, collect, judged)
    trees, start = np.arange(len(problems)), time.monotonic()
    while trees.size:
        check()
        trees = _iterate(search, trees)
        search.iteration += 1
        if settings.iterations is not None and search.iteration >= settings.iterations:
            break
        if settings.seconds is not None and time.monotonic() - start >= settings.seconds:
            break
    return forest.trim()


def _iterate(search: Search, trees: np.ndarray) -> np.ndarray:
    """Advance `trees` by one iteration; return those that go on."""
    forest, rules = search.forest, search.rules
    nodes = _select(search, trees)
    gate = forest.value[trees, nodes] >= forest.end_gate
    if search.collect:
        forest.ended[trees[gate], nodes[gate]] = True
    else:
        forest.answer[trees[gate]] = nodes[gate]
        trees, nodes = trees[~gate], nodes[~gate]
    for phase in (rules.expand, rules.simulate):
        open_ = ~forest.ended[trees, nodes]
        if open_.any():
            phase(search, trees[open_], nodes[open_])
    rules.backup(search, trees, nodes)
    return trees


def _select(search: Search, trees: np.ndarray) -> np.ndarray:
    """Return the leaf that the scores lead to in each tree."""
    nodes = np.zeros(len(trees), dtype=np.int64)
    while (rows := np.flatnonzero(search.forest.expanded[trees, nodes])).size:
        nodes[rows] = search.best_child(trees[rows], nodes[rows], SELECT)
    return nodes


def best_answer(forest: Forest, tree: int) -> int:
    """Return the node that reached the gate, else the leaf with the highest value (of equals the later)."""
    if forest.answer[tree] != NO_NODE:
        return int(forest.answer[tree])
    return forest.highest(tree, forest.leaves(tree))


def best_end_leaf(forest: Forest, tree: int) -> int | None:
    """Return the end leaf of a collected tree with the highest value (of equals the later), if it has one."""
    leaves = forest.end_leaves(tree)
    return forest.highest(tree, leaves) if leaves.size else None
