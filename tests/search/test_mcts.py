from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import uniforms
from selfstudy.search import mcts
from selfstudy.search.mcts import TreeSearch, best_answer, best_end_leaf, grow
from selfstudy.search.phases import MCTS_STAR, Search, backup, score_children, upper_confidence
from selfstudy.search.tree import NO_NODE, Forest

from .reference import Mcts
from .toy import Hidden, Table, keys, make_forest

GOLDEN = Path(__file__).parent / "golden" / "mcts_star.json"

tables = st.builds(
    Table,
    length=st.integers(1, 4),
    digits=st.integers(1, 4),
    levels=st.sampled_from([None, 1, 4]),
    early=st.sampled_from([0.0, 0.2]),
    dead=st.sampled_from([0.0, 0.3]),
    salt=st.integers(0, 99),
)
searches = st.builds(
    TreeSearch,
    iterations=st.integers(1, 15),
    branch=st.integers(1, 4),
    roll_branch=st.integers(1, 3),
    roll_steps=st.integers(1, 3),
    exploration=st.sampled_from([0.0, 0.5, 2.0]),
    unvisited=st.sampled_from([0.0, 0.9, 5.0]),
    end_gate=st.sampled_from([0.5, 0.9, 0.98, 1.0]),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
)
quick = budget(max_examples=60, deadline=None, derandomize=True)


def by_hand(forest: Forest, settings: TreeSearch) -> Search:
    judged = np.zeros(forest.parent.shape, dtype=bool)
    return Search(Table(), settings, MCTS_STAR, forest, keys(len(forest)), True, judged)


@given(tables, searches, st.integers(1, 4), st.booleans())
@budget(max_examples=150, deadline=None, derandomize=True)
def test_arrays_equal_objects(domain, settings, trees, collect):
    """Oracle: the recursive object search of reference.py, node by node."""
    forest = grow(domain, range(trees), settings, keys(trees), collect=collect)
    for t in range(trees):
        slow = Mcts(domain, t, settings, keys(trees)[t], collect)
        assert forest.size[t] == len(slow.nodes)
        for i, node in enumerate(slow.nodes):
            assert forest.state(t, i) == node.state
            assert forest.visits[t, i] == node.visits
            assert forest.prior[t, i] == node.prior
            assert forest.value[t, i] == pytest.approx(node.value, abs=1e-12)
            assert forest.expanded[t, i] == bool(node.children)
            assert forest.ended[t, i] == node.end
            assert [c for c in forest.children[t, i] if c != NO_NODE] == [c.index for c in node.children]
        assert forest.answer[t] == (slow.answer.index if slow.answer else NO_NODE)


@given(tables, searches, st.integers(0, 8), st.booleans())
@quick
def test_lockstep_equals_sequential(domain, settings, trees, collect):
    """Oracle: T separate searches with the same keys, exactly."""
    together = grow(domain, range(trees), settings, keys(trees), collect=collect)
    alone = [grow(domain, [t], settings, keys(trees)[t : t + 1], collect=collect) for t in range(trees)]
    if alone:
        assert together == Forest.concatenate(alone)
    else:
        assert len(together) == 0


@given(tables, searches, st.booleans())
@quick
def test_invariants(domain, settings, collect):
    """Laws: one visit of the root per iteration, values in range, backed-up nodes are weighted means."""
    forest = grow(domain, range(3), settings, keys(3), collect=collect)
    for t in range(3):
        size = forest.size[t]
        stopped = forest.answer[t] != NO_NODE
        assert forest.visits[t, 0] == settings.iterations if not stopped else forest.visits[t, 0] < 15
        assert ((forest.value[t, :size] >= -1e-12) & (forest.value[t, :size] <= 1 + 1e-12)).all()
        for node in np.flatnonzero(forest.expanded[t]):
            below = [child for child in forest.children[t, node] if child != NO_NODE]
            assert len({forest.actions[t][child] for child in below}) == len(below)
            mean = np.average(forest.value[t, below], weights=forest.visits[t, below])
            assert forest.value[t, node] == pytest.approx(mean)
            # A child's first visit is a look-ahead, counted in the same iteration as its parent's backup; the
            # node has one visit more if a look-ahead started from itself.
            assert forest.visits[t, node] - forest.visits[t, below].sum() in ((0,) if node == 0 else (0, 1))
        if stopped:
            assert not collect and forest.value[t, forest.answer[t]] >= settings.end_gate


