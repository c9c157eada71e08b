"""The search for a rule: what it returns, what it spends, and how it refuses."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.search import update_rules
from selfstudy.search.update_programs import ADAMW, LION, UpdateProgram
from selfstudy.search.update_rules import (
    FUNNEL_SEEDS,
    FoundRule,
    noise,
    search_cost,
    search_update_rule,
    starting_program,
)

from .test_proxy_tasks import proxy


class Scripted:
    """A task whose loss is the number of lines; some lengths come to nothing."""

    samples, flops = 10, 100.0

    def __init__(self, name: str = "lines", *, dead: int = -1) -> None:
        self.name, self.dead, self.trained = name, dead, 0

    def loss(self, program: UpdateProgram, seed: int) -> float:
        self.trained += 1
        return math.nan if len(program.statements) >= self.dead >= 0 else float(len(program.statements))


def found(budget: int = 25, **fields: Any) -> FoundRule:
    given: dict[str, Any] = {"population": 6, "tournament": 3, **fields}
    return search_update_rule([Scripted()], [[Scripted("larger")]], budget, **given)


def test_it_gets_better_and_says_how() -> None:
    """Oracle: a loss that counts lines falls below AdamW's ten; the counts add up; seeds differ."""
    rule = found()
    assert len(rule.history) == 26 and rule.history[0] == 10 and rule.history == sorted(rule.history)[::-1]
    assert rule.history[-1] < 10
    stats = rule.cache_stats
    assert stats["measured"] == 26 and stats["children"] == stats["known"] + 25
    assert rule.funnel == [[len(rule.best_program.statements)]]
    assert found() == rule != found(seed=1)


def test_in_a_real_training() -> None:
    """Oracle: the loss on the larger task is below that of the start."""
    larger = proxy(hidden=10, steps=60)
    rule = search_update_rule([proxy()], [[larger]], 25, population=6, tournament=3, draws=2)
    mean = [sum(larger.loss(p, s) for s in FUNNEL_SEEDS) / 3 for p in (rule.best_program, ADAMW)]
    assert mean[0] < mean[1] and rule.funnel[0][0] == pytest.approx(mean[0])


def test_noise() -> None:
    """Oracle: the standard error by hand of the means 2, 4 and 6 over three seeds."""
    losses = np.array([[1.0, 5.0, 6.0], [3.0, 3.0, 6.0]])
    assert noise(losses) == pytest.approx(2 / math.sqrt(3))


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Oracle: what was saved."""
    rule = found()
    rule.save(tmp_path / "rule")
    assert FoundRule.load(tmp_path / "rule") == rule


def test_a_run_is_charged_for_every_training(tmp_path: Path) -> None:
    """Oracle: the trainings that the tasks counted, less those of the start, which are not charged."""
    first, second = Scripted(), Scripted("larger")
    with Run(tmp_path / "run") as run:
        run.stage("rule", lambda: search_update_rule([first], [[second]], 20, 6, 3, draws=2, run=run))
        spent = run.meter.snapshot()
    trained = first.trained - 1 - 2 + second.trained
    assert spent["samples"] == 10 * trained and spent["flops"] == 100 * trained
    assert spent["samples"] <= search_cost([first], [[second]], 20, 2)["samples"]


def test_a_budget_that_ends_on_the_way(tmp_path: Path) -> None:
    """Oracle: within the search as many programs as it covers; within the funnel what was best until then."""

    def search(run: Run) -> FoundRule:
        return search_update_rule([Scripted()], [[Scripted("larger")]], 20, 6, 3, run=run)

    for limit, history in ((55, 6), (10 * 25, 21)):
        with Run(tmp_path / str(limit), budget=Budget(samples=limit)) as run:
            rule = run.stage("rule", partial(search, run))
        assert len(rule.history) == history and run.meter.snapshot()["samples"] <= limit
        assert rule.funnel == [] and len(rule.best_program.statements) == rule.history[-1]


def test_resumed_at_any_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a search that was never cut off."""

    def search(folder: Path, cut: int | None) -> FoundRule:
        task = Scripted()
        loss = task.loss

        def failing(program: UpdateProgram, seed: int) -> float:
            if task.trained == cut:
                raise KeyboardInterrupt
            return loss(program, seed)

        monkeypatch.setattr(task, "loss", failing)
        with Run(folder, checkpoint_seconds=0) as run:
            return run.stage(
                "rule", lambda: search_update_rule([task], [[Scripted("larger")]], 15, 6, 3, run=run)
            )

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", 9)
    assert search(tmp_path / "cut", None) == search(tmp_path / "whole", None)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("cut", "whole")]
    assert logs[0] == logs[1] == 15


def test_a_start_that_does_not_train() -> None:
    """Oracle: the error names the task."""
    with pytest.raises(DataError, match="'broken'"):
        search_update_rule([Scripted("broken", dead=0)], [], 5)


def test_survivors_of_the_stage_before() -> None:
    """Oracle: where the last stage leaves none, the best of the one before, which is made no shorter, as
    nothing tells what that would cost; the stage is named."""
    with pytest.warns(UserWarning, match="funnel 2"):
        rule = search_update_rule([Scripted()], [[Scripted()], [Scripted(dead=0)]], 10, 6, 3)
    assert rule.funnel == [rule.funnel[0], []]
    assert rule.funnel[0][0] == len(rule.best_program.statements)
    assert rule.simplified_program == rule.best_program


def test_starting_programs() -> None:
    """Oracle: names, texts, and an error for what is neither."""
    assert starting_program("lion") is LION and starting_program(str(ADAMW)) == ADAMW
    with pytest.raises(UsageError, match="adamw"):
        starting_program("adam w")
    with pytest.raises(UsageError, match="at least 1"):
        found(budget=0)
    assert update_rules.KEPT >= 1
