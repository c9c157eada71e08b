"""From a search tree to one solution that goes back: wrong leaves first, each left at a common ancestor.

Kim et al. 2025, "ASTRO", arXiv 2507.00417, call it procedure cloning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.data.walks import Item


@dataclass
class SolutionTree:
    """A search tree over steps. Node 0 is the root, and every node follows its parent."""

    parents: list[int] = field(default_factory=lambda: [-1])
    steps: list[str] = field(default_factory=lambda: [""])
    """The step that leads to each node."""
    values: list[float] = field(default_factory=lambda: [0.0])
    """Q: the mean reward of the playouts through each node."""
    visits: list[int] = field(default_factory=lambda: [0])
    """N: how many these were."""
    answers: dict[int, str | None] = field(default_factory=dict)
    """What each finished solution states, by its node."""
    right: dict[int, bool] = field(default_factory=dict)
    """Whether it is right."""

    def add(self, parent: int, step: str, value: float = 0.0, visits: int = 0) -> int:
        """Append a node and return its index."""
        self.parents.append(parent)
        self.steps.append(step)
        self.values.append(value)
        self.visits.append(visits)
        return len(self.parents) - 1

    def see(self, node: int, right: bool) -> None:
        """Count a playout through a node that the search itself did not reach."""
        self.visits[node] += 1
        self.values[node] += (right - self.values[node]) / self.visits[node]

    def finish(self, node: int, answer: str | None, right: bool) -> None:
        """Note what the solution that ends in a node states, and whether it is right."""
        self.answers[node], self.right[node] = answer, right
        if not self.visits[node]:
            self.values[node] = float(right)

    def line(self, node: int) -> list[int]:
        """Return the nodes from below the root to `node`."""
        nodes = []
        while node > 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def path(self, node: int) -> tuple[str, ...]:
        """Return the steps from the root to `node`."""
        return tuple(self.steps[i] for i in self.line(node))

    def quality(self, leaf: int) -> float:
        """Return the mean Q over the path to a leaf."""
        return float(np.mean([self.values[i] for i in self.line(leaf)]))

    def right_leaves(self) -> list[int]:
        """Return the leaves of right solutions, the best first, of equals the older."""
        return sorted((i for i, ok in self.right.items() if ok), key=lambda i: (-self.quality(i), i))

    def wrong_leaves(self, right: int) -> list[int]:
        """Return the leaves of finished solutions that state another answer than the leaf `right` does."""
        stated = self.answers[right]
        others = (i for i, ok in self.right.items() if not ok)
        return [i for i in others if self.answers[i] is not None and self.answers[i] != stated]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; keys become text when it is written."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SolutionTree:
        """Read what `to_json` wrote."""
        keyed = {name: {int(k): v for k, v in record[name].items()} for name in ("answers", "right")}
        return cls(**{**record, **keyed})


def shared(tree: SolutionTree, a: int, b: int) -> int:
    """Return the depth of the deepest common ancestor of two nodes: how many steps they share."""
    depth = 0
    for x, y in zip(tree.line(a), tree.line(b), strict=False):
        if x != y:
            break
        depth += 1
    return depth


def linearise(tree: SolutionTree, right: int, wrong: Sequence[int]) -> list[Item]:
    """Return the walk that ends in each of the `wrong` leaves, goes back, and ends in the leaf `right`.

        path(root -> w_1), then for each next leaf: back to lca(last leaf, next leaf), path(lca -> next leaf)

    The leaves are visited depth-first, the branch of `right` last wherever they part, so that no node is
    written twice.

    Args:
        tree: the search tree.
        right: c*, the leaf of a right solution.
        wrong: w_1 .. w_B, in any order.

    Raises:
        UsageError: a wrong leaf lies on the path to another leaf, or is named twice.
    """
    last = set(tree.line(right))
    leaves = sorted(wrong, key=lambda leaf: [(node in last, node) for node in tree.line(leaf)])
    route = [*leaves, right]
    walk: list[Item] = list(tree.path(route[0]))
    for left, leaf in pairwise(route):
        kept = shared(tree, left, leaf)
        if kept in (len(tree.line(left)), len(tree.line(leaf))):
            raise UsageError(f"The leaves {left} and {leaf} lie on one path; a walk goes back between two.")
        walk += [kept, *tree.path(leaf)[kept:]]
    return walk


def choose_wrong(tree: SolutionTree, right: int, count: int, rng: np.random.Generator) -> list[int]:
    """Draw up to `count` wrong leaves, likelier the more steps they share with the leaf `right`.

    A leaf that shares d steps weighs 1 + d: mistakes after a good beginning are preferred, and wrong
    beginnings still occur.
    """
    leaves = tree.wrong_leaves(right)
    count = min(count, len(leaves))
    if not count:
        return []
    weights = np.array([1.0 + shared(tree, leaf, right) for leaf in leaves])
    chosen = rng.choice(len(leaves), size=count, replace=False, p=weights / weights.sum())
    return [leaves[i] for i in chosen]
