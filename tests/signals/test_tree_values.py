from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.search.tree import Forest
from selfstudy.signals import tree_values
from selfstudy.signals.tree_values import hard_targets, step_value


def make_forest(parents, *, ended=(), values=None, answer=-1):
    """One tree from the parents of its nodes."""
    size = len(parents)
    record = {
        "problem": 0,
        "answer": answer,
        "actions": [None, *range(1, size)],
        "parent": parents,
        "visits": [0] * size,
        "prior": [0.0] * size,
        "value": values or [0.0] * size,
        "expanded": sorted(set(parents) - {-1}),
        "ended": list(ended),
    }
    branch = max(1, *(parents.count(node) for node in range(size)))
    return Forest.from_json({"branch": branch, "end_gate": 0.9, "trees": [record]})


def mask(size, *right):
    return np.isin(np.arange(size), right)


def test_step_value_by_hand():
    """Closed forms of v = max(0, v + (1 - v) * sign / distance)."""
    assert step_value(0.0, 4, True) == 0.25
    assert step_value(0.25, 3, True) == 0.5
    assert step_value(1 / 3, 3, False) == pytest.approx(1 / 9)
    assert step_value(0.0, 3, False) == 0.0
    assert step_value(0.5, 1, False) == 0.0


@given(st.floats(0, 1), st.integers(1, 1000), st.booleans())
def test_step_value_laws(previous, distance, good):
    """Laws: in [0, 1]; not lower after a good step, not higher after a wrong one; exactly 1 at the end."""
    value = step_value(previous, distance, good)
    assert 0 <= value <= 1
    assert value >= previous if good else value <= previous
    assert step_value(previous, 1, True) == 1.0


@pytest.mark.parametrize("length", [1, 2, 7, 12])
@pytest.mark.parametrize("mode", ["full", "simple"])
def test_a_chain_of_good_steps(length, mode):
    """Closed form: k / K."""
    forest = make_forest([-1, *range(length)], ended=[length])
    targets = hard_targets(forest, 0, mask(length + 1, length), mode)
    assert targets == {k: pytest.approx(k / length) for k in range(1, length + 1)}
    assert targets[length] == 1.0


def test_one_wrong_sibling_at_depth_one():
    """Closed form, K = 3: 1/3 - (2/3)/3 = 1/9 in full mode, 0 in simple mode."""
    forest = make_forest([-1, 0, 1, 1, 2], ended=[3, 4])
    right = mask(5, 4)
    assert hard_targets(forest, 0, right)[3] == pytest.approx(1 / 9)
    assert hard_targets(forest, 0, right, "simple")[3] == 0.0
    assert hard_targets(forest, 0, right, "he") == {1: 1.0, 2: 1.0, 3: 0.0, 4: 1.0}


def test_wrong_sibling_at_depth_two():
    """Closed form, K = 4: 2/4 - (2/4)/3 = 1/3 in full mode, (2 - 1)/4 in simple mode."""
    forest = make_forest([-1, 0, 1, 2, 2, 3], ended=[4, 5])
    assert hard_targets(forest, 0, mask(6, 5))[4] == pytest.approx(1 / 3)
    assert hard_targets(forest, 0, mask(6, 5), "simple")[4] == 0.25


def test_wrong_child_of_the_root():
    """Closed form, K = 2: max(0, 0 - 1/3) = 0."""
    forest = make_forest([-1, 0, 0, 1], ended=[2, 3])
    assert hard_targets(forest, 0, mask(4, 3)) == {1: 0.5, 2: 0.0, 3: 1.0}


def test_wrong_steps_in_a_row_keep_subtracting():
    """Closed form, K = 3 with a wrong branch of two below depth 2: 2/3, 2/3 - 1/6 = 1/2, 1/2 - 1/4 = 1/4."""
    forest = make_forest([-1, 0, 1, 2, 2, 4], ended=[3, 5])
    targets = hard_targets(forest, 0, mask(6, 3))
    assert (targets[4], targets[5]) == (pytest.approx(1 / 2), pytest.approx(1 / 4))


def test_the_shorter_of_two_right_routes_counts():
    """Closed form: node 1 has right leaves 2 and 4 steps below; its distance is 2 + 1, not 4 + 1."""
    forest = make_forest([-1, 0, 1, 2, 1, 4, 5, 6], ended=[3, 7])  # 1 - 2 - 3 and 1 - 4 - 5 - 6 - 7
    targets = hard_targets(forest, 0, mask(8, 3, 7))
    assert targets[1] == pytest.approx(1 / 3) and targets[2] == pytest.approx(2 / 3)
    assert targets[4] == pytest.approx(1 / 3 + (2 / 3) / 4)
    assert targets[3] == targets[7] == 1.0


@pytest.mark.parametrize("mode", ["full", "simple", "he"])
def test_no_right_leaf_no_targets(mode):
    """Closed form: nothing; nor for a right *inner* node or a right leaf that is no end leaf."""
    forest = make_forest([-1, 0, 1, 0], ended=[2])
    assert hard_targets(forest, 0, mask(4), mode) == {}
    assert hard_targets(forest, 0, mask(4, 1, 3), mode) == {}


