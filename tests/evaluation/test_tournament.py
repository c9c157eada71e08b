"""Win rates: both orders, ties, lengths, and triples that go round."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.run import Run
from selfstudy.evaluation.tournament import (
    cyclic_share,
    duel,
    head_to_head,
    length_controlled,
    outputs_of,
    tournament,
)
from selfstudy.signals.judges import task_judge

PROBLEMS = [SimpleNamespace(id=str(i), prompt="p") for i in range(3)]


def by_length(contests):
    return [np.array([len(text) for text in contest.outputs], dtype=float) for contest in contests]


def first_wins(contests):
    return [np.triu(np.ones((len(c.outputs),) * 2), 1) + 0.5 * np.eye(len(c.outputs)) for c in contests]


def test_head_to_head() -> None:
    """Oracle: longer wins, equals share."""
    wins = head_to_head(PROBLEMS, ["aa", "b", "c"], ["a", "bb", "d"], by_length)
    assert wins.tolist() == [1, 0, 0.5]


def test_a_judge_of_places_decides_nothing() -> None:
    """Oracle: who stands first wins in one order and loses in the other: 1/2."""
    assert head_to_head(PROBLEMS, ["a"] * 3, ["b"] * 3, first_wins).tolist() == [0.5] * 3


def test_tournament_is_antisymmetric() -> None:
    """Oracle: both ways round make 1; all pairs of three contestants."""
    wins = tournament(PROBLEMS, {"x": ["aa"] * 3, "y": ["b"] * 3, "z": ["ccc"] * 3}, by_length)
    assert len(wins) == 6 and wins["z", "y"].tolist() == [1] * 3
    assert all((wins[a, b] + wins[b, a] == 1).all() for a, b in wins)


def test_length_control_takes_lengths_out() -> None:
    """Oracle: wins drawn from a logistic law of the length alone: 1/2 is left; with a lead, the lead is."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(10, 60, 4000), rng.integers(5, 40, 4000)
    feature = np.tanh((first - second) / np.sqrt(np.mean((first - second) ** 2.0)))
    for lead, rate in ((0.0, 0.5), (1.0, 1 / (1 + np.exp(-1)))):
        chances = 1 / (1 + np.exp(-(lead + 2 * feature)))
        wins = (rng.random(4000) < chances).astype(float)
        assert wins.mean() > rate + 0.05
        assert length_controlled(wins, first, second) == pytest.approx(rate, abs=0.03)
        assert length_controlled(1 - wins, second, first) == pytest.approx(1 - rate, abs=0.03)


def test_length_control_of_clear_and_of_even_cases() -> None:
    """Oracle: all won is 1; equal lengths leave the plain rate; a tie is half a win."""
    assert length_controlled(np.ones(4), [1, 2, 3, 4], [2, 2, 2, 2]) == 1.0
    assert length_controlled(np.array([1, 1, 1, 0.0]), [2] * 4, [2] * 4) == pytest.approx(0.75, abs=1e-3)
    assert length_controlled(np.array([1, 0.5, 1, 0.5]), [2] * 4, [2] * 4) == pytest.approx(0.75, abs=1e-3)


def test_cyclic_share() -> None:
    """Oracle: by hand: of four triples of rock, paper, scissors and a loser one goes round; ties do not."""
    wins = np.full((4, 4), 0.5)
    for better, worse in ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)):
        wins[better, worse], wins[worse, better] = 1, 0
    assert cyclic_share(wins) == 0.25 and cyclic_share(wins.T) == 0.25
    assert cyclic_share(np.full((4, 4), 0.5)) == 0 == cyclic_share(wins[:2, :2])


def test_a_duel_with_oneself_is_even_and_recorded(tmp_path) -> None:
    """Oracle: the same model with the same numbers draws the same: 1/2; tokens are those of the meter."""
    task = selfstudy.task("chain100?steps=1&train=1&validation=6&test=1")
    model = selfstudy.model("tiny-lm")
    with Run(tmp_path / "run", {}) as run:
        judge = task_judge(task.metered(run.meter))
        theirs = run.stage("a", lambda: outputs_of(model, task, task.validation, run, 1.0, batch=4))
        rows = run.stage("b", lambda: duel(model, theirs, task, task.validation, judge, run, 1.0, batch=4))
        assert [row["win"] for row in rows] == [0.5] * 6
        assert all(row["lengths"] == [row["tokens"]] * 2 for row in rows)
        drawn = sum(row["tokens"] for row in [*theirs, *rows])
        assert drawn == run.meter.snapshot()["generated_tokens"]


def test_a_spent_budget_leaves_the_rest_out(tmp_path) -> None:
    """Oracle: two problems of four, 8 tokens each, fit into the budget."""
    task = selfstudy.task("chain100?steps=1&train=1&validation=4&test=1")
    model = selfstudy.model("tiny-lm")
    with Run(tmp_path / "run", {}, budget=Budget(generated_tokens=20)) as run:
        assert len(outputs_of(model, task, task.validation, run, 1.0, batch=2)) == 2
    theirs = [{"text": "1+1=2\n", "tokens": 3}] * 4
    with Run(tmp_path / "duel", {}, budget=Budget(generated_tokens=20)) as run:
        rows = duel(model, theirs, task, task.validation, task_judge(task), run, 1.0, batch=2)
    assert [row["lengths"] for row in rows] == [[8, 3]] * 2
