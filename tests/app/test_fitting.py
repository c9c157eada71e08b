"""`selfstudy fit`, `resume` and `compare` on a method that takes no time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import selfstudy
from selfstudy.app import costs
from selfstudy.app.saving import load
from selfstudy.core.checkpoint import write_sums
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.index import METHODS
from selfstudy.evaluation.statistics import paired_interval, wilson

FIT = ("fit", "cram", "--task", "exam", "--out", "out")


def read(path: str) -> dict:
    return json.loads(Path(path).read_text())


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}


def test_fit_leaves_everything_behind(command) -> None:
    """Oracle: what the fake method must reach (0.4 + 2 * 0.1), counted by hand."""
    said = command(*FIT)
    assert said.code == 0, said.err
    summary = read("out/summary.json")
    assert summary["base"]["accuracy"] == 0.4 and summary["trained"]["accuracy"] == 0.6
    assert (summary["trained"]["low"], summary["trained"]["high"]) == wilson(60, 100)
    assert summary["gain"]["mean"] == pytest.approx(0.2) and summary["metrics"]["final"] == pytest.approx(0.6)
    assert summary["spent"]["generated_tokens"] == 2000, "the evaluation is not charged"
    assert {"model", "other", "run.json", "metrics.jsonl", "report.html", "samples.json"} <= {
        path.name for path in Path("out").iterdir()
    }
    assert selfstudy.load("out").share == pytest.approx(0.6)
    assert "60.0 %" in said.out and "+20.0 points" in said.out
    for word in ("parameters", "2,000 generated tokens", "writes", "budget"):
        assert word in said.out


def test_a_method_may_have_a_task_and_a_model_of_its_own(command) -> None:
    """Oracle: the index's entry; what the user names goes before it."""
    assert command("fit", "idle", "--out", "own").code == 0
    assert (read("own/run.json")["task"], read("own/run.json")["model"]) == ("exam", "skill")
    assert command("fit", "idle", "--task", "test", "--model", "other", "--out", "named").code == 0
    assert (read("named/run.json")["task"], read("named/run.json")["model"]) == ("test", "other")
    selfstudy.fit("idle", out="python")
    assert read("python/run.json") == read("own/run.json")


def test_a_trial_step_is_timed(command) -> None:
    """Oracle: two calls, one to warm up, and the number of steps that the method says."""
    sys.modules["selfstudy.fake"].Idle.tried.clear()
    said = command("fit", "idle", "--dry-run")
    assert "a step in a trial, 50 of them: 0 s" in said.out
    assert len(sys.modules["selfstudy.fake"].Idle.tried) == 2


def test_other_work_does_not_count(monkeypatch) -> None:
    """Oracle: by hand; of calls that take 5, 3, 9 and 4 s the least is taken."""
    now = iter([0, 5, 10, 13, 20, 29, 30, 34])
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(now))
    assert costs._seconds(lambda: None, 4) == 3


def test_fields_by_file_and_option(command) -> None:
    """Oracle: options go before the file, the file before the defaults; run.json keeps what came out."""
    Path("fields.yaml").write_text("rounds: 3\npace:\n  gain: 0.05\n")
    said = command(*FIT, "--config", "fields.yaml", "--rounds", "1", "--pace.tries", "9", "--careful", "True")
    assert said.code == 0, said.err
    expected = {"rounds": 1, "pace": {"gain": 0.05, "tries": 9}, "fail_at": None, "careful": True}
    assert read("out/run.json")["fields"] == expected


def test_python_does_the_same(command) -> None:
    """Oracle: the command's run.json; nested fields are dictionaries."""
    command(*FIT, "--pace.gain", "0.02", "--seed", "3", "--budget", "tokens=5000")
    fitted = selfstudy.fit(
        "cram", task="exam", model="tiny-lm", out="two", seed=3, budget={"tokens": 5000}, pace={"gain": 0.02}
    )
    assert read("two/run.json") == read("out/run.json")
    assert fitted.model.share == pytest.approx(0.4 + 2 * 0.023) and fitted.parts["other"].share == 0.5
    with pytest.raises(UsageError, match="Did you mean 'rounds'"):
        selfstudy.fit("cram", task="exam", model="tiny-lm", out="three", runds=1)
    assert not Path("three").exists()


def test_dry_run_writes_nothing(command) -> None:
    """Oracle: an empty directory, and the cost on the screen."""
    said = command(*FIT, "--dry-run", "--rounds", "7")
    assert said.code == 0 and "7,000 generated tokens" in said.out and "writes" in said.out
    assert contents() == {}


def test_a_finished_run_is_shown_not_repeated(command) -> None:
    """Oracle: the files, byte for byte."""
    command(*FIT)
    before = contents()
    again = command(*FIT)
    assert again.code == 0 and "finished" in again.out and "60.0 %" in again.out
    resumed = command("resume", "out")
    assert resumed.code == 0 and "60.0 %" in resumed.out
    assert contents() == before


def test_another_configuration_is_refused(command) -> None:
    """Oracle: the difference is named, and the files stay byte for byte."""
    command(*FIT)
    before = contents()
    said = command(*FIT, "--rounds", "5")
    assert said.code == 2 and "fields.rounds was 2, now 5" in said.err
    assert contents() == before