def test_one_batch_whatever_the_number_of_trees():
    """Oracle: a count. Per iteration one expansion and R looks ahead; each asks about all trees at once."""
    settings = TreeSearch(iterations=6, roll_steps=2, end_gate=1.0)
    for trees in (1, 20):
        domain = Table(length=9, early=0.0, dead=0.0)
        grow(domain, range(trees), settings, keys(trees), collect=False)
        assert len(domain.calls["propose"]) == len(domain.calls["values"]) == 6 * 3
        assert len(domain.calls["ended"]) <= 6 * 3  # the leaf, the best child, the first state ahead
        assert len(domain.calls["propose"][0]) == trees


def test_no_node_is_asked_about_twice():
    """Oracle: a count of the self-critic's questions, with look-aheads of one step (which ask nothing)."""
    for collect in (False, True):
        domain = Table(length=4, early=0.0, dead=0.0, digits=9)
        grow(domain, [0], TreeSearch(iterations=40, end_gate=1.0), keys(1), collect=collect)
        asked = list(itertools.chain.from_iterable(domain.calls["ended"]))
        assert len(asked) == len(set(asked)) > 10


def test_backup_by_hand():
    """Closed form: (0.2, 1), (0.8, 3), (0.9, 0) give 2.6 / 4."""
    forest = make_forest([-1, 0, 0, 0], values=[0.0, 0.2, 0.8, 0.9], visits=[4, 1, 3, 0])
    backup(by_hand(forest, TreeSearch(iterations=1)), np.array([0]), np.array([0]))
    assert forest.value[0, 0] == pytest.approx(0.65)
    assert forest.visits[0].tolist() == [5, 1, 3, 0]


def test_backup_goes_up_to_the_root_and_leaves_a_leaf_its_value():
    """Closed form: leaf 2 below node 1 below the root."""
    forest = make_forest([-1, 0, 1], values=[0.1, 0.2, 0.8], visits=[2, 2, 1])
    backup(by_hand(forest, TreeSearch(iterations=1)), np.array([0]), np.array([2]))
    assert forest.value[0].tolist() == [pytest.approx(0.8)] * 3
    assert forest.visits[0].tolist() == [3, 3, 2]


def test_selection_by_hand():
    """Closed forms: 0.3 + 0.9 for a new child; V + c sqrt(2 ln N / n) for a visited one."""
    forest = make_forest([-1, 0, 0], values=[0.0, 0.3, 0.5], visits=[5, 0, 2])
    search = by_hand(forest, TreeSearch(iterations=1))
    scores = score_children(search, np.array([0]), np.array([0]))
    np.testing.assert_allclose(scores, [[1.2, 0.5 + 0.5 * math.sqrt(2 * math.log(5) / 2)]])


def test_without_exploration_the_highest_value_is_selected():
    """Limit: c_e = 0 and all visited; V alone decides, whatever the visits."""
    forest = make_forest([-1, 0, 0, 0], values=[0.0, 0.4, 0.6, 0.5], visits=[9, 1, 7, 1])
    search = by_hand(forest, TreeSearch(iterations=1, exploration=0.0))
    assert search.best_child(np.array([0]), np.array([0]), 0).tolist() == [2]


def test_a_visited_good_child_can_beat_a_new_bad_one():
    """Closed form of the finite bonus: with a larger one the new child goes first."""
    arguments = np.array([0.9, 0.0]), np.array([1, 0]), np.array(3)
    small = upper_confidence(*arguments, exploration=0.5, unvisited=0.9)
    large = upper_confidence(*arguments, exploration=0.5, unvisited=5.0)
    assert small.argmax() == 0 and large.argmax() == 1


