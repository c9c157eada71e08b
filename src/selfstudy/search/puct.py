"""Monte Carlo tree search with PUCT and playouts to the end, judged by a verifier (Kim et al. 2025, ASTRO).

    SELECT    the child with the highest Q + c_puct * P * sqrt(N(parent)) / (1 + N), P uniform over distinct
              children
    EXPAND    draw next steps, merge equal ones
    ROLLOUT   complete the new node by the policy; the reward is the mean verdict
    BACKUP    N += 1 and Q moves to the mean reward, from the new node to the root

Against MCTS* (`mcts.py`) it needs no value model, but pays a whole solution for each look. What playouts
wrote becomes part of the tree that is returned, so that long problems have finished leaves too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from selfstudy.core.random import derive
from selfstudy.search.domain import Domain, State, check_number
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.phases import LOOK, ROLL, Rules, Search, expand
from selfstudy.search.reasoning import Steps
from selfstudy.search.traces import SolutionTree
from selfstudy.search.tree import NO_NODE, Forest

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

# Mean rewards end at 1, so that no node is taken for a solution by its value; only its text ends it.
NO_GATE = 2.0


@dataclass(frozen=True, kw_only=True)
class PlayoutSearch:
    """Settings of the tree search with playouts."""

    iterations: int = 32
    """Iterations of each tree."""
    branch: int = 4
    """Next steps drawn when a node is expanded (k)."""
    playouts: int = 1
    """Solutions drawn to the end in each iteration (M)."""
    exploration: float = 1.0
    """Weight of children seldom visited (c_puct)."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        for name in ("iterations", "branch", "playouts"):
            check_number(name, getattr(self, name), least=1)
        check_number("exploration", self.exploration, least=0)


def puct(
    values: np.ndarray, visits: np.ndarray, priors: np.ndarray, parent_visits: np.ndarray, exploration: float
) -> np.ndarray:
    """Return Q + c_puct * P * sqrt(N(parent)) / (1 + N) of children.

    Args:
        values: Q [..., C].
        visits: N [..., C].
        priors: P [..., C].
        parent_visits: [...].
        exploration: c_puct.

    >>> puct(np.array([0.5]), np.array([1]), np.array([0.25]), np.array(4), 1.0)
    array([0.75])
    """
    return values + exploration * priors * np.sqrt(parent_visits)[..., None] / (1 + visits)


class PlayoutDomain(Domain, Protocol):
    """A domain that can also go on to the end."""

    def finish(self, states: Sequence[State], *, keys: np.ndarray, temperature: float) -> list[Steps]:
        """Return the whole solution drawn after each state by its key (uint64 [B])."""


def grow_by_playouts(
    task: ReasoningTask,
    problems: Sequence[Problem],
    domain: PlayoutDomain,
    settings: PlayoutSearch,
    *,
    keys: np.ndarray,
    temperature: float,
    check: Callable[[], None] = lambda: None,
) -> list[SolutionTree]:
    """Return the search tree of each problem, playouts included.

    Args:
        task: tells the end of solutions and verifies them.
        problems: T training or validation problems.
        domain: of these problems; proposes steps, and plays to the end.
        settings: limits and weights.
        keys: uint64 [T], the random stream of each tree.
        temperature: of the playouts.
        check: called before every iteration; may raise to stop the search.
    """
    played = _Playouts(task, problems, domain, settings, temperature)
    forest = grow(
        domain,
        range(len(problems)),
        TreeSearch(iterations=settings.iterations, branch=settings.branch, high=NO_GATE, end_gate=NO_GATE),
        keys,
        collect=True,
        rules=Rules(played.score, expand, played.simulate, played.backup),
        check=check,
    )
    return [played.tree(forest, t) for t in range(len(problems))]


