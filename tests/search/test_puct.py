"""The search with playouts: scores, counts and values, and what becomes of playouts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, uniforms
from selfstudy.data.walks import SYMBOLS
from selfstudy.search.puct import PlayoutSearch, grow_by_playouts, puct

from .scripted import coin_task

DEPTH = 3


class Digits:
    """Steps are `0-0` or `1-1` by a coin; a solution has three. The task calls those right that end in 1."""

    def __init__(self) -> None:
        self.played: list[tuple] = []

    def propose(self, states, n, keys):
        return [[("0-0", "1-1")[int(x < 0.5)] for x in uniforms(key, np.arange(n))] for key in keys]

    def values(self, states):
        return np.zeros(len(states))

    def ended(self, states):
        return np.array([len(path) >= DEPTH for _, path in states])

    def finish(self, states, *, keys, temperature):
        rest = [
            self.propose([s], DEPTH - len(s[1]), [derive(key, 7)])[0]
            for s, key in zip(states, keys, strict=True)
        ]
        found = [(*path, *steps) for (_, path), steps in zip(states, rest, strict=True)]
        self.played += [(p, path) for (p, _), path in zip(states, found, strict=True)]
        return found


def grow(problems: int, **settings):
    task, domain = coin_task(problems, DEPTH), Digits()
    keys = np.arange(problems, dtype=np.uint64) + np.uint64(5)
    trees = grow_by_playouts(task, task.train, domain, PlayoutSearch(**settings), keys=keys, temperature=1.0)
    return task, domain, trees


def test_scores() -> None:
    """Oracle: the formula with Python's floats, for two parents at once."""
    values, visits = np.array([[0.5, 0.0], [1.0, 0.25]]), np.array([[3, 0], [8, 1]])
    priors, above = np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([4, 9])
    wanted = [
        [values[i, j] + 1.5 * priors[i, j] * above[i] ** 0.5 / (1 + visits[i, j]) for j in range(2)]
        for i in range(2)
    ]
    np.testing.assert_allclose(puct(values, visits, priors, above, 1.5), wanted)


@pytest.mark.parametrize("playouts", [1, 3])
def test_counts_and_values_are_those_of_the_playouts(playouts: int) -> None:
    """Oracle: every iteration counts at the root, whose Q is the mean of its children's, weighted by N."""
    _, _, trees = grow(3, iterations=12, branch=2, playouts=playouts)
    for tree in trees:
        assert tree.visits[0] == 12
        for node in range(len(tree.parents)):
            below = [i for i, parent in enumerate(tree.parents) if parent == node and tree.visits[i]]
            if not below or node in tree.right or tree.parents[node] < 0:
                continue
            assert sum(tree.visits[i] for i in below) <= playouts * tree.visits[node]
            assert 0 <= tree.values[node] <= 1
        tops = [i for i, parent in enumerate(tree.parents) if parent == 0]
        weights = np.array([tree.visits[i] for i in tops])
        assert weights.sum() == 12  # every iteration goes through a child of the root
        assert np.average([tree.values[i] for i in tops], weights=weights) == pytest.approx(tree.values[0])


def test_every_finished_path_is_in_its_tree_with_its_verdict() -> None:
    """Oracle: what the domain played, and the rule that the last step ends in 1; verified once each."""
    task, domain, trees = grow(4, iterations=10, branch=2)
    played = Counter(domain.played)
    for t, tree in enumerate(trees):
        paths = {tree.path(leaf): ok for leaf, ok in tree.right.items()}
        assert {path for p, path in played if p == t} <= set(paths)
        assert all(ok == path[-1].endswith("1") and len(path) == DEPTH for path, ok in paths.items())
        assert len(set(map(tree.path, range(len(tree.steps))))) == len(tree.steps)
    calls = task.meter.snapshot()["verifier_calls"]
    assert calls == sum(len(tree.right) for tree in trees)


def test_a_tree_does_not_depend_on_its_neighbours() -> None:
    """Oracle: the same trees searched in one batch and in a smaller one."""
    assert grow(4, iterations=8)[2][:2] == grow(2, iterations=8)[2]


def test_exploitation_follows_the_reward() -> None:
    """Oracle: without exploration the search keeps to a child that has always won once it has been seen."""
    _, _, (tree,) = grow(1, iterations=40, branch=2, exploration=0.0)
    tops = [i for i, parent in enumerate(tree.parents) if parent == 0]
    best = max(tops, key=lambda i: tree.values[i])
    assert tree.visits[best] == max(tree.visits[i] for i in tops)


def test_steps_that_go_back_are_no_leaves() -> None:
    """Oracle: a policy that already goes back; its returns are left out of the tree's solutions."""
    task, domain = coin_task(1, DEPTH), Digits()
    task.form = type(task.form)(ended=task.form.ended, answer=task.form.answer, returns=SYMBOLS)
    domain.propose = lambda states, n, keys: [["?<0", "1-1"][:n] for _ in states]
    trees = grow_by_playouts(
        task,
        task.train,
        domain,
        PlayoutSearch(iterations=40, branch=2, exploration=9.0),
        keys=np.zeros(1, np.uint64),
        temperature=1.0,
    )
    assert trees[0].right and all("?<0" not in trees[0].path(leaf) for leaf in trees[0].right)


def test_a_playout_ends_where_its_solution_does() -> None:
    """Oracle: a policy that writes two steps too many: no leaf has them."""
    task, domain = coin_task(3, DEPTH), Digits()
    finish = domain.finish

    def too_long(states, **how):
        paths = zip(states, finish(states, **how), strict=True)
        return [path if len(begun) == DEPTH else (*path, *path[:2]) for (_, begun), path in paths]

    domain.finish = too_long
    keys, settings = np.arange(3, dtype=np.uint64), PlayoutSearch(iterations=12, branch=2)
    trees = grow_by_playouts(task, task.train, domain, settings, keys=keys, temperature=1.0)
    assert all(len(tree.path(leaf)) == DEPTH for tree in trees for leaf in tree.right)
    assert sum(len(tree.right) for tree in trees) > 3


@pytest.mark.parametrize("field", ["iterations", "branch", "playouts"])
def test_settings_out_of_range(field: str) -> None:
    """Oracle: each field at 0; a negative weight; the defaults pass."""
    with pytest.raises(UsageError):
        PlayoutSearch(**{field: 0}).validate()
    with pytest.raises(UsageError):
        PlayoutSearch(exploration=-1.0).validate()
    PlayoutSearch().validate()