def test_resume_goes_on_where_the_power_was_cut(command) -> None:
    """Oracle: the uninterrupted run."""
    cut = command(*FIT, "--fail-at", "1")
    assert cut.code == 1 and not Path("out/summary.json").exists()
    said = command("resume", "out")
    assert said.code == 0, said.err
    command("fit", "cram", "--task", "exam", "--out", "whole")
    for key in ("base", "trained", "gain", "metrics"):
        assert read("out/summary.json")[key] == read("whole/summary.json")[key]
    assert read("out/summary.json")["spent"]["generated_tokens"] == 2000


def test_a_spent_budget_can_be_raised(command) -> None:
    """Oracle: exit code 5, then the result of a run with budget enough."""
    said = command(*FIT, "--budget", "tokens=1500")
    assert said.code == 5 and "larger --budget" in said.err
    assert command("resume", "out").code == 5, "the budget is kept"
    done = command("resume", "out", "--budget", "tokens=2500")
    assert done.code == 0 and read("out/summary.json")["trained"]["accuracy"] == 0.6
    assert read("out/summary.json")["budget"] == {"generated_tokens": 2500}


def test_default_directories_are_numbered(command) -> None:
    """Oracle: the documented names; what a path cannot hold is replaced."""
    for _ in range(2):
        assert command("fit", "cram", "--task", "exam?n=1/2").code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["cram-exam-n-1-2-1", "cram-exam-n-1-2-2"]


def test_a_foreign_class_is_not_loaded(command) -> None:
    """Oracle: only modules of the package are imported from a run's files."""
    command(*FIT)
    Path("out/model/kind.json").write_text('"os:system"')
    Path("out/model/checksums.json").unlink()
    write_sums(Path("out/model"))
    with pytest.raises(MachineError, match="not ours"):
        selfstudy.load("out")


@pytest.mark.parametrize("part", ["model", "other"])
def test_a_damaged_result_is_named_and_written_again(command, part: str) -> None:
    """Oracle: the file that was cut, and the bytes that were there before; nothing is trained again."""
    command(*FIT)
    before, spent = contents(), read("out/summary.json")["spent"]
    file = next(
        path for path in Path(f"out/{part}").iterdir() if path.name not in ("kind.json", "checksums.json")
    )
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MachineError, match=rf"{file} has been truncated or edited.*selfstudy resume out"):
        load("out", part)
    said = command("resume", "out")
    assert said.code == 0, said.err
    assert file.read_bytes() == before[str(Path.cwd() / file)]
    assert read("out/summary.json")["spent"]["generated_tokens"] == spent["generated_tokens"]


def test_compare_pairs_by_seed(command) -> None:
    """Oracle: the accuracies the fake methods must reach, and their paired interval."""
    arguments = (
        "compare",
        "cram",
        "idle",
        "--task",
        "exam",
        "--model",
        "tiny-lm",
        "--budget",
        "tokens=2000",
        "--seeds",
        "3",
        "--workers",
        "1",  # the fakes are in this process alone
        "--out",
        "c",
    )
    said = command(*arguments, "--cram.pace.gain", "0.1", "--idle.rounds", "1")
    assert said.code == 0, said.err
    result = read("c/result.json")
    cram, idle = [round(0.6 + 0.002 * seed, 2) for seed in range(3)], [0.4 + 0.01 * seed for seed in range(3)]
    assert result["results"]["cram"]["figures"] == pytest.approx(cram)
    assert result["results"]["idle"]["figures"] == pytest.approx(idle)
    expected = paired_interval([a - b for a, b in zip(cram, idle, strict=True)])
    (pair,) = result["differences"]
    assert (pair["mean"], pair["low"], pair["high"]) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert result["results"]["idle"]["curves"][0] == [[0, 0.4], [1000, 0.4]]
    assert result["results"]["cram"]["curves"][0] == [[0, 0.4], [1000, 0.5], [2000, 0.6]]
    assert "cram - idle" in said.out
    assert "Report: c/report.html" in said.out and "Paired differences" in Path("c/report.html").read_text()
    again = command("resume", "c")
    assert again.code == 0 and read("c/result.json")["differences"] == result["differences"]
    assert command("report", "c").code == 0 and "Paired differences" in Path("c/report.html").read_text()
    other = command(*arguments[:-1], "c", "--cram.rounds", "1")
    assert other.code == 2 and "another comparison" in other.err


def test_claims_are_run_and_recorded(command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a made-up claim that holds, one that fails, and the status shown afterwards."""
    Path("src/selfstudy").mkdir(parents=True)
    Path("claims").mkdir()
    text = "from selfstudy.evaluation.claims import Claim, Relation\n"
    text += "seen = lambda seed, run: {'a': %s + seed / 100, 'b': 0.5}\n"
    text += "CLAIMS = [Claim(name='R1', statement='a beats b', seeds=range(3), measure=seen, "
    text += "relations=[Relation('r', 'a', 'b')])]\n"
    Path("claims/cram.py").write_text(text % 0.6)
    Path("claims/idle.py").write_text(text % 0.4)
    few = command("claim", "cram", "--seeds", "2")
    assert few.code == 0 and not Path("claims/results").exists(), "too few seeds are not recorded"
    said = command("claim", "cram")
    assert said.code == 0 and "holds" in said.out and "+11.0 points" in said.out
    assert read("claims/results/cram.json")["claims"][0]["verdict"] == "holds"
    assert command("claim", "--all").code == 1
    lines = {
        line.split()[0]: line for line in command("methods", "--family", "fakes").out.splitlines() if line
    }
    assert lines["cram"].rstrip().endswith("holds") and lines["idle"].rstrip().endswith("fails")
    monkeypatch.delitem(METHODS, "idle")
