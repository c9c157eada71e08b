"""Tree search over lines of whole solutions: the search of ReST-RL, to collect values and to decode by them.

Zhoubian, Zhang, Tang 2025, "ReST-RL", arXiv 2508.19576. A node is the beginning of a solution; what is drawn
from it are whole solutions, whose first lines become its children. Against MCTS* (`mcts.py`) there is no
look-ahead, because every sample runs to the end, and a node's count is of samples, not of visits. Two uses:

- collecting: solutions get rewards (tests), which are backed up; a node's value is the mean of all below it;
- decoding: a value model assesses the children, the best of them go on, and no test is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive
from selfstudy.search.domain import check_number
from selfstudy.search.tree import NO_NODE, Forest

Lines = tuple[str, ...]
State = tuple[int, Lines]
"""A problem's index and the lines of its solution so far."""
Draw = Callable[[Sequence[State], int, np.ndarray], list[list[Lines]]]
"""(B states, n, uint64 keys [B]) to B lists of n completions: the lines that follow to the end."""
Score = Callable[[Sequence[State]], np.ndarray]
"""States to numbers [B]."""


@dataclass(frozen=True, kw_only=True)
class LineSearch:
    """Settings of the search."""

    iterations: int = 24
    """Of each tree (100 in the authors' code to collect, 15 to 20 to decode)."""
    samples: int = 5
    """Whole solutions drawn when a node is expanded."""
    decisions: int = 3
    """Children of a node that the search goes on with."""
    exploration: float = 0.2
    """Weight of the exploration term."""
    eps: float = 0.1
    """Added to a child's count, so that a new one has a finite bonus."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        for name in ("iterations", "samples", "decisions"):
            check_number(name, getattr(self, name), least=1)
        check_number("exploration", self.exploration, least=0)
        if not self.eps > 0:
            raise UsageError(f"The search was given eps={self.eps}; it must be above 0.")


class Completion(NamedTuple):
    """A whole solution that was drawn."""

    node: int
    """From which node."""
    lines: Lines
    """All of them, from the first."""
    score: float
    """Its reward, or what a value model says of it."""


@dataclass(eq=False)
class LineTrees:
    """T trees. In the forest `visits` is N, `value` V, `ended` terminal, `prior` what a terminal is worth.

    A node that ends a solution without a line of its own has the action "".
    """

    forest: Forest
    total: np.ndarray  # [T, N] sum of rewards
    visible: np.ndarray  # bool [T, N]
    completions: list[list[Completion]] = field(default_factory=list)  # by tree, in the order drawn

    @classmethod
    def roots(cls, problems: int, samples: int) -> LineTrees:
        """Return trees with nothing but their roots."""
        forest = Forest.roots(range(problems), branch=samples, low=0.0, end_gate=np.inf)
        return cls(
            forest, np.zeros((problems, 1)), np.ones((problems, 1), bool), [[] for _ in range(problems)]
        )

    def state(self, tree: int, node: int) -> State:
        """Return what a node stands for."""
        return int(self.forest.problems[tree]), tuple(filter(None, self.forest.path(tree, node)))

    def best(self, tree: int) -> Lines:
        """Return the completion with the highest score, of equals the first."""
        return max(self.completions[tree], key=lambda one: one.score).lines

    def reserve(self, nodes: int) -> None:
        """Make room for so many nodes in every tree."""
        self.forest.reserve(nodes)
        more = self.forest.parent.shape[1] - self.total.shape[1]
        self.total = np.pad(self.total, ((0, 0), (0, more)))
        self.visible = np.pad(self.visible, ((0, 0), (0, more)))

    def to_json(self, tree: int) -> dict[str, Any]:
        """Return one tree as JSON data: its nodes, parents before their children, and what was drawn."""
        nodes = self.forest.select([tree])
        size = int(nodes.size[0])
        return {
            "samples": nodes.branch,
            "nodes": nodes.to_json()["trees"][0],
            "total": self.total[tree, :size].tolist(),
            "visible": self.visible[tree, :size].tolist(),
            "completions": [[one.node, list(one.lines), one.score] for one in self.completions[tree]],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> LineTrees:
        """Read what `to_json` wrote, a single tree.

        Raises:
            DataError: the record is damaged or of another kind.
        """
        forest = Forest.from_json(
            {"branch": record["samples"], "end_gate": np.inf, "trees": [record["nodes"]]}
        )
        trees = cls(forest, np.zeros((1, 1)), np.ones((1, 1), bool), [[]])
        size = int(forest.size[0])
        trees.reserve(size)
        trees.total[0, :size], trees.visible[0, :size] = record["total"], record["visible"]
        trees.completions = [[Completion(n, tuple(lines), s) for n, lines, s in record["completions"]]]
        return trees


def confidence(
    values: np.ndarray, counts: np.ndarray, parent_counts: np.ndarray, *, exploration: float, eps: float
) -> np.ndarray:
    """Return V + c_e sqrt((1 + ln N(parent)) / (eps + N)).

    Args:
        values: [..., C].
        counts: [..., C].
        parent_counts: [...], at least 1.
        exploration: c_e.
        eps: keeps the bonus of a new child finite.

    >>> confidence(np.array([0.4]), np.array([2]), np.array(10), exploration=0.2, eps=0.1).round(4)
    array([0.6508])
    """
    bonus = np.sqrt((1 + np.log(parent_counts))[..., None] / (eps + counts))
    return values + exploration * bonus


def grow_lines(
    problems: int,
    settings: LineSearch,
    keys: np.ndarray,
    *,
    draw: Draw,
    score: Score,
    assess: Score | None = None,
    check: Callable[[], None] = lambda: None,
) -> LineTrees:
    """Grow a tree for each problem, all in lockstep: each question below is asked for all trees at once.

    Args:
        problems: T; their indices are 0 to T - 1.
        settings: limits and weights.
        keys: uint64 [T], the random stream of each tree.
        draw: draws whole solutions.
        score: of whole solutions: their rewards in collecting, their values in decoding.
        assess: values of the children, by which decoding goes; None backs up the scores instead.
        check: called before every iteration; may raise to stop the search.
    """
    settings.validate()
    trees = LineTrees.roots(problems, settings.samples)
    for iteration in range(settings.iterations):
        check()
        nodes = _select(trees, settings)
        open_ = np.flatnonzero(~trees.forest.ended[np.arange(problems), nodes])
        # What a terminal node is worth is known: visiting it again counts it once more.
        counts, sums = np.ones(problems), trees.forest.prior[np.arange(problems), nodes]
        if open_.size:
            streams = derive(np.asarray(keys, dtype=np.uint64)[open_], iteration)
            counts[open_], sums[open_] = _expand(
                trees, settings, open_, nodes[open_], streams, draw, score, assess
            )
        _back_up(trees, nodes, counts, sums)
    return trees


def _select(trees: LineTrees, settings: LineSearch) -> np.ndarray:
    """Return the node without children that the scores lead to in each tree, [T]; of equals the first."""
    forest = trees.forest
    every = np.arange(len(forest))
    nodes = np.zeros(len(forest), dtype=np.int64)
    while (rows := every[forest.expanded[every, nodes]]).size:
        at = nodes[rows]
        children = forest.children[rows, at]  # [B, C]
        scores = confidence(
            forest.value[rows[:, None], children],
            forest.visits[rows[:, None], children],
            forest.visits[rows, at],
            exploration=settings.exploration,
            eps=settings.eps,
        )
        shown = (children != NO_NODE) & trees.visible[rows[:, None], children]
        chosen = np.where(shown, scores, -np.inf).argmax(1)
        nodes[rows] = children[np.arange(len(rows)), chosen]
    return nodes


def _expand(
    trees: LineTrees,
    settings: LineSearch,
    rows: np.ndarray,
    nodes: np.ndarray,
    streams: np.ndarray,
    draw: Draw,
    score: Score,
    assess: Score | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give nodes their children; return what is to be backed up from each: counts and sums [B]."""
    states = [trees.state(tree, node) for tree, node in zip(rows.tolist(), nodes.tolist(), strict=True)]
    drawn = draw(states, settings.samples, streams)
    whole = [(p, (*lines, *rest)) for (p, lines), group in zip(states, drawn, strict=True) for rest in group]
    scores = iter(np.asarray(score(whole), dtype=np.float64).tolist())
    trees.reserve(int(trees.forest.size.max()) + settings.samples)
    counts, sums, grown = np.zeros(len(rows)), np.zeros(len(rows)), []
    for i, (tree, node, (_, lines)) in enumerate(zip(rows.tolist(), nodes.tolist(), states, strict=True)):
        found = [Completion(node, (*lines, *rest), next(scores)) for rest in drawn[i]]
        trees.completions[tree] += found
        counts[i], sums[i] = len(found), sum(one.score for one in found)
        grown.append(_children(trees, tree, node, drawn[i], found))
    if assess is not None:
        asked = [trees.state(tree, child) for tree, of in zip(rows, grown, strict=True) for child in of]
        values = iter(np.asarray(assess(asked), dtype=np.float64).tolist())
        for i, (tree, of) in enumerate(zip(rows.tolist(), grown, strict=True)):
            _assessed(trees, tree, of, [next(values) for _ in of])
            sums[i] = sum(trees.total[tree, child] for child in of)
    for tree, of in zip(rows.tolist(), grown, strict=True):
        order = np.argsort(-trees.forest.value[tree, list(of)], kind="stable")
        trees.visible[tree, list(of)] = False
        trees.visible[tree, np.array(list(of))[order[: settings.decisions]]] = True
    return counts, sums


