"""The four phases of MCTS* (Zhang et al., 2024, arXiv 2406.03816) on batches of trees, and what they share.

Other searches are made by replacing some of the functions in `Rules`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from selfstudy.core.random import derive, uniforms
from selfstudy.search.domain import Domain, assess, finished, proposals
from selfstudy.search.tree import NO_NODE, Forest, sprout

if TYPE_CHECKING:
    from selfstudy.search.mcts import TreeSearch

PURPOSES = SELECT, EXPAND, LOOK, ROLL = range(4)
"""What random numbers are drawn for; each purpose has its own stream in each iteration of each tree."""


@dataclass
class Search:
    """A search on its way: what the rules read, and change in place."""

    domain: Domain
    settings: TreeSearch
    rules: Rules
    forest: Forest
    keys: np.ndarray  # uint64 [T]
    collect: bool
    judged: np.ndarray  # bool [T, N] the self-critic has spoken on this node
    iteration: int = 0

    def streams(self, trees: np.ndarray, purpose: int) -> np.ndarray:
        """Return the key of each tree for one purpose in this iteration: uint64 [B]."""
        return derive(self.keys[trees], self.iteration * len(PURPOSES) + purpose)

    def best_child(self, trees: np.ndarray, nodes: np.ndarray, purpose: int) -> np.ndarray:
        """Return the child with the highest score of each expanded node, ties at random: [B]."""
        children = self.forest.children[trees, nodes]  # [B, C]
        scores = np.where(children == NO_NODE, -np.inf, self.rules.score(self, trees, nodes))
        chance = uniforms(self.streams(trees, purpose)[:, None], np.maximum(children, 0))
        ties = scores == scores.max(axis=1, keepdims=True)
        chosen = np.where(ties & (children != NO_NODE), chance, -1.0).argmax(axis=1)
        return children[np.arange(len(trees)), chosen]

    def judge(self, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Ask the self-critic about each node, but only once; return which nodes have ended."""
        if (room := self.forest.parent.shape[1] - self.judged.shape[1]) > 0:
            self.judged = np.pad(self.judged, ((0, 0), (0, room)))
        new = ~(self.judged[trees, nodes] | self.forest.ended[trees, nodes])
        self.forest.ended[trees[new], nodes[new]] = finished(
            self.domain, self.forest.states(trees[new], nodes[new])
        )
        self.judged[trees, nodes] = True
        return self.forest.ended[trees, nodes]


Phase = Callable[[Search, np.ndarray, np.ndarray], None]


class Rules(NamedTuple):
    """What happens in each phase; each function takes the search, trees [B] and one node in each [B].

    `score` returns the scores of the nodes' children, [B, C] (those of missing children are not read);
    `expand` and `simulate` are called for nodes that have not ended, `backup` for all that were selected.
    """

    score: Callable[[Search, np.ndarray, np.ndarray], np.ndarray]
    expand: Phase
    simulate: Phase
    backup: Phase


def upper_confidence(
    values: np.ndarray, visits: np.ndarray, parent_visits: np.ndarray, *, exploration: float, unvisited: float
) -> np.ndarray:
    """Return V + c_e sqrt(2 ln N(parent) / N) for visited nodes and V plus a finite bonus for new ones.

    Args:
        values: [..., C].
        visits: [..., C].
        parent_visits: [...].
        exploration: c_e.
        unvisited: the bonus.

    >>> upper_confidence(np.array([0.3]), np.array([0]), np.array(7), exploration=0.5, unvisited=0.9)
    array([1.2])
    """
    logarithm = np.log(np.maximum(parent_visits, 1))[..., None]
    known = values + exploration * np.sqrt(2 * logarithm / np.maximum(visits, 1))
    return np.where(visits > 0, known, values + unvisited)


def score_children(search: Search, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the `upper_confidence` of the nodes' children: [B, C]."""
    forest, settings = search.forest, search.settings
    rows, children = trees[:, None], forest.children[trees, nodes]
    return upper_confidence(
        forest.value[rows, children],
        forest.visits[rows, children],
        forest.visits[trees, nodes],
        exploration=settings.exploration,
        unvisited=settings.unvisited,
    )


def expand(search: Search, trees: np.ndarray, nodes: np.ndarray) -> None:
    """Close the nodes that the self-critic finds finished and give the others their children."""
    open_ = ~search.judge(trees, nodes)
    trees, nodes = trees[open_], nodes[open_]
    settings = search.settings
    keys = search.streams(trees, EXPAND)
    new = sprout(search.forest, search.domain, trees, nodes, keys, settings.low, settings.high)
    if search.collect:
        search.judge(*new)


def simulate(search: Search, trees: np.ndarray, nodes: np.ndarray) -> None:
    """Look ahead from the best child of each node and move its value towards the best that was seen."""
    forest, alpha = search.forest, search.settings.alpha
    children = search.best_child(trees, nodes, LOOK)
    open_ = ~search.judge(trees, children)
    best = forest.value[trees, children]
    best[open_] = _roll(search, trees[open_], children[open_])
    forest.value[trees, children] = (1 - alpha) * forest.value[trees, children] + alpha * best
    forest.visits[trees, children] += 1


def _roll(search: Search, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return the best value on a greedy path from each node, `low` if there is no step from it: [B]."""
    domain, settings = search.domain, search.settings
    states = search.forest.states(trees, nodes)
    best = np.full(len(states), float(settings.low))
    streams = search.streams(trees, ROLL)
    rows = list(range(len(states)))
    for step in range(settings.roll_steps):
        keys = derive(streams[rows], step)
        drawn = proposals(domain, [states[row] for row in rows], settings.roll_branch, keys)
        rows = [row for row, actions in zip(rows, drawn, strict=True) if actions]
        drawn = [actions for actions in drawn if actions]
        nexts = [
            [(states[row][0], (*states[row][1], action)) for action in actions]
            for row, actions in zip(rows, drawn, strict=True)
        ]
        values = assess(domain, [state for group in nexts for state in group], settings.low, settings.high)
        start = 0
        for row, group in zip(rows, nexts, strict=True):
            scores = values[start : start + len(group)]
            states[row] = group[int(scores.argmax())]
            best[row] = max(best[row], scores.max())
            start += len(group)
        if step + 1 < settings.roll_steps:
            done = finished(domain, [states[row] for row in rows])
            rows = [row for row, end in zip(rows, done, strict=True) if not end]
    return best


def backup(search: Search, trees: np.ndarray, nodes: np.ndarray) -> None:
    """Count a visit from each node to its root; set values to the visit-weighted mean of the children's."""
    forest = search.forest
    while trees.size:
        forest.visits[trees, nodes] += 1
        rows, children = trees[:, None], forest.children[trees, nodes]  # [B, C]
        weights = np.where(children == NO_NODE, 0, forest.visits[rows, children])
        total, weighted = np.zeros(len(trees)), np.zeros(len(trees))
        # Column by column, so that rounding does not depend on how many trees there are.
        for child in range(forest.branch):
            total += weights[:, child]
            weighted += weights[:, child] * forest.value[trees, children[:, child]]
        known = total > 0
        forest.value[trees[known], nodes[known]] = weighted[known] / total[known]
        nodes = forest.parent[trees, nodes]
        trees, nodes = trees[nodes != NO_NODE], nodes[nodes != NO_NODE]


MCTS_STAR = Rules(score_children, expand, simulate, backup)
"""The phases of ReST-MCTS*."""
