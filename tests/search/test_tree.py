from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.tree import NO_NODE, Forest, sprout

from .toy import Table, keys, make_forest


def grown(trees=4, iterations=9, collect=True):
    domain = Table(length=4, dead=0.0)
    return grow(
        domain, range(10, 10 + trees), TreeSearch(iterations=iterations), keys(trees), collect=collect
    )


@given(st.integers(0, 5), st.integers(1, 12), st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_json_round_trip(trees, iterations, collect):
    """Law: text and back gives an equal forest, in every array."""
    forest = grown(trees, iterations, collect)
    again = Forest.from_json(json.loads(json.dumps(forest.to_json())))
    assert again == forest
    for name in ("depth", "children", "parent", "value", "prior", "visits"):
        np.testing.assert_array_equal(getattr(again, name), getattr(forest, name))


def test_tuple_actions_survive_json():
    """Law: JSON's lists become hashable tuples again, at any depth."""
    forest = make_forest([-1, 0])
    forest.actions[0][1] = ("add", ("x", 2))
    assert Forest.from_json(json.loads(json.dumps(forest.to_json()))).path(0, 1) == (("add", ("x", 2)),)


def test_equality_sees_every_field():
    """Oracle: changing any single number makes forests unequal; spare room does not."""
    forest = grown()
    assert forest == grown() and forest != "forest"
    roomy = grown()
    roomy.reserve(500)
    assert roomy == forest and roomy.parent.shape[1] == 500
    for name in ("problems", "answer", "parent", "depth", "visits", "prior", "value", "children"):
        other = grown()
        getattr(other, name).flat[0] += 1
        assert other != forest, name
    for name in ("expanded", "ended"):
        other = grown()
        getattr(other, name).flat[0] ^= True
        assert other != forest, name
    other = grown()
    other.actions[1][1] = "x"
    assert other != forest
    other = grown()
    other.end_gate = 0.5
    assert other != forest


def test_path_state_leaves():
    """Oracle: a tree drawn by hand: 0 - (1 - (3), 2)."""
    forest = make_forest([-1, 0, 0, 1], values=[0.0, 0.1, 0.95, 0.2], ended=[3])
    assert forest.path(0, 3) == (1, 3) and forest.path(0, 0) == ()
    assert forest.state(0, 2) == (0, (2,))
    assert forest.leaves(0).tolist() == [2, 3]
    assert forest.depth[0].tolist() == [0, 1, 1, 2]
    assert forest.children[0].tolist() == [[1, 2], [3, -1], [-1, -1], [-1, -1]]


def test_end_leaves():
    """Oracle: leaves at the gate or ended; never inner nodes, whatever their value."""
    forest = make_forest([-1, 0, 0, 0, 1], values=[1.0, 1.0, 0.9, 0.8, 0.1], ended=[4])
    assert forest.end_leaves(0).tolist() == [2, 4]
    assert forest.end_leaves(0, end_gate=0.8).tolist() == [2, 3, 4]


def test_highest_takes_the_last_of_equals():
    """Closed form."""
    forest = make_forest([-1, 0, 0, 0], values=[0.0, 0.7, 0.7, 0.2])
    assert forest.highest(0, np.array([1, 2, 3])) == 2


def test_select_and_concatenate():
    """Law: the parts of a forest joined in order are the forest; a copy does not change with its source."""
    forest = grown(5)
    parts = [forest.select([0, 1]), forest.select([]), forest.select([2, 3, 4])]
    assert Forest.concatenate(parts) == forest
    swapped = forest.select([3, 1])
    assert swapped.problems.tolist() == [13, 11] and swapped.path(0, 3) == forest.path(3, 3)
    forest.value[3] = 0.123
    forest.actions[3].append("x")
    assert not (swapped.value[0] == 0.123).any() and len(swapped.actions[0]) == swapped.size[0]


def test_concatenate_refuses_different_searches():
    """Different shapes of trees cannot share arrays."""
    with pytest.raises(DataError, match="branch"):
        Forest.concatenate([make_forest([-1, 0], branch=2), make_forest([-1, 0], branch=3)])
    with pytest.raises(DataError, match="at least one"):
        Forest.concatenate([])


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.pop("branch"),
        lambda record: record["trees"][0].pop("visits"),
        lambda record: record["trees"][0]["visits"].pop(),
        lambda record: record["trees"][0]["actions"].pop(),
        lambda record: record["trees"][0]["parent"].__setitem__(1, 7),
        lambda record: record["trees"][0]["parent"].__setitem__(2, 2),
        lambda record: record.update(branch=1),
        lambda record: record["trees"][0].update(ended=[99]),
    ],
)
def test_damaged_records_are_refused(damage):
    """Each is a data error that names the format."""
    record = make_forest([-1, 0, 0]).to_json()
    damage(record)
    with pytest.raises(DataError, match="record of search trees"):
        Forest.from_json(record)


def test_sprout_merges_duplicates_and_closes_dead_ends():
    """Oracle: proposals given by hand, two leaves of one tree and one of another in one call."""

    class Domain:
        def propose(self, states, n, keys):
            return [["a", "b", "a"], [], ["c"]]

        def values(self, states):
            assert states == [(0, (1, "a")), (0, (1, "b")), (0, ("c",))]
            return np.array([0.1, 0.2, 0.3])

    forest = Forest.concatenate([make_forest([-1, 0, 0], branch=3), make_forest([-1], branch=3)])
    trees, nodes = sprout(forest, Domain(), np.array([0, 0, 1]), np.array([1, 2, 0]), keys(3), 0.0, 1.0)
    assert trees.tolist() == [0, 0, 1] and nodes.tolist() == [3, 4, 1]
    assert forest.children[0, 1].tolist() == [3, 4, NO_NODE]
    assert forest.expanded[0].tolist()[:5] == [True, True, False, False, False]
    assert forest.ended[0].tolist()[:5] == [False, False, True, False, False]
    assert forest.value[1, 1] == 0.3 and forest.depth[0, 3] == 2 and forest.size.tolist() == [5, 2]
