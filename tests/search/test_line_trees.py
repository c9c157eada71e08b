"""The search over lines with whole solutions: counts, values, visibility, decoding."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.search.line_trees import LineSearch, LineTrees, confidence, grow_lines

# A toy language: solutions of up to 4 lines, each a letter.
LETTERS = "abc"


def toy_draw(states, n, keys):
    drawn = []
    for (_, lines), key in zip(states, keys.tolist(), strict=True):
        rng = np.random.default_rng(int(key))
        rows = []
        for _ in range(n):
            left = int(rng.integers(0, 5 - len(lines))) if len(lines) < 4 else 0
            rows.append(tuple(rng.choice(list(LETTERS), size=left).tolist()))
        drawn.append(rows)
    return drawn


def toy_score(states):
    return np.array([sum(line == "b" for line in lines) / 4 for _, lines in states])


def grow(count: int = 3, assess=None, **fields) -> LineTrees:
    search = LineSearch(**{"iterations": 10, **fields})
    keys = np.arange(count, dtype=np.uint64)
    return grow_lines(count, search, keys, draw=toy_draw, score=toy_score, assess=assess)


def test_confidence_of_a_known_child() -> None:
    """Oracle: 0.4 + 0.2 sqrt((1 + ln 10) / 2.1), worked out by hand."""
    found = confidence(np.array([0.4]), np.array([2]), np.array(10), exploration=0.2, eps=0.1)
    assert found[0] == pytest.approx(0.6508, abs=5e-5)


def scripted(texts: list[list[str]], rewards: dict[str, float]):
    """Draw the given completions, one list an expansion; score them by name."""
    left = iter(texts)

    def draw(states, n, keys):
        return [[tuple(text) for text in next(left)] for _ in states]

    return draw, lambda states: np.array([rewards["".join(lines)] for _, lines in states])


def test_five_completions_raise_the_counts_of_all_ancestors_by_five() -> None:
    """Oracle: rewards [1, 0, 0.5, 0.5, 1] and then five more below the first child, added by hand."""
    rewards = {
        "ax": 1,
        "ay": 0,
        "bx": 0.5,
        "by": 0.5,
        "cx": 1,
        "axx": 0,
        "axy": 0,
        "ayx": 1,
        "ayy": 0,
        "azz": 0,
    }
    draw, score = scripted([["ax", "ay", "bx", "by", "cx"], ["xx", "xy", "yx", "yy", "zz"]], rewards)
    search = LineSearch(iterations=2, samples=5, decisions=3)
    trees = grow_lines(1, search, np.zeros(1, np.uint64), draw=draw, score=score)
    forest = trees.forest
    assert [forest.actions[0][n] for n in range(4)] == [None, "a", "b", "c"]
    assert forest.visits[0, :4].tolist() == [10, 5, 0, 0]
    assert forest.value[0, 0] == pytest.approx((3 + 1) / 10)
    assert forest.value[0, 1] == pytest.approx(1 / 5)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_root_is_the_mean_of_all_rewards(
    seed: int, iterations: int, samples: int, decisions: int
) -> None:
    """Oracle: the invariant of the backup, over every number of iterations: N counts, V is the mean."""
    search = LineSearch(iterations=iterations, samples=samples, decisions=decisions)
    trees = grow_lines(2, search, np.array([seed, seed + 1], np.uint64), draw=toy_draw, score=toy_score)
    forest = trees.forest
    for tree in range(2):
        drawn = [one.score for one in trees.completions[tree]]
        ends = np.flatnonzero(forest.ended[tree])
        again = [forest.prior[tree, n] for n in ends for _ in range(int(forest.visits[tree, n]))]
        assert forest.visits[tree, 0] == len(drawn) + len(again)
        assert forest.value[tree, 0] == pytest.approx(np.mean(drawn + again))
        for node in range(1, int(forest.size[tree])):
            below = [c for c in forest.children[tree, node] if c >= 0]
            own = [one.score for one in trees.completions[tree] if one.node == node]
            assert forest.visits[tree, node] == (
                len(own) + sum(forest.visits[tree, below]) if below else forest.visits[tree, node]
            )
            shown = int(trees.visible[tree, below].sum()) if below else 0
            assert shown == min(len(below), decisions)


def test_equal_first_lines_share_a_child_unless_one_of_them_ends_there() -> None:
    """Oracle: the tree drawn by hand."""
    draw, score = scripted([["ab", "ac", "a", ""]], {"ab": 0, "ac": 0, "a": 1, "": 0})
    trees = grow_lines(1, LineSearch(iterations=1, samples=4), np.zeros(1, np.uint64), draw=draw, score=score)
    assert trees.forest.actions[0] == [None, "a", "a", ""]
    assert trees.forest.ended[0, :4].tolist() == [False, False, True, True]
    assert trees.state(0, 3) == (0, ())


def test_a_terminal_node_is_worth_its_reward_again_and_again() -> None:
    """Oracle: all solutions end in one line; its reward counts once a visit, and nothing more is drawn."""
    draw, score = scripted([["a", "a"]], {"a": 0.75})
    trees = grow_lines(1, LineSearch(iterations=4, samples=2), np.zeros(1, np.uint64), draw=draw, score=score)
    assert trees.forest.visits[0, :2].tolist() == [2 + 3, 3]
    assert trees.forest.value[0, :2].tolist() == [0.75, 0.75]


def test_assessed_children_count_as_often_as_they_were_drawn_and_the_best_go_on() -> None:
    """Oracle: values 0.2, 0.9, 0.5 by first line; "a" was drawn twice; two decisions."""
    draw, score = scripted([["ax", "ay", "bx", "cx"]], {"ax": 0, "ay": 0, "bx": 0, "cx": 0})
    values = {"a": 0.2, "b": 0.9, "c": 0.5}

    def assess(states):
        return np.array([values["".join(lines)] for _, lines in states])

    search = LineSearch(iterations=1, samples=4, decisions=2)
    trees = grow_lines(1, search, np.zeros(1, np.uint64), draw=draw, score=score, assess=assess)
    assert trees.forest.visits[0, :4].tolist() == [4, 2, 1, 1]
    assert trees.total[0, :4].tolist() == pytest.approx([1.8, 0.4, 0.9, 0.5])
    assert trees.visible[0, 1:4].tolist() == [False, True, True]


def test_children_without_values_keep_the_order_in_which_they_were_drawn() -> None:
    """Oracle: all values are 0 in collecting, so the first decisions stay visible."""
    draw, score = scripted([["ax", "bx", "cx"]], {"ax": 0, "bx": 1, "cx": 1})
    search = LineSearch(iterations=1, samples=3, decisions=2)
    trees = grow_lines(1, search, np.zeros(1, np.uint64), draw=draw, score=score)
    assert trees.visible[0, 1:4].tolist() == [True, True, False]


def plain_tree(key: int, search: LineSearch, assess) -> dict[tuple, tuple[int, float]]:
    """A second implementation with objects, of one tree: N and V by path."""
    from selfstudy.core.random import derive

    class Node:
        def __init__(self, lines, ends, up):
            self.lines, self.ends, self.up = lines, ends, up
            self.n, self.total, self.children, self.expanded, self.shown = 0, 0.0, {}, False, True

        @property
        def v(self):
            return self.total / self.n if self.n else 0.0

    root, every = Node((), False, None), []
    for iteration in range(search.iterations):
        node = root
        while node.expanded:
            parent, best = node, -math.inf
            for child in parent.children.values():
                bonus = math.sqrt((1 + math.log(parent.n)) / (search.eps + child.n))
                if child.shown and child.v + search.exploration * bonus > best:
                    best, node = child.v + search.exploration * bonus, child
        if node.ends:
            added = (1, (assess or toy_score)([(0, node.lines)])[0])
        else:
            stream = derive(np.array([key], np.uint64), iteration)
            rests = toy_draw([(0, node.lines)], search.samples, stream)[0]
            scores = toy_score([(0, node.lines + rest) for rest in rests])
            for rest in rests:
                ends, line = len(rest) <= 1, rest[:1]
                child = node.children.setdefault((line, ends), Node(node.lines + line, ends, node))
                every.append(child)
                if assess:
                    child.n += 1
                    child.total += assess([(0, child.lines)])[0]
            node.expanded = True
            order = sorted(node.children.values(), key=lambda c: -c.v)
            for child in order[search.decisions :]:
                child.shown = False
            added = (search.samples, scores.sum())
            if assess:
                added = (sum(c.n for c in order), sum(c.total for c in order))
        while node is not None:
            node.n, node.total, node = node.n + added[0], node.total + added[1], node.up
    nodes = {id(node): node for node in [root, *every]}.values()
    return sorted((node.lines, node.ends, node.n, round(node.v, 9), node.shown) for node in nodes)


@pytest.mark.parametrize(("key", "decoding"), [*itertools.product(range(4), (False, True))])
def test_trees_equal_those_of_a_plain_implementation(key: int, decoding: bool) -> None:
    """Oracle: a second implementation with objects in this file, in both uses."""

    def value(states):
        return np.array([(len(lines) + sum(line == "b" for line in lines)) / 9 for _, lines in states])

    search = LineSearch(iterations=14, samples=4, decisions=2, exploration=0.3)
    trees = grow_lines(
        2,
        search,
        np.array([99, key], np.uint64),
        draw=toy_draw,
        score=toy_score,
        assess=value if decoding else None,
    )
    forest = trees.forest
    found = sorted(
        (
            trees.state(1, n)[1],
            bool(forest.ended[1, n]),
            int(forest.visits[1, n]),
            round(float(forest.value[1, n]), 9),
            bool(trees.visible[1, n]),
        )
        for n in range(int(forest.size[1]))
    )
    assert found == plain_tree(key, search, value if decoding else None)


def test_with_true_values_a_solved_solution_is_returned_whenever_one_was_drawn() -> None:
    """Oracle: the score is the true share of right lines, so the best score is the best drawn."""
    trees = grow(count=20, assess=toy_score)
    for tree in range(20):
        best = max(sum(line == "b" for line in one.lines) for one in trees.completions[tree])
        assert sum(line == "b" for line in trees.best(tree)) == best


def test_a_tree_does_not_depend_on_the_others() -> None:
    """Oracle: the same key searched alone."""
    together = grow(count=3).to_json(2)
    alone = grow_lines(
        1, LineSearch(iterations=10), np.array([2], np.uint64), draw=toy_draw, score=toy_score
    ).to_json(0)
    together["nodes"].pop("problem"), alone["nodes"].pop("problem")
    assert together == alone


def test_saved_trees_come_back_as_they_were() -> None:
    """Oracle: what went in, through JSON text."""
    trees = grow(count=2, assess=toy_score)
    for tree in range(2):
        back = LineTrees.from_json(json.loads(json.dumps(trees.to_json(tree))))
        size = int(trees.forest.size[tree])
        assert int(back.forest.size[0]) == size
        for name in ("visits", "value", "prior", "parent", "ended", "expanded"):
            mine, theirs = getattr(trees.forest, name), getattr(back.forest, name)
            np.testing.assert_array_equal(mine[tree, :size], theirs[0, :size])
        np.testing.assert_array_equal(trees.visible[tree, :size], back.visible[0, :size])
        np.testing.assert_array_equal(trees.total[tree, :size], back.total[0, :size])
        assert back.completions[0] == trees.completions[tree]


def test_a_damaged_record_is_refused() -> None:
    """Oracle: a record without its nodes' parents."""
    record = grow(count=1).to_json(0)
    del record["nodes"]["parent"]
    with pytest.raises(DataError):
        LineTrees.from_json(record)


@pytest.mark.parametrize("field", [{"iterations": 0}, {"samples": 0}, {"eps": 0.0}, {"exploration": -1.0}])
def test_settings_out_of_range_are_refused(field: dict) -> None:
    """Oracle: the class says what is allowed."""
    with pytest.raises(UsageError):
        grow(**field)