class _Playouts:
    """The rules of the search, and the verdicts on everything that was played to its end."""

    def __init__(
        self,
        task: ReasoningTask,
        problems: Sequence[Problem],
        domain: PlayoutDomain,
        settings: PlayoutSearch,
        temperature: float,
    ) -> None:
        self.task, self.problems, self.domain = task, problems, domain
        self.settings, self.temperature = settings, temperature
        self._known: list[dict[Steps, bool]] = [{} for _ in problems]
        self._reached = np.full(len(problems), NO_NODE)
        self._reward = np.zeros(len(problems))

    def verdicts(self, solutions: Sequence[tuple[int, Steps]]) -> list[bool]:
        """Return whether each (tree, path) is right; each path is verified once."""
        new = list(dict.fromkeys(one for one in solutions if one[1] not in self._known[one[0]]))
        if new:
            grades = self.task.grades([self.problems[t] for t, _ in new], [path for _, path in new])
            for (t, path), grade in zip(new, grades, strict=True):
                self._known[t][path] = grade == 1
        return [self._known[t][path] for t, path in solutions]

    def tree(self, forest: Forest, t: int) -> SolutionTree:
        """Return a searched tree with what the playouts wrote; steps that go back are left out."""
        tree = SolutionTree()
        places: dict[Steps, int] = {(): 0}
        for node in range(1, int(forest.size[t])):
            path = forest.path(t, node)
            places[path] = tree.add(
                places[path[:-1]], path[-1], float(forest.value[t, node]), int(forest.visits[t, node])
            )
        tree.values[0], tree.visits[0] = float(forest.value[t, 0]), int(forest.visits[t, 0])
        searched = set(places)
        paths = [path for path in dict.fromkeys([*places, *self._known[t]]) if self._finished(t, path)]
        for path, right in zip(paths, self.verdicts([(t, path) for path in paths]), strict=True):
            for length in range(1, len(path) + 1):
                prefix = path[:length]
                if prefix not in places:
                    places[prefix] = tree.add(places[prefix[:-1]], prefix[-1])
                if prefix not in searched:
                    tree.see(places[prefix], right)
            tree.finish(places[path], self.task.answer(path, self.problems[t]), right)
        return tree

    def _finished(self, t: int, path: Steps) -> bool:
        returns = self.task.form.returns
        plain = returns is None or all(isinstance(item, str) for item in returns.read(path))
        return bool(path) and plain and self.task.is_end(self.problems[t], path)

    def _whole(self, state: State, path: Steps) -> Steps:
        """Return a played path up to its first end: what a policy writes after it is not judged or learnt."""
        t, begun = state
        ends = (n for n in range(len(begun) + 1, len(path)) if self.task.is_end(self.problems[t], path[:n]))
        return path[: next(ends, len(path))]

    def score(self, search: Search, trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """Return the PUCT scores of the nodes' children: [B, C]."""
        forest = search.forest
        rows, children = trees[:, None], forest.children[trees, nodes]  # [B, C]
        priors = 1 / np.maximum((children != NO_NODE).sum(1, keepdims=True), 1)
        return puct(
            forest.value[rows, children],
            forest.visits[rows, children],
            np.broadcast_to(priors, children.shape),
            forest.visits[trees, nodes],
            self.settings.exploration,
        )

    def simulate(self, search: Search, trees: np.ndarray, nodes: np.ndarray) -> None:
        """Play from a new child of each node to the end."""
        children = search.best_child(trees, nodes, LOOK)
        states = search.forest.states(trees, children)
        count = self.settings.playouts
        many = [state for state in states for _ in range(count)]
        keys = derive(search.streams(trees, ROLL)[:, None], np.arange(count)[None]).reshape(-1)
        drawn = self.domain.finish(many, keys=keys, temperature=self.temperature)
        solutions = [self._whole(state, path) for state, path in zip(many, drawn, strict=True)]
        right = self.verdicts([(t, path) for (t, _), path in zip(many, solutions, strict=True)])
        self._reached[trees] = children
        self._reward[trees] = np.array(right, dtype=float).reshape(-1, count).mean(1)

    def backup(self, search: Search, trees: np.ndarray, nodes: np.ndarray) -> None:
        """Count a visit and move Q to the mean reward, from the node that was played to the root."""
        forest = search.forest
        ended = self._reached[trees] == NO_NODE  # nothing was played: the selected node is finished
        if ended.any():
            states = forest.states(trees[ended], nodes[ended])
            self._reward[trees[ended]] = self.verdicts(states)
        nodes = np.where(ended, nodes, self._reached[trees])
        self._reached[trees] = NO_NODE
        rewards = self._reward[trees]
        while trees.size:
            forest.visits[trees, nodes] += 1
            forest.value[trees, nodes] += (rewards - forest.value[trees, nodes]) / forest.visits[trees, nodes]
            nodes = forest.parent[trees, nodes]
            open_ = nodes != NO_NODE
            trees, nodes, rewards = trees[open_], nodes[open_], rewards[open_]
