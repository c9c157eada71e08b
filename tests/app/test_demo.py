"""The demo, made small: what its summary holds, and that kills change nothing in it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import selfstudy
from selfstudy.app.demo import DemoSettings
from selfstudy.app.saving import load
from selfstudy.core.config import to_dict
from selfstudy.core.files import read_json
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.values import ValueFitting
from selfstudy.methods.reasoning.rest_mcts import RestMcts
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch

from ..contract.checks import outcome
from ..contract.sessions import session

SMALL = DemoSettings(
    task="chain100?steps=3&train=8&validation=0&test=10",
    searched=6,
    method=RestMcts(
        rounds=2,
        search=TreeSearch(iterations=8),
        temperature=1.0,
        policy_tuning=FineTuning(steps=3, batch=8),
        value_tuning=ValueFitting(epochs=1, batch=16),
    ),
)
KILLS = 4


def run(out: Path, **more: Any) -> dict[str, Any]:
    return session(["demo"], out, demo=to_dict(SMALL), **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("demo") / "whole"
    done = run(out)
    assert done["code"] == 0, Path(f"{out}.log").read_text()
    return {
        **done,
        "out": out,
        "said": Path(f"{out}.log").read_text(),
        "summary": read_json(out / "summary.json"),
    }


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [summary["base"], *summary["rounds"], summary["rest_em"], *summary["searchers"].values()]


def test_the_summary_has_every_row_with_count_interval_and_tokens(whole: dict[str, Any]) -> None:
    """Oracle: the sizes asked for: 10 test problems, 6 of them searched, 2 rounds, six ways to answer."""
    summary = whole["summary"]
    assert len(summary["rounds"]) == 2 and len(summary["searchers"]) == 6
    for row in rows(summary):
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 and row["generated_tokens"] > 0
    assert [row["count"] for row in rows(summary)] == [10] * 4 + [6] * 6
    for word in (
        "one sample",
        "self-consistency, ",
        "best of ",
        "weighted by value",
        "tree of thought",
        "MCTS*",
    ):
        assert any(word in name for name in summary["searchers"]), word
    assert {"gain", "gain_over_rest_em", "versions", "hardware", "seed", "wall_seconds"} <= set(summary)


def test_the_comparisons_are_on_equal_tokens(whole: dict[str, Any]) -> None:
    """Oracle: ReST-EM's limit is the mean of the rounds'; samples are as many as MCTS*'s tokens pay for."""
    summary = whole["summary"]
    spent = [row["training_tokens"] for row in summary["rounds"]]
    assert summary["rest_em"]["training_tokens"] == round(sum(spent) / 2) * 2
    searchers = summary["searchers"]
    tree, one = searchers["MCTS*"]["generated_tokens"], searchers["one sample"]["generated_tokens"]
    samples = max(1, round(tree / one))
    voted = searchers[f"self-consistency, {samples} samples"]["generated_tokens"]
    assert abs(voted - samples * one) <= 0.25 * voted, "samples differ in length a little"
    assert searchers[f"best of {samples} by value"]["generated_tokens"] == voted


def test_what_it_leaves_behind(whole: dict[str, Any]) -> None:
    """Oracle: the models load, the report is one file with trees, the table was shown, run.json is whole."""
    out = whole["out"]
    assert isinstance(selfstudy.load(out), LanguageModel) and isinstance(load(out, "value"), ValueModel)
    report = (out / "report.html").read_text()
    assert "<html" in report and len(read_json(out / "samples.json")) == 10
    assert "A language model teaches itself" in report and "Search trees" in report
    assert len(read_json(out / "trees.json")[0]["nodes"]) > 1
    assert "accuracy" in whole["said"] and str(out / "report.html") in whole["said"].replace("\n", "")
    config = read_json(out / "run.json")
    assert config == {"command": "demo", **to_dict(SMALL), "seed": 0}


def test_killed_and_started_again_it_ends_the_same(whole: dict[str, Any], tmp_path: Path) -> None:
    """Oracle: the uninterrupted demo; SIGKILLs before random operations on its files and at random times."""
    chance, out, codes = random.Random(1), tmp_path / "killed", []
    for kill in range(KILLS):
        moment: dict[str, Any] = {"at": chance.randrange(1, whole["operations"] // (kill + 1))}
        if kill % 2:
            moment = {"after": chance.uniform(0.1, 0.5) * whole["seconds"]}
        codes.append(run(out, **moment)["code"])
    codes.append(run(out)["code"])
    assert codes[0] == -9 and codes.count(-9) >= 2 and codes[-1] == 0, codes
    resumed, expected = outcome(out), outcome(whole["out"])
    for part in expected:
        assert resumed[part] == expected[part], (part, codes)


def test_other_settings_are_another_run(whole: dict[str, Any]) -> None:
    """Oracle: exit code 2, the difference named, nothing changed."""
    before = outcome(whole["out"])
    other = to_dict(SMALL)
    other["method"]["search"]["branch"] = 2
    log = Path(f"{whole['out']}.log")
    log.write_text("")
    assert session(["demo"], whole["out"], demo=other)["code"] == 2
    assert "method.search.branch was 3, now 2" in log.read_text()
    assert outcome(whole["out"]) == before
