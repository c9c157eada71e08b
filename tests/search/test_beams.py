from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.search.beams import TreeOfThought, tree_of_thought_bfs, tree_of_thought_dfs
from selfstudy.search.tree import Forest

from .reference import Thought
from .toy import Hidden, Table, keys

SEARCHES = {False: tree_of_thought_bfs, True: tree_of_thought_dfs}
tables = st.builds(
    Table,
    length=st.integers(1, 4),
    digits=st.integers(1, 4),
    levels=st.sampled_from([None, 4]),
    early=st.sampled_from([0.0, 0.2]),
    dead=st.sampled_from([0.0, 0.3]),
    salt=st.integers(0, 99),
)
searches = st.builds(
    TreeOfThought,
    branch=st.integers(1, 4),
    keep=st.integers(1, 3),
    depth=st.integers(1, 5),
    nodes=st.sampled_from([1, 10, 200]),
    end_gate=st.sampled_from([0.7, 0.98, 1.0]),
)


@given(tables, searches, st.integers(1, 4), st.booleans())
@budget(max_examples=150, deadline=None, derandomize=True)
def test_arrays_equal_objects(domain, settings, trees, depth_first):
    """Oracle: the recursive object search of reference.py, whose nodes come in the same order."""
    forest = SEARCHES[depth_first](domain, range(trees), settings, keys(trees))
    for t in range(trees):
        slow = Thought(domain, t, settings, keys(trees)[t], depth_first)
        assert [forest.state(t, i) for i in range(forest.size[t])] == [node.state for node in slow.nodes]
        assert forest.value[t, : forest.size[t]].tolist() == [node.value for node in slow.nodes]
        assert forest.answer[t] == slow.answer.index


@given(tables, searches, st.integers(1, 6), st.booleans())
@budget(max_examples=40, deadline=None, derandomize=True)
def test_lockstep_equals_sequential(domain, settings, trees, depth_first):
    """Oracle: separate searches with the same keys, exactly."""
    search = SEARCHES[depth_first]
    together = search(domain, range(trees), settings, keys(trees))
    alone = [search(domain, [t], settings, keys(trees)[t : t + 1]) for t in range(trees)]
    assert together == Forest.concatenate(alone)


def test_breadth_first_keeps_the_best():
    """Closed form: with all digits drawn and exact values, two paths of each length are enough."""
    domain = Hidden(length=5, digits=3, skill=0.9)
    forest = tree_of_thought_bfs(domain, range(20), TreeOfThought(branch=8, depth=5), keys(20))
    right = [forest.path(t, forest.answer[t]) == domain.target(t) for t in range(20)]
    assert sum(right) >= 19  # one step is missed with probability 1e-8


@pytest.mark.parametrize("depth_first", [False, True])
def test_a_finished_path_below_the_gate_is_an_answer(depth_first):
    """Closed form: the finished path (0.3) is preferred to an unfinished leaf of higher value (0.6)."""

    class Domain:
        def propose(self, states, n, keys):
            return [["end", "go"][:n] for _ in states]

        def values(self, states):
            return np.array([0.3 if path[-1] == "end" else 0.6 for _, path in states])

        def ended(self, states):
            return np.array([path[-1] == "end" for _, path in states])

    settings = TreeOfThought(branch=2, keep=1, depth=3)
    forest = SEARCHES[depth_first](Domain(), [0], settings, keys(1))
    assert forest.path(0, forest.answer[0]) == ("go", "go", "end")
    assert forest.size[0] == 7


@pytest.mark.parametrize("depth_first", [False, True])
def test_nothing_valid_at_all(depth_first):
    """Degenerate: the answer of a tree without any step is its root; no trees give an empty forest."""
    domain = Table(dead=1.1)
    forest = SEARCHES[depth_first](domain, [0], TreeOfThought(), keys(1))
    assert forest.answer[0] == 0 and forest.size[0] == 1 and forest.ended[0, 0]
    assert len(SEARCHES[depth_first](domain, [], TreeOfThought(), keys(0))) == 0


@pytest.mark.parametrize("depth_first", [False, True])
@pytest.mark.parametrize(
    "wrong", [{"branch": 0}, {"keep": 0}, {"depth": 0}, {"nodes": 0}, {"end_gate": 0.0}, {"low": 1.0}]
)
def test_bad_settings(wrong, depth_first):
    """Refused by name before the domain is asked anything."""
    domain = Table()
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SEARCHES[depth_first](domain, [0], TreeOfThought(**wrong), keys(1))
    with pytest.raises(UsageError, match="one key"):
        SEARCHES[depth_first](domain, [0], TreeOfThought(), keys(2))
    assert not any(domain.calls.values())


def test_check_can_stop_a_search():
    """Oracle: a check that raises at once leaves the domain unasked."""

    def check():
        raise KeyboardInterrupt

    for search in SEARCHES.values():
        domain = Table()
        with pytest.raises(KeyboardInterrupt):
            search(domain, [0], TreeOfThought(), keys(1), check=check)
        assert not domain.calls["propose"]
