"""Traces: which are made, in which order, what is dropped and why, and how many tokens they hold."""

from __future__ import annotations

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.countdown import read_countdown
from selfstudy.data.shown_countdown import VOCABULARY, random_branch, solved
from selfstudy.data.walks import SYMBOLS, branches
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search import trace_making
from selfstudy.search.trace_making import TraceMaking, make_traces
from selfstudy.search.traces import SolutionTree

TASK = selfstudy.task("backtracking-countdown-4?train=40&validation=0&test=1&largest=9")
MODEL = random_tiny_model(1, 32, vocabulary=VOCABULARY, end=True, context=256)


def tree_of(problem, right: int, wrong: int) -> SolutionTree:
    """A tree of random solutions with up to `right` right and `wrong` wrong leaves."""
    rng, tree, places = np.random.default_rng(int(problem.id[:8], 16)), SolutionTree(), {(): 0}
    left = {True: right, False: wrong}
    for _ in range(4000):
        if not any(left.values()):
            break
        path = random_branch(rng, read_countdown(problem.prompt)[0])
        ok = solved(problem.prompt, path)
        if path in places or not left[ok]:
            continue
        left[ok] -= 1
        for n in range(1, len(path) + 1):
            if path[:n] not in places:
                places[path[:n]] = tree.add(places[path[: n - 1]], path[n - 1])
        tree.finish(places[path], TASK.answer(path, problem), ok)
    return tree


@pytest.fixture(scope="module")
def trees() -> list[SolutionTree]:
    return [tree_of(problem, 3, 5) for problem in TASK.train]


def make(tmp_path, trees, *, batch=7, **settings):
    with Run(tmp_path, {}) as run:
        return make_traces(TASK, MODEL, trees, TraceMaking(**settings), run, batch=batch)


def test_every_trace_ends_right_after_as_many_wrong_branches(trees, tmp_path) -> None:
    """Oracle: a replay of the text: each earlier branch is finished and wrong, the last is right."""
    made = make(tmp_path / "run", trees, wrong=(0.2, 0.3, 0.5), per_tree=3)
    assert {one["wrong"] for one in made["traces"]} == {0, 1, 2} and not made["dropped"]
    for one in made["traces"]:
        prompt, lines = TASK.train[one["problem"]].prompt, one["text"].splitlines()
        found = branches(SYMBOLS.read(lines))
        assert len(found) == one["wrong"] + 1
        assert [solved(prompt, branch) for branch in found] == [False] * one["wrong"] + [True]
        assert all(len(branch) == 3 for branch in found)
        assert one["length"] == len(one["text"]) + 1  # characters, and the end
    assert len({(one["problem"], one["text"]) for one in made["traces"]}) == len(made["traces"])


def test_both_arms_hold_the_same_tokens(trees, tmp_path) -> None:
    """Oracle: the limit: traces of both kinds add up to it within 1 percent; Direct needs more of them."""
    held = {}
    for name, wrong in (("astro", (0.3, 0.4, 0.3)), ("direct", (1.0,))):
        traces = make(tmp_path / name, trees, wrong=wrong, per_tree=9, tokens=3000)["traces"]
        held[name] = (sum(one["length"] for one in traces), len(traces))
        assert held[name][0] - traces[-1]["length"] < 3000 <= held[name][0]
    assert abs(held["astro"][0] - held["direct"][0]) < 0.01 * 3000 + 160
    assert held["direct"][1] > 1.3 * held["astro"][1]


def test_one_trace_of_each_tree_before_a_second(trees, tmp_path) -> None:
    """Oracle: the order of problems, by hand; batches change nothing."""
    made = make(tmp_path / "a", trees, wrong=(1.0,), per_tree=2)["traces"]
    order = [one["problem"] for one in made]
    first = order[: len(set(order))]
    assert first == sorted(first) and order[len(first) :] == sorted(order[len(first) :])
    assert make(tmp_path / "b", trees, wrong=(1.0,), per_tree=2, batch=99)["traces"] == made


