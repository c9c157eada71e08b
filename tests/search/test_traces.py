"""From trees to walks: order, common ancestors, and nothing written twice."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data.walks import branches
from selfstudy.search.traces import SolutionTree, choose_wrong, linearise, shared


def tree_of(parents: list[int], right: dict[int, bool]) -> SolutionTree:
    """A tree whose steps are the names of their nodes; wrong leaves state 0, right ones 1."""
    tree = SolutionTree()
    for node, parent in enumerate(parents, start=1):
        tree.add(parent, f"n{node}")
    for node, ok in right.items():
        tree.finish(node, str(int(ok)), ok)
    return tree


# 0 - 1 - 2 (wrong), 1 - 3 - 4 (right), 3 - 5 (wrong), 0 - 6 (wrong)
SEVEN = tree_of([0, 1, 1, 3, 3, 0], {2: False, 4: True, 5: False, 6: False})


def test_the_walk_of_seven_nodes() -> None:
    """Oracle: the walk worked out by hand; common ancestors are node 1, node 3 (the parent) and the root."""
    assert linearise(SEVEN, 4, [2, 5]) == ["n1", "n2", 1, "n3", "n5", 2, "n4"]
    assert linearise(SEVEN, 4, [5, 2]) == linearise(SEVEN, 4, [2, 5])
    assert linearise(SEVEN, 4, [6]) == ["n6", 0, "n1", "n3", "n4"]
    assert linearise(SEVEN, 4, [5]) == ["n1", "n3", "n5", 2, "n4"]
    assert linearise(SEVEN, 4, [6, 2, 5]) == ["n6", 0, "n1", "n2", 1, "n3", "n5", 2, "n4"]
    assert linearise(SEVEN, 4, []) == ["n1", "n3", "n4"]
    assert [shared(SEVEN, 2, 4), shared(SEVEN, 5, 4), shared(SEVEN, 6, 4)] == [1, 2, 0]


def test_leaves_on_one_path_are_refused() -> None:
    """Oracle: going back from a leaf to itself, or past one, is no walk."""
    for wrong in ([4], [2, 2], [3]):
        with pytest.raises(UsageError, match="lie on one path"):
            linearise(SEVEN, 4, wrong)


@st.composite
def trees(draw) -> tuple[SolutionTree, int, list[int]]:
    parents = [draw(st.integers(0, node)) for node in range(draw(st.integers(2, 14)))]
    leaves = [node for node in range(1, len(parents) + 1) if node not in parents]
    right = draw(st.sampled_from(leaves))
    wrong = [leaf for leaf in leaves if leaf != right]
    chosen = draw(st.lists(st.sampled_from(wrong), unique=True)) if wrong else []
    return tree_of(parents, {leaf: leaf == right for leaf in leaves}), right, chosen


@given(trees())
@settings(max_examples=150)
def test_replaying_a_walk_visits_edges_of_the_tree_once(drawn) -> None:
    """Oracle: the tree's own edges; each branch ends in its leaf, each return at the common ancestor."""
    tree, right, wrong = drawn
    walk = linearise(tree, right, wrong)
    node, written, ends = 0, [], []
    for item in walk:
        if isinstance(item, int):
            ends.append(node)
            node = [0, *tree.line(node)][item]
        else:
            (child,) = [i for i, p in enumerate(tree.parents) if p == node and tree.steps[i] == item]
            written.append(child)
            node = child
    assert node == right and sorted(ends) == sorted(wrong)
    assert len(written) == len(set(written))
    targets = [item for item in walk if isinstance(item, int)]
    assert targets == [shared(tree, a, b) for a, b in pairwise([*ends, right])]
    assert branches(walk) == [tree.path(leaf) for leaf in [*ends, right]]


def test_wrong_leaves_are_finished_and_state_something_else() -> None:
    """Oracle: by hand: no answer, and the answer of the right leaf, are no mistakes to learn from."""
    tree = tree_of([0, 0, 0, 0], {1: True, 2: False, 3: False, 4: False})
    tree.answers[3], tree.answers[4] = "1", None
    assert tree.wrong_leaves(1) == [2]
    assert choose_wrong(tree, 1, 3, np.random.default_rng(0)) == [2]
    assert choose_wrong(tree, 1, 0, np.random.default_rng(0)) == []


def test_wrong_leaves_that_share_more_are_likelier() -> None:
    """Oracle: the weights 1 + shared steps, 2 : 3 : 1, within 4 standard errors of 3000 draws."""
    rng = np.random.default_rng(0)
    drawn = [choose_wrong(SEVEN, 4, 1, rng)[0] for _ in range(3000)]
    shares = [drawn.count(leaf) / 3000 for leaf in (2, 5, 6)]
    np.testing.assert_allclose(shares, np.array([2, 3, 1]) / 6, atol=4 * 0.5 / 3000**0.5)


def test_the_best_right_leaf_comes_first() -> None:
    """Oracle: mean Q over the path, by hand; of equals the older."""
    tree = tree_of([0, 1, 0, 3, 3], {2: True, 4: True, 5: True})
    for node, value in ((1, 0.9), (2, 0.1), (3, 0.6), (4, 0.6), (5, 0.6)):
        tree.values[node] = value
    assert tree.right_leaves() == [4, 5, 2]


def test_trees_come_back_from_json() -> None:
    """Oracle: equality after a round through text, in which keys become text."""
    assert SolutionTree.from_json(json.loads(json.dumps(SEVEN.to_json()))) == SEVEN