def test_ties_are_broken_evenly():
    """Statistics: 3000 first choices among 3 equal children; 4.5 sigma, false alarm below 3e-5."""
    forest = Forest.concatenate([make_forest([-1, 0, 0, 0])] * 3000)
    search = by_hand(forest, TreeSearch(iterations=1))
    chosen = search.best_child(np.arange(3000), np.zeros(3000, dtype=int), 0)
    counts = np.bincount(chosen, minlength=4)[1:]
    assert (abs(counts - 1000) < 4.5 * math.sqrt(3000 * 2 / 9)).all()


class Fixed:
    """The next actions and the value of each path are given; a path not listed has nothing after it."""

    def __init__(self, steps, values, ends=()):
        self.steps, self.table, self.ends = steps, values, set(ends)

    def propose(self, states, n, keys):
        return [list(self.steps.get(path, ""))[:n] for _, path in states]

    def values(self, states):
        return np.array([self.table["".join(path)] for _, path in states])

    def ended(self, states):
        return np.array(["".join(path) in self.ends for _, path in states])


def test_look_ahead_starts_at_low():
    """Closed form: a child after which nothing can be drawn moves towards low: 0.5 * 0.6 + 0.5 * 0."""
    domain = Fixed({(): "a"}, {"a": 0.6})
    forest = grow(domain, [0], TreeSearch(iterations=1), keys(1), collect=False)
    assert forest.value[0].tolist() == [0.3, 0.3] and forest.visits[0].tolist() == [1, 1]
    assert forest.prior[0].tolist() == [0.0, 0.6]


def test_look_ahead_takes_the_best_state_seen():
    """Closed form: states of 0.8 and 0.2 are seen after 0.4, alpha = 0.25: 0.3 + 0.2."""
    steps = {(): "a", ("a",): "b", ("a", "b"): "c"}
    domain = Fixed(steps, {"a": 0.4, "ab": 0.8, "abc": 0.2})
    settings = TreeSearch(iterations=1, roll_steps=3, alpha=0.25)
    assert grow(domain, [0], settings, keys(1), collect=False).value[0, 1] == pytest.approx(0.5)


def test_look_ahead_stops_where_solved():
    """Closed form: the state after a finished one (1.0) is not seen; the finished one counts 0.5."""
    steps = {(): "a", ("a",): "b", ("a", "b"): "c"}
    domain = Fixed(steps, {"a": 0.4, "ab": 0.5, "abc": 1.0}, ends=["ab"])
    settings = TreeSearch(iterations=1, roll_steps=3, alpha=1.0)
    assert grow(domain, [0], settings, keys(1), collect=False).value[0, 1] == 0.5


def test_a_finished_child_keeps_its_value():
    """Closed form: no look-ahead from a finished child."""
    domain = Fixed({(): "a", ("a",): "b"}, {"a": 0.4, "ab": 1.0}, ends=["a"])
    forest = grow(domain, [0], TreeSearch(iterations=1), keys(1), collect=False)
    assert forest.value[0].tolist() == [0.4, 0.4] and forest.ended[0].tolist() == [False, True]


def test_the_gate_reads_the_current_value():
    """Closed form: 0.8 becomes 0.9 by a look-ahead to 1.0; evaluation stops there, collection marks it."""
    domain = Fixed({(): "a", ("a",): "b"}, {"a": 0.8, "ab": 1.0})
    stopped = grow(domain, [0], TreeSearch(iterations=9), keys(1), collect=False)
    assert (stopped.answer[0], stopped.size[0], stopped.visits[0, 0]) == (1, 2, 1)
    whole = grow(domain, [0], TreeSearch(iterations=9), keys(1), collect=True)
    assert (whole.answer[0], whole.ended[0, 1], whole.visits[0, 0]) == (NO_NODE, True, 9)