def test_shuffled_returns_destroy_the_traces(trees, tmp_path, monkeypatch) -> None:
    """Oracle: mutation: returns to another step than the common ancestor; the replay rejects most of them."""
    true = trace_making.linearise

    def shuffled(tree, right, wrong):
        return [(item + 1) % 3 if isinstance(item, int) else item for item in true(tree, right, wrong)]

    monkeypatch.setattr(trace_making, "linearise", shuffled)
    with pytest.raises(DataError, match="do not end in the right answer"):
        make(tmp_path / "run", trees, wrong=(0.0, 1.0))


def test_trees_without_wrong_or_right_leaves(tmp_path) -> None:
    """Oracle: by hand: no right leaf, no trace; no wrong leaf, a plain trace, counted."""
    trees = [tree_of(TASK.train[0], 0, 4), tree_of(TASK.train[1], 1, 0), tree_of(TASK.train[2], 1, 3)]
    made = make(tmp_path / "run", trees, wrong=(0.0, 0.0, 1.0))
    assert [(one["problem"], one["wrong"]) for one in made["traces"]] == [(1, 0), (2, 2)]
    assert made["plain_trees"] == 1


def test_what_a_model_tells_is_checked(trees, tmp_path, monkeypatch) -> None:
    """Oracle: texts by hand: right, a return lost, too long, another answer; then too many of the last."""
    spoilt = {1: "returns", 2: "length", 3: "answer"}

    def told(policy, task, walks, returns, meter, **_):
        texts = []
        for problem, walk in walks:
            text, place = returns.write(walk), task.train.index(problem)
            lines = text.splitlines(keepends=True)
            kind = spoilt.get(place, "" if spoilt else "answer")
            texts.append(
                {
                    "returns": "".join(lines[-3:]),
                    "length": text + "?<0\n" * 40,
                    "answer": "".join(lines[:-1]),
                    "": text,
                }[kind]
            )
        return texts

    monkeypatch.setattr(trace_making, "rewritten", told)
    made = make(tmp_path / "a", trees[:12], wrong=(0.0, 1.0), rewriter="model")
    assert made["dropped"] == {"returns": 1, "length": 1, "answer": 1} and len(made["traces"]) == 9
    spoilt.clear()
    with pytest.raises(DataError, match=r"12 of 12 rewritten.*--traces\.rewriting") as said:
        make(tmp_path / "b", trees[:12], wrong=(0.0, 1.0), rewriter="model")
    assert str(said.value).count("---") == 2  # three samples


def test_votes_drop_what_is_not_unanimous(trees, tmp_path, monkeypatch) -> None:
    """Oracle: a judge that says no to the even problems."""
    monkeypatch.setattr(
        trace_making,
        "unanimous",
        lambda policy, solutions, meter, **_: [TASK.train.index(p) % 2 == 1 for p, _ in solutions],
    )
    made = make(tmp_path / "run", trees[:6], wrong=(1.0,), votes=2)
    assert [one["problem"] for one in made["traces"]] == [1, 3, 5] and made["dropped"] == {"judge": 3}


def test_solutions_of_one_step_are_refused(tmp_path) -> None:
    """Oracle: trees whose right leaves hang on the root; plain traces need no second step."""
    tree = SolutionTree()
    tree.finish(tree.add(0, "everything at once"), "1", True)
    with pytest.raises(DataError, match=r"single step.*going back is not defined"):
        make(tmp_path / "run", [tree])


@pytest.mark.parametrize(
    "fields",
    [
        {"wrong": ()},
        {"wrong": (0.5, 0.4)},
        {"wrong": (1.5, -0.5)},
        {"per_tree": 0},
        {"tokens": 0},
        {"votes": -1},
        {"temperature": 0.0},
        {"judge": "Right?"},
        {"rewriting": "{question}"},
    ],
)
def test_contradictions_are_refused(fields) -> None:
    """Oracle: each field out of range; the defaults pass."""
    with pytest.raises(UsageError):
        TraceMaking(**fields).validate()
    TraceMaking().validate()
