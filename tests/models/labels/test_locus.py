"""Which labels can be reached, by closed forms and by linear programs; which to observe next."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest

from selfstudy.models.labels import locus as module
from selfstudy.models.labels.building import edges_space, embedding_space, matrix_space
from selfstudy.models.labels.locus import (
    distance_to,
    grid_locus,
    margins,
    next_classes,
    pairwise_locus,
    program_locus,
    reachable,
    tree_locus,
)
from selfstudy.models.labels.rule import LokiRule
from selfstudy.models.labels.spaces import LabelTree


def random_tree(seed: int, most: int = 12) -> tuple[LabelTree, np.ndarray]:
    """A tree of 3 to `most` nodes with uneven edges, and two or more observed nodes."""
    random = np.random.default_rng(seed)
    nodes = int(random.integers(3, most + 1))
    edges = np.array([[random.integers(node), node] for node in range(1, nodes)])
    tree = edges_space(edges, random.choice([0.5, 1.0, 2.0, 3.0], nodes - 1))
    assert isinstance(tree, LabelTree)
    return tree, random.permutation(nodes)[: int(random.integers(2, nodes + 1))]


def paths(tree: LabelTree, observed: np.ndarray) -> np.ndarray:
    """The union of the paths between pairs: y is on one where d(a, y) + d(y, b) = d(a, b)."""
    far = tree.distances(np.arange(len(tree.names)))
    found = np.isin(np.arange(len(far)), observed)
    for a, b in itertools.combinations(observed, 2):
        found |= np.isclose(far[a] + far[b], far[a, b])
    return found


def test_trees_against_linear_programs_and_paths() -> None:
    """Oracle: on 100 random trees, linear programs, the union of paths, and pairs of observed nodes alone."""
    for seed in range(100):
        tree, observed = random_tree(seed)
        found = tree_locus(tree, observed)
        assert (found == paths(tree, observed)).all()
        assert (found == program_locus(tree.distances(observed) ** 2, observed)).all()
        if seed % 5 == 0 and len(observed) < 5:
            assert (found == pairwise_locus(tree, observed)).all()


def test_leaves_cover_a_tree() -> None:
    """Oracle: all leaves observed, everything is within reach; one less, it is not."""
    for seed in range(20):
        tree, _ = random_tree(seed)
        degree = np.bincount(tree.parents[tree.parents >= 0], minlength=len(tree.names)) + (tree.parents >= 0)
        leaves = np.flatnonzero(degree == 1)
        assert tree_locus(tree, leaves).all() and not tree_locus(tree, leaves[1:]).all()


def test_what_is_reachable_is_reached_and_the_rest_is_not() -> None:
    """Oracle: predictions from many probabilities, on a space of points in the plane."""
    points = np.random.default_rng(3).standard_normal((15, 2))
    observed = np.array([0, 4, 7, 11])
    rule = LokiRule(embedding_space(points), observed)
    within = rule.reachable()
    told = np.unique(rule.predict(np.random.default_rng(0).dirichlet(np.ones(4), 20_000)))
    assert within is not None and within[told].all()
    assert set(np.flatnonzero(within)) == {*told.tolist(), *observed.tolist()}


def test_lines_and_complete_graphs() -> None:
    """Oracle: all between the outermost numbers; the observed ones alone; linear programs in both cases."""
    numbers = np.array([3.0, -1.0, 0.0, 10.0, 4.5, 7.0])
    line, observed = embedding_space(numbers[:, None]), np.array([2, 5])
    assert reachable(line, observed).tolist() == [True, False, True, False, True, True]  # type: ignore[union-attr]
    assert (reachable(line, observed) == program_locus(line.distances(observed) ** 2, observed)).all()
    complete = matrix_space(3 * (1 - np.eye(6)))
    assert np.flatnonzero(reachable(complete, observed)).tolist() == [2, 5]  # type: ignore[arg-type]
    assert (program_locus(complete.distances(observed) ** 2, observed) == reachable(complete, observed)).all()


def test_grids() -> None:
    """Oracle: linear programs on grids of streets; two opposite corners reach all, by ties alone."""
    random = np.random.default_rng(1)
    for _ in range(15):
        shape = tuple(int(size) for size in random.integers(2, 5, 2))
        rows, columns = np.unravel_index(np.arange(shape[0] * shape[1]), shape)
        far = np.abs(rows[:, None] - rows) + np.abs(columns[:, None] - columns)
        observed = random.permutation(len(rows))[:3]
        costs = far[observed].astype(float) ** 2
        assert (grid_locus(shape, observed) == program_locus(costs, observed)).all()  # type: ignore[arg-type]
    corners = np.array([0, 8])
    assert grid_locus((3, 3), corners).all()
    rows, columns = np.divmod(np.arange(9), 3)
    costs = (np.abs(rows[corners, None] - rows) + np.abs(columns[corners, None] - columns)) ** 2.0
    alone = program_locus(costs, corners, unique=True)
    assert np.flatnonzero(alone).tolist() == [0, 8]


def test_margins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: by hand on a line 0, 1, 2 with its ends observed: at p = 1/2 the middle costs 1, the ends 2;
    a point beyond an end is never cheaper than the end; in one program or two."""
    costs = np.array([[0.0, 1.0, 4.0], [4.0, 1.0, 0.0]])
    assert margins(costs, np.array([1])) == pytest.approx(1 / costs.mean())
    monkeypatch.setattr(module, "TOGETHER", 20)
    beyond = np.array([[0.0, 1.0, 4.0, 9.0], [4.0, 1.0, 0.0, 1.0]])
    assert margins(beyond, np.array([3, 1, 3])) == pytest.approx(np.array([-1, 1, -1]) / beyond.mean())


