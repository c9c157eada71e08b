"""Solvers by name: what they are called, what they need, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.search import answering
from selfstudy.search.answering import SOLVERS, Answering, make_solver
from selfstudy.search.beams import TreeOfThought
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.reasoning import ConstantValue

from .scripted import Policy, coin_task


@pytest.mark.parametrize(
    ("settings", "title", "needs"),
    [
        (Answering(), "greedy", False),
        (Answering(solver="majority", samples=3), "majority of 3", False),
        (Answering(solver="best"), "best of 8", True),
        (Answering(solver="weighted", samples=1), "weighted of 1", True),
        (Answering(solver="mcts", search=TreeSearch(iterations=9)), "mcts, 9 iterations", True),
        (Answering(solver="mcts", search=TreeSearch(seconds=2.5)), "mcts, 2.5 s", True),
        (Answering(solver="tot"), "tot", True),
    ],
)
def test_titles_and_needs(settings: Answering, title: str, needs: bool) -> None:
    """Oracle: by hand; a solver that needs a value model is refused without one, the others are made."""
    assert (settings.title, settings.needs_value) == (title, needs)
    policy: Any = Policy()
    if needs:
        with pytest.raises(UsageError, match=f"'{settings.solver}' needs a value model.*'scripted'.*--value"):
            make_solver(settings, policy, coin_task(1), None, seed=0)
    assert make_solver(settings, policy, coin_task(1), ConstantValue(), seed=0)


def test_every_setting_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the arguments of the solvers; without a temperature the task's; value models where used."""
    asked: dict[str, Any] = {}
    for name in ("greedy_solver", "voting_solver", "tree_solver"):
        monkeypatch.setattr(
            answering, name, lambda *given, name=name, **more: asked.update(name=name, given=given, **more)
        )
    task, value, policy = coin_task(1), ConstantValue(), Policy()
    search, thought = TreeSearch(iterations=2), TreeOfThought(keep=1)
    for solver in SOLVERS:
        asked.clear()
        settings = Answering(solver=solver, samples=5, temperature=0.3, search=search, thought=thought)
        make_solver(settings, policy, task, value, seed=7)  # type: ignore[arg-type]
        assert asked.pop("given")[:2] == (policy, task)
        name = asked.pop("name")
        if solver == "greedy":
            assert (name, asked) == ("greedy_solver", {})
        elif solver in ("mcts", "tot"):
            assert (name, asked) == ("tree_solver", {"seed": 7, "temperature": 0.3})
        else:
            used = None if solver == "majority" else value
            votes = {"samples": 5, "vote": solver, "seed": 7, "temperature": 0.3, "value": used}
            assert (name, asked) == ("voting_solver", votes)
    task.temperature = 0.9
    make_solver(Answering(solver="tot"), policy, task, value, seed=7)  # type: ignore[arg-type]
    assert asked["temperature"] == 0.9 and isinstance(asked["given"][3], TreeOfThought)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"solver": "MCTS"}, "Unknown solver 'MCTS'"),
        ({"samples": 0}, "samples is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"temperature": np.nan}, "temperature is nan"),
        ({"search": TreeSearch()}, "exactly one of the two limits"),
        ({"thought": TreeOfThought(keep=0)}, "keep"),
    ],
)
def test_settings_that_cannot_be(fields: dict[str, Any], words: str) -> None:
    """Oracle: the paragraph, before a solver is made."""
    with pytest.raises(UsageError, match=words):
        make_solver(Answering(**fields), Policy(), coin_task(1), ConstantValue(), seed=0)  # type: ignore[arg-type]