def test_children_are_judged_at_once_only_when_collecting():
    """Oracle: both children are finished; only the child looked ahead from is known in evaluation."""
    domain = Fixed({(): "ab"}, {"a": 0.4, "b": 0.5}, ends=["a", "b"])
    for collect, ended in ((True, [1, 2]), (False, [2])):
        forest = grow(domain, [0], TreeSearch(iterations=1), keys(1), collect=collect)
        assert np.flatnonzero(forest.ended[0]).tolist() == ended


def test_an_exhausted_tree_ends_by_its_iterations():
    """Closed form: a single closed leaf, or a root after which nothing is valid, just collects visits."""
    forest = grow(Fixed({(): "a"}, {"a": 0.4}), [0], TreeSearch(iterations=50), keys(1), collect=False)
    assert forest.visits[0].tolist() == [50, 50] and forest.size[0] == 2
    empty = grow(Fixed({}, {}), [0], TreeSearch(iterations=50), keys(1), collect=True)
    assert empty.visits[0].tolist() == [50] and empty.ended[0, 0] and best_answer(empty, 0) == 0


def test_seconds_limit(monkeypatch):
    """Oracle: a clock that advances one second per look; the first look is the start."""
    clock = itertools.count()
    monkeypatch.setattr(mcts.time, "monotonic", lambda: float(next(clock)))
    settings = TreeSearch(seconds=4.0, end_gate=1.0)
    forest = grow(Table(), range(2), settings, keys(2), collect=True)
    assert forest.visits[:, 0].tolist() == [4, 4]
    same = grow(Table(), range(2), replace(settings, iterations=4, seconds=None), keys(2), collect=True)
    assert forest == same