def test_an_unrelated_leaf_has_no_target():
    """Closed form: node 2 is a leaf that never ended; the gate of 0.9 makes node 3 an end leaf."""
    forest = make_forest([-1, 0, 0, 0], ended=[1], values=[0.0, 0.1, 0.89, 0.9])
    assert set(hard_targets(forest, 0, mask(4, 1))) == {1, 3}
    assert set(hard_targets(forest, 0, mask(4, 1), end_gate=0.95)) == {1}
    assert set(hard_targets(forest, 0, mask(4, 1), "he")) == {1, 3}


def test_simple_mode_picks_one_route():
    """Closed forms: the search's answer if right, else the highest value; other right routes have none."""
    parents, values = [-1, 0, 0, 1, 2, 0], [0.0, 0.0, 0.0, 0.3, 0.4, 0.0]
    right = mask(6, 3, 4)
    assert hard_targets(make_forest(parents, ended=[3, 4, 5], values=values), 0, right, "simple") == {
        2: 0.5,
        4: 1.0,
        5: 0.0,
    }
    chosen = make_forest(parents, ended=[3, 4, 5], values=values, answer=3)
    assert hard_targets(chosen, 0, right, "simple") == {1: 0.5, 3: 1.0, 5: 0.0}


def literal(forest, right_leaves, wrong_leaves):
    """The published procedure, walk by walk."""
    parent, size = forest.parent[0].tolist(), int(forest.size[0])
    distance, good = [10**9] * size, [False] * size
    for leaf in right_leaves:
        distance[leaf], good[leaf], node = 1, True, leaf
        while (node := parent[node]) >= 0:
            distance[node] = 1 + min(distance[c] for c in range(size) if parent[c] == node)
            good[node] = True
    for leaf in wrong_leaves:
        path, node = [], leaf
        while distance[node] == 10**9:
            path.append(node)
            node = parent[node]
        for below in path:
            distance[below] = distance[node]
    values, out = {0: 0.0}, {}
    for node in range(1, size):
        if distance[node] < 10**9:
            before = values[parent[node]]
            sign = 1 if good[node] else -1
            out[node] = values[node] = max(0.0, before + (1 - before) * sign / distance[node])
    return out


@st.composite
def trees(draw):
    size = draw(st.integers(2, 25))
    parents = [-1] + [draw(st.integers(max(0, node - 5), node - 1)) for node in range(1, size)]
    leaves = sorted(set(range(size)) - set(parents))
    state = {leaf: draw(st.sampled_from(["open", "right", "wrong"])) for leaf in leaves}
    ended = [leaf for leaf in leaves if state[leaf] != "open"]
    return make_forest(parents, ended=ended), [leaf for leaf in ended if state[leaf] == "right"], ended


@given(trees())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_random_trees(tree):
    """Oracle: the literal procedure. Laws: values in [0, 1], and 1 exactly at the right end leaves."""
    forest, right, ended = tree
    before = forest.trim()
    targets = hard_targets(forest, 0, mask(int(forest.size[0]), *right))
    expected = literal(forest, right, [leaf for leaf in ended if leaf not in right]) if right else {}
    assert targets == {node: pytest.approx(value, abs=1e-12) for node, value in expected.items()}
    assert all(0 <= value <= 1 for value in targets.values())
    assert [node for node, value in targets.items() if value == 1] == right
    assert forest == before  # the search's own values stay


@given(trees(), st.sampled_from(["simple", "he"]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_random_trees_other_modes(tree, mode):
    """Laws: in [0, 1]; 1 at right end leaves that have a target; none at the root."""
    forest, right, ended = tree
    targets = hard_targets(forest, 0, mask(int(forest.size[0]), *right), mode)
    assert all(0 <= value <= 1 for value in targets.values()) and 0 not in targets
    assert all(targets[leaf] == 1 for leaf in right if leaf in targets)
    assert bool(targets) == bool(right)
    assert not any(targets.get(leaf) == 1 for leaf in ended if leaf not in right)


def test_an_inverted_sign_inverts_the_targets(monkeypatch):
    """Mutation: with correctness taken for badness, the wrong sibling is worth more than the right step."""
    forest = make_forest([-1, 0, 0, 1, 1, 4], ended=[2, 3, 5])
    right = mask(6, 5)
    targets = hard_targets(forest, 0, right)
    assert targets[1] > targets[2] and targets[4] > targets[3] and targets[5] == 1.0
    monkeypatch.setattr(
        tree_values, "step_value", lambda previous, distance, good: step_value(previous, distance, not good)
    )
    inverted = hard_targets(forest, 0, right)
    assert inverted[1] < inverted[2] and inverted[4] < inverted[3] and inverted[5] == 0.0


def test_bad_input():
    """Unknown modes are refused with the nearest name, short verdicts with both sizes."""
    forest = make_forest([-1, 0], ended=[1])
    with pytest.raises(UsageError, match="'full'"):
        hard_targets(forest, 0, mask(2, 1), "ful")
    with pytest.raises(UsageError, match=r"\(1,\).* 2 nodes"):
        hard_targets(forest, 0, mask(1))