def _children(
    trees: LineTrees, tree: int, node: int, drawn: Sequence[Lines], whole: Sequence[Completion]
) -> dict[int, int]:
    """Append a child for each first line, apart for those that end there; return how often each was drawn."""
    forest = trees.forest
    found: dict[tuple[str, bool], int] = {}
    times: dict[int, int] = {}
    for rest, completion in zip(drawn, whole, strict=True):
        ends = len(rest) <= 1
        line = rest[0] if rest else ""
        child = found.get((line, ends))
        if child is None:
            child = found[line, ends] = int(forest.size[tree])
            forest.size[tree] += 1
            forest.actions[tree].append(line)
            forest.parent[tree, child], forest.depth[tree, child] = node, forest.depth[tree, node] + 1
            forest.ended[tree, child] = ends
            forest.prior[tree, child] = completion.score if ends else 0.0
            forest.children[tree, node, len(found) - 1] = child
        times[child] = times.get(child, 0) + 1
    forest.expanded[tree, node] = True
    return times


def _assessed(trees: LineTrees, tree: int, times: dict[int, int], values: Sequence[float]) -> None:
    """Write down what children are worth; one that was drawn several times counts as often."""
    for (child, count), value in zip(times.items(), values, strict=True):
        trees.forest.value[tree, child] = value
        trees.forest.visits[tree, child] = count
        trees.total[tree, child] = count * value
        if trees.forest.ended[tree, child]:
            trees.forest.prior[tree, child] = value


def _back_up(trees: LineTrees, nodes: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> None:
    """Add counts and sums [T] to the nodes and all above them; a value is their quotient."""
    forest, rows = trees.forest, np.arange(len(nodes))
    while rows.size:
        at = nodes[rows]
        forest.visits[rows, at] += counts[rows].astype(np.int64)
        trees.total[rows, at] += sums[rows]
        forest.value[rows, at] = trees.total[rows, at] / forest.visits[rows, at]
        nodes = nodes.copy()
        nodes[rows] = forest.parent[rows, at]
        rows = rows[nodes[rows] != NO_NODE]
