"""Search trees of many problems in one set of arrays, so that a search advances them all in lockstep.

Shapes: T trees, room for N nodes in each, C children per node. Node 0 is the root; a node's index is
the order of its creation, so children follow their parent and siblings stand side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.search.domain import Action, Domain, State, assess, proposals

NO_NODE = -1
"""Where an index of a node is expected and there is none: the root's parent, a missing child, no answer."""


@dataclass(eq=False)
class Forest:
    """T search trees.

    `prior` is a node's value as the domain first assessed it (the root's is the search's `low`: nothing
    is done yet), `value` the one that the search updates. `ended` nodes are closed: by the self-critic,
    by the gate in collecting searches, or because nothing valid could follow.
    """

    problems: np.ndarray  # [T] index of each tree's problem
    answer: np.ndarray  # [T] node at which the search stopped, or NO_NODE
    size: np.ndarray  # [T] nodes in use
    parent: np.ndarray  # [T, N]
    depth: np.ndarray  # [T, N]
    visits: np.ndarray  # [T, N]
    prior: np.ndarray  # [T, N]
    value: np.ndarray  # [T, N]
    expanded: np.ndarray  # [T, N] has children
    ended: np.ndarray  # [T, N]
    children: np.ndarray  # [T, N, C] NO_NODE where there are fewer
    actions: list[list[Action]]  # T lists of `size` actions that led to each node; the root's is None
    end_gate: float  # value from which the search took a leaf for a solution

    @classmethod
    def roots(cls, problems: Sequence[int], *, branch: int, low: float, end_gate: float) -> Forest:
        """Return one tree with nothing but its root for each problem."""
        trees = len(problems)
        return cls(
            problems=np.asarray(problems, dtype=np.int64).reshape(trees),
            answer=np.full(trees, NO_NODE),
            size=np.ones(trees, dtype=np.int64),
            parent=np.full((trees, 1), NO_NODE),
            depth=np.zeros((trees, 1), dtype=np.int64),
            visits=np.zeros((trees, 1), dtype=np.int64),
            prior=np.full((trees, 1), float(low)),
            value=np.full((trees, 1), float(low)),
            expanded=np.zeros((trees, 1), dtype=bool),
            ended=np.zeros((trees, 1), dtype=bool),
            children=np.full((trees, 1, branch), NO_NODE),
            actions=[[None] for _ in range(trees)],
            end_gate=float(end_gate),
        )

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def branch(self) -> int:
        """Most children a node can have."""
        return self.children.shape[2]

    def path(self, tree: int, node: int) -> tuple[Action, ...]:
        """Return the actions from the root to `node`."""
        parents, actions = self.parent[tree], self.actions[tree]
        steps = []
        while node > 0:
            steps.append(actions[node])
            node = int(parents[node])
        return tuple(reversed(steps))

    def state(self, tree: int, node: int) -> State:
        """Return what the domain is asked about for `node`."""
        return int(self.problems[tree]), self.path(tree, node)

    def states(self, trees: np.ndarray, nodes: np.ndarray) -> list[State]:
        """Return the states of the nodes `(trees[i], nodes[i])`."""
        return [self.state(tree, node) for tree, node in zip(trees.tolist(), nodes.tolist(), strict=True)]

    def leaves(self, tree: int) -> np.ndarray:
        """Return the nodes without children, oldest first (the root alone if it has none)."""
        return np.flatnonzero(~self.expanded[tree, : self.size[tree]])

    def end_leaves(self, tree: int, end_gate: float | None = None) -> np.ndarray:
        """Return the leaves that are ended or whose value reaches the gate (the search's own by default)."""
        leaves = self.leaves(tree)
        gate = self.end_gate if end_gate is None else end_gate
        return leaves[self.ended[tree, leaves] | (self.value[tree, leaves] >= gate)]

    def highest(self, tree: int, nodes: np.ndarray) -> int:
        """Return the one of `nodes` (at least one) with the highest value, of equals the last."""
        values = self.value[tree, nodes]
        return int(nodes[np.flatnonzero(values == values.max())[-1]])

    def reserve(self, nodes: int) -> None:
        """Make room for `nodes` nodes in every tree; the room at least doubles when it grows."""
        room = self.parent.shape[1]
        if nodes > room:
            self._pad(max(nodes, 2 * room) - room)

    def trim(self) -> Forest:
        """Return a copy with room for no more nodes than the largest tree has."""
        return self.select(np.arange(len(self)))

    def select(self, trees: Sequence[int] | np.ndarray) -> Forest:
        """Return a copy with the trees of the given indices, in their order."""
        rows = np.asarray(trees, dtype=np.int64)
        room = int(self.size[rows].max(initial=1))
        parts: dict[str, Any] = {name: getattr(self, name)[rows].copy() for name in _PER_TREE}
        parts |= {name: getattr(self, name)[rows, :room].copy() for name in _PER_NODE}
        return Forest(actions=[list(self.actions[row]) for row in rows], end_gate=self.end_gate, **parts)

    @classmethod
    def concatenate(cls, forests: Sequence[Forest]) -> Forest:
        """Join forests of the same `branch` and `end_gate` into one.

        Raises:
            DataError: none given, or they come from searches with different settings.
        """
        if len({(forest.branch, forest.end_gate) for forest in forests}) != 1:
            raise DataError(
                "Forests can be joined if there is at least one and all have the same branch and end_gate."
            )
        room = max(int(forest.size.max(initial=1)) for forest in forests)
        copies = [forest.trim() for forest in forests]
        for forest in copies:
            forest._pad(room - forest.parent.shape[1])
        parts: dict[str, Any] = {
            name: np.concatenate([getattr(forest, name) for forest in copies])
            for name in _PER_TREE + _PER_NODE
        }
        actions = [actions for forest in copies for actions in forest.actions]
        return cls(actions=actions, end_gate=copies[0].end_gate, **parts)

    def _pad(self, extra: int) -> None:
        for name in _PER_NODE:
            old = getattr(self, name)
            shape = (old.shape[0], extra, *old.shape[2:])
            empty = NO_NODE if name in ("parent", "children") else 0
            setattr(self, name, np.concatenate([old, np.full(shape, empty, dtype=old.dtype)], axis=1))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Forest):
            return NotImplemented
        mine, theirs = self.trim(), other.trim()
        return (
            mine.actions == theirs.actions
            and mine.end_gate == theirs.end_gate
            and all(
                np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in _PER_TREE + _PER_NODE
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers, without what the parents' indices imply; exact in both directions.

        Actions must be JSON values or tuples of them.
        """
        trees = []
        for row, size in enumerate(self.size.tolist()):
            trees.append(
                {
                    "problem": int(self.problems[row]),
                    "answer": int(self.answer[row]),
                    "actions": self.actions[row],
                }
                | {
                    name: getattr(self, name)[row, :size].tolist()
                    for name in ("parent", "visits", "prior", "value")
                }
                | {name: np.flatnonzero(getattr(self, name)[row]).tolist() for name in ("expanded", "ended")}
            )
        return {"branch": self.branch, "end_gate": self.end_gate, "trees": trees}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Forest:
        """Read what `to_json` wrote.

        Raises:
            DataError: the record is damaged or of another kind.
        """
        try:
            trees = record["trees"]
            problems = [tree["problem"] for tree in trees]
            forest = cls.roots(problems, branch=record["branch"], low=0.0, end_gate=record["end_gate"])
            forest.reserve(max((len(tree["parent"]) for tree in trees), default=1))
            for row, tree in enumerate(trees):
                forest._read(row, tree)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(
                f"This is not a record of search trees ({type(error).__name__}: {error}); "
                "give what Forest.to_json wrote."
            ) from error
        return forest

    def _read(self, row: int, tree: dict[str, Any]) -> None:
        size = len(tree["parent"])
        self.size[row], self.answer[row] = size, tree["answer"]
        self.actions[row] = [_hashable(action) for action in tree["actions"]]
        for name in ("parent", "visits", "prior", "value"):
            getattr(self, name)[row, :size] = tree[name]
        for name in ("expanded", "ended"):
            getattr(self, name)[row, np.asarray(tree[name], dtype=np.int64)] = True
        if len(self.actions[row]) != size:
            raise ValueError(f"{len(self.actions[row])} actions for {size} nodes")
        used = [0] * size
        for node, parent in enumerate(tree["parent"][1:], start=1):
            if not 0 <= parent < node:
                raise ValueError(f"node {node} has the parent {parent}")
            self.children[row, parent, used[parent]] = node
            self.depth[row, node] = self.depth[row, parent] + 1
            used[parent] += 1


_PER_TREE = ("problems", "answer", "size")
_PER_NODE = tuple(
    field.name for field in fields(Forest) if field.name not in (*_PER_TREE, "actions", "end_gate")
)


def _hashable(action: Any) -> Action:
    return tuple(_hashable(part) for part in action) if isinstance(action, list) else action


def sprout(
    forest: Forest,
    domain: Domain,
    trees: np.ndarray,
    nodes: np.ndarray,
    keys: np.ndarray,
    low: float,
    high: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the leaves `(trees[i], nodes[i])` their children: draw, merge duplicates, assess, append.

    A leaf after which nothing valid was drawn is marked as ended. A tree may be named several times, with
    different leaves.

    Args:
        forest: is changed in place.
        domain: asked once for all proposals and once for all values.
        trees: [B].
        nodes: [B] leaves.
        keys: uint64 [B], the stream of each leaf's draws.
        low: least value.
        high: greatest value.

    Returns:
        The trees and the nodes of all new children, in the order of the leaves.
    """
    states = forest.states(trees, nodes)
    drawn = proposals(domain, states, forest.branch, keys)
    paths = [
        (problem, (*path, action))
        for (problem, path), actions in zip(states, drawn, strict=True)
        for action in actions
    ]
    values = assess(domain, paths, low, high)
    counts = np.array([len(actions) for actions in drawn], dtype=np.int64)
    new_trees, new_nodes, slots = (
        np.repeat(trees, counts),
        np.empty(len(paths), dtype=np.int64),
        np.empty(len(paths), dtype=np.int64),
    )
    start = 0
    for tree, actions in zip(trees.tolist(), drawn, strict=True):
        stop = start + len(actions)
        first = len(forest.actions[tree])
        new_nodes[start:stop] = np.arange(first, first + len(actions))
        slots[start:stop] = np.arange(len(actions))
        forest.actions[tree].extend(actions)
        start = stop
    parents = np.repeat(nodes, counts)
    np.add.at(forest.size, trees, counts)
    forest.reserve(int(forest.size.max(initial=1)))
    forest.parent[new_trees, new_nodes] = parents
    forest.depth[new_trees, new_nodes] = forest.depth[new_trees, parents] + 1
    forest.prior[new_trees, new_nodes] = forest.value[new_trees, new_nodes] = values
    forest.children[new_trees, parents, slots] = new_nodes
    forest.expanded[trees, nodes] = counts > 0
    forest.ended[trees, nodes] |= counts == 0
    return new_trees, new_nodes
