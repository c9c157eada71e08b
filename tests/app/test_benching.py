"""`selfstudy bench` as a user calls it: targets, a run, its score, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfstudy.app.cli import main
from selfstudy.core.files import read_json
from selfstudy.evaluation.time_to_target import score
from selfstudy.tasks import workloads


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits for 30 steps, with a target that most reach."""
    from dataclasses import replace

    monkeypatch.setitem(
        workloads.RECIPES, "digits-mlp", replace(workloads.RECIPES["digits-mlp"], step_hint=30)
    )
    monkeypatch.setattr(
        workloads,
        "frozen_targets",
        lambda: {name: {"validation": 0.8} for name in ("digits-mlp", "digits-mlp-tanh")},
    )


def test_run_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the logs that the run wrote, counted, and the same score from them alone."""
    out, told = tmp_path / "bench", tmp_path / "score.json"
    names = ["digits-mlp", "digits-mlp-tanh"]
    arguments = ["--submissions", "adamw,nesterov", "--studies", "2", "--trials", "2", "--out", str(out)]
    assert main(["bench", "run", *names, *arguments]) == 0
    logs = read_json(out / "logs.json")
    assert len(logs) == 2 * 2 * 2 * 2
    assert {log["workload"] for log in logs} == set(names)
    assert main(["bench", "score", str(out), "--out", str(told)]) == 0
    assert "adamw" in capsys.readouterr().out
    scored: dict[str, Any] = read_json(told)
    assert set(scored["scores"]) == {"adamw", "nesterov"}
    assert set(scored["times"]["adamw"]) == set(names)
    wanted = score(logs, variants={"digits-mlp": ["digits-mlp-tanh"]})
    assert scored == json.loads(json.dumps(wanted.to_json()))


def test_logs_of_two_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: a table of times by hand, from two files of logs."""
    for name, cost in (("first", 1.0), ("second", 2.0)):
        looks = [{"step": 1, "wall": cost, "cost": cost, "validation": 0.1, "test": None}]
        log = {"workload": "w", "submission": name, "target": 0.2, "better": "lower", "looks": looks}
        (tmp_path / f"{name}.json").write_text(json.dumps([{**log, "failed": None, "study": 0, "trial": 0}]))
    files = [str(tmp_path / "first.json"), str(tmp_path / "second.json")]
    assert main(["bench", "score", *files, "--reference", "second", "--strict"]) == 0
    said = capsys.readouterr().out
    assert "1.000" in said
    assert "0.667" in said
    assert "2.00 on 1" in said


def test_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the file that it wrote, with the seed and as many figures as seeds."""
    arguments = ["--trials", "1", "--seeds", "2", "--seed", "7", "--out", str(tmp_path / "targets")]
    assert main(["bench", "targets", "digits-mlp", *arguments]) == 0
    found = read_json(tmp_path / "targets" / "workload_targets.json")["digits-mlp"]
    assert found["seed"] == 7
    assert len(found["seeds"]) == 2
    assert "digits-mlp" in capsys.readouterr().out


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit codes and what the message names."""
    assert main(["bench", "run", "digit-mlp"]) == 2
    assert main(["bench", "run", "digits-mlp", "--submissions", "adamw,adamw"]) == 2
    assert main(["bench", "run", "digits-mlp", "--studies", "0"]) == 2
    assert main(["bench", "score", str(tmp_path)]) == 3
    assert main(["bench", "score", f"mine={tmp_path}"]) == 3
    said = capsys.readouterr().err
    assert "Did you mean 'digits-mlp'" in said
    assert "eval_measurements.csv" in said