def test_check_is_called_before_every_iteration():
    """Oracle: a check that raises the third time leaves two iterations' questions."""
    domain, calls = Table(length=9, early=0.0, dead=0.0), itertools.count()

    def check():
        if next(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grow(domain, [0], TreeSearch(iterations=9, end_gate=1.0), keys(1), collect=False, check=check)
    assert len(domain.calls["propose"]) == 4  # an expansion and a look-ahead each


def test_rules_can_be_replaced():
    """Oracle: a score that prefers the oldest child and no look-ahead make a walk along first children."""

    def oldest(search, trees, nodes):
        return -search.forest.children[trees, nodes].astype(float)

    rules = MCTS_STAR._replace(score=oldest, simulate=lambda search, trees, nodes: None)
    domain = Table(length=6, digits=5, early=0.0, dead=0.0)
    forest = grow(domain, [0], TreeSearch(iterations=6, end_gate=1.0), keys(1), collect=False, rules=rules)
    expanded = np.flatnonzero(forest.expanded[0])
    assert [0, *(int(forest.children[0, node, 0]) for node in expanded[:-1])] == expanded.tolist()


def test_answers_by_hand():
    """Closed forms: the gated node; else the best leaf, of equals the later; the best end leaf if any."""
    forest = make_forest([-1, 0, 0, 0], values=[0.95, 0.5, 0.7, 0.7], ended=[1])
    assert best_answer(forest, 0) == 3
    assert best_end_leaf(forest, 0) == 1
    forest.answer[0] = 1
    assert best_answer(forest, 0) == 1
    assert best_end_leaf(make_forest([-1, 0], values=[0.0, 0.5]), 0) is None
    assert best_end_leaf(make_forest([-1, 0], values=[0.0, 0.9]), 0) == 1


@pytest.mark.parametrize("collect", [False, True])
def test_exact_values_never_lead_to_a_wrong_answer(collect):
    """Oracle: the hidden target. With exact values, a right leaf in the tree is the answer."""
    domain, trees = Hidden(skill=0.5), 60
    forest = grow(domain, range(trees), TreeSearch(iterations=12), keys(trees), collect=collect)
    found = 0
    for t in range(trees):
        target = domain.target(t)
        if any(forest.path(t, leaf) == target for leaf in forest.leaves(t)):
            found += 1
            assert forest.path(t, best_answer(forest, t)) == target
    assert 20 < found < 60


class Constant:
    """Two steps, each right with probability 0.6 and never the same twice; every value is 0.5."""

    def propose(self, states, n, keys):
        drawn = uniforms(np.asarray(keys)[:, None], np.arange(n)).tolist()
        return [
            [] if len(path) == 2 else [(x < 0.6, x) for x in row]
            for (_, path), row in zip(states, drawn, strict=True)
        ]

    def values(self, states):
        return np.full(len(states), 0.5)

    def ended(self, states):
        return np.array([len(path) == 2 for _, path in states])


def test_constant_values_are_as_good_as_a_random_leaf():
    """Statistics: accuracy of 2000 answers against 0.6 ** 2; 4.5 sigma, false alarm below 1e-5."""
    trees = 2000
    forest = grow(Constant(), range(trees), TreeSearch(iterations=6), keys(trees), collect=True)
    leaves = [best_end_leaf(forest, t) for t in range(trees)]
    right = sum(all(step[0] for step in forest.path(t, leaf)) for t, leaf in enumerate(leaves))
    assert abs(right / trees - 0.36) < 4.5 * math.sqrt(0.36 * 0.64 / trees)


def golden_forest() -> Forest:
    domain = Table(length=3, digits=4, levels=20, early=0.1, dead=0.1, salt=13)
    settings = TreeSearch(iterations=9, roll_steps=2, roll_branch=2, end_gate=0.95)
    return Forest.concatenate(
        [grow(domain, [3, 4], settings, keys(2), collect=collect) for collect in (True, False)]
    )


def test_golden_trees():
    """Oracle: trees kept as JSON (after an intended change: write golden_forest().to_json() there)."""
    assert golden_forest() == Forest.from_json(json.loads(GOLDEN.read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": None},
        {"seconds": 1.0},
        {"iterations": 0},
        {"iterations": None, "seconds": -1.0},
        {"iterations": None, "seconds": math.nan},
        {"branch": 0},
        {"roll_branch": 0},
        {"roll_steps": 0},
        {"alpha": 1.5},
        {"alpha": -0.1},
        {"exploration": -1.0},
        {"unvisited": math.inf},
        {"end_gate": 0.0},
        {"end_gate": 1.1},
        {"end_gate": math.nan},
        {"low": 1.0},
        {"low": 2.0},
        {"high": math.nan},
    ],
)
def test_bad_settings(wrong):
    """Each is refused before the domain is asked anything."""
    settings = TreeSearch(**{"iterations": 3, **wrong})
    domain = Table()
    with pytest.raises(UsageError, match=list(wrong)[-1].split("_")[0]):
        grow(domain, [0], settings, keys(1), collect=True)
    assert not any(domain.calls.values())


def test_end_gate_may_equal_high():
    """Boundary: the gate lies in (low, high]."""
    TreeSearch(iterations=1, end_gate=1.0).validate()


def test_bad_keys_and_domains():
    """Wrong shapes from the caller are usage errors, from the domain data errors."""
    with pytest.raises(UsageError, match="one key"):
        grow(Table(), [0, 1], TreeSearch(iterations=1), keys(1), collect=True)
    for name, answer in {
        "propose": lambda states, n, keys: [],
        "values": lambda states: np.full(len(states), np.nan),
        "ended": lambda states: np.zeros(len(states) + 1, dtype=bool),
    }.items():
        domain = Table(early=0.0, dead=0.0)
        setattr(domain, name, answer)
        with pytest.raises(DataError, match=name):
            grow(domain, [0], TreeSearch(iterations=2), keys(1), collect=True)


def test_values_are_clamped():
    """Closed form: values of -3 and 7 count as low and high."""
    for value, kept in ((-3.0, 0.0), (7.0, 1.0)):
        domain = Fixed({(): "a"}, {"a": value}, ends=["a"])
        assert grow(domain, [0], TreeSearch(iterations=1), keys(1), collect=True).prior[0, 1] == kept