def test_next_on_a_star_and_on_a_path() -> None:
    """Oracle: leaves of a star, the farther end of a path first, then the other, then nothing is left."""
    star = edges_space(np.stack([np.zeros(5), np.arange(1, 6)], 1).astype(int))
    assert next_classes(star, np.array([0]), 10) == [1, 2, 3, 4, 5]
    path = edges_space(np.stack([np.arange(9), np.arange(1, 10)], 1))
    assert next_classes(path, np.array([3]), 10) == [9, 0]
    line = embedding_space(np.arange(10.0)[:, None])
    assert LokiRule(line, [3, 4]).next_class(10) == [9, 0]
    assert LokiRule(line, [0, 9]).next_class(3) == []


def test_next_on_trees_is_the_best_there_is() -> None:
    """Oracle: all sets of two more nodes tried, on trees with edges of length 1: none covers more."""
    for seed in range(12):
        tree, observed = random_tree(seed, most=9)
        even = edges_space(np.stack([tree.parents[1:], np.arange(1, len(tree.names))], 1))
        assert isinstance(even, LabelTree)
        chosen = next_classes(even, observed[:1], 2)
        best = max(
            tree_locus(even, np.array([observed[0], *more])).sum()
            for more in itertools.combinations(range(len(even.names)), 2)
        )
        assert tree_locus(even, np.array([observed[0], *chosen])).sum() == best


def test_distance_to_marked_nodes() -> None:
    """Oracle: the least of the rows of the square of distances."""
    for seed in range(10):
        tree, observed = random_tree(seed)
        marked = np.isin(np.arange(len(tree.names)), observed)
        far = tree.distances(np.arange(len(tree.names)))[observed].min(0)
        assert np.allclose(distance_to(tree, marked), far)


def test_next_elsewhere_reaches_most() -> None:
    """Oracle: every label tried, on points in the plane; then nothing where all is within reach."""
    points = np.random.default_rng(5).standard_normal((10, 2))
    space, observed = embedding_space(points), np.array([0, 1])
    (chosen,) = next_classes(space, observed)
    covered = [reachable(space, np.append(observed, y)).sum() for y in range(2, 10)]  # type: ignore[union-attr]
    assert reachable(space, np.append(observed, chosen)).sum() == max(covered)  # type: ignore[union-attr]


def test_next_among_very_many(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: with more labels than are looked at, the one farthest from the observed ones; it is said."""
    monkeypatch.setattr(module, "PROGRAMS", 5)
    points = np.array([[0.0, 0], [1, 0], [0, 5], [2, 2], [1, 1], [0, 1]])
    space = embedding_space(points)
    assert reachable(space, np.array([0, 1])) is None
    with caplog.at_level(logging.WARNING):
        assert next_classes(space, np.array([0, 1]), 2) == [2, 3]
    assert "farthest from the observed ones" in caplog.text
