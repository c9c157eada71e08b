"""`fit` and `resume` as two processes that torchrun starts: the counts of one; a kill changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from selfstudy.app.cli import main
from selfstudy.core.errors import UsageError
from selfstudy.core.group import require_alone

from ..contract.sessions import session

FIT = ["fit", "rest-em", "--task", "chain100?steps=2", "--train-limit", "7", "--test-limit", "4"]
FIELDS = ["--samples", "2", "--batch", "2", "--rounds", "1", "--tuning.steps", "5"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
SECONDS = 300  # a busy machine is slow


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, "-m", "selfstudy", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


def read(path: Path) -> object:
    return json.loads(path.read_text())


def lines(run: Path, *names: str) -> list[dict[str, object]]:
    """The lines of the log, without what `names` name."""
    logged = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in names} for line in logged]


def test_two_processes_killed_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: this process, for samples, counts and what is said; two that were not killed, bit for bit.

    Those that are killed, and those that are not, are forks in the place of what torchrun starts.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main([*FIT, *FIELDS, "--out", str(tmp_path / "one")]) == 0
    two, killed = tmp_path / "two", tmp_path / "killed"
    assert session([*FIT, *FIELDS], two, processes=2)["code"] == 0
    for said in (capsys.readouterr().out, two.with_suffix(".log").read_text()):
        assert said.count("method    rest-em") == said.count("Report:") == 1  # only the leader speaks
    assert session([*FIT, *FIELDS], killed, processes=2, within=14)["code"] == -9
    records = killed / "partial/samples-0/samples/records.jsonl"
    assert 0 < records.read_text().count("\n") < 7
    assert session([*FIT, *FIELDS], killed, processes=2, within=55)["code"] == -9
    assert list(killed.glob("partial/policy-0/policy/*/state.safetensors"))
    assert not (killed / "stages/policy-0").exists()
    assert finish(start(tmp_path, "resume", "killed")).count("Report:") == 1

    samples = [
        read(tmp_path / name / "stages/samples-0/stage.json")["value"] for name in ("one", "two", "killed")
    ]
    assert samples[0] == samples[1] == samples[2]
    spent = [read(tmp_path / name / "summary.json")["spent"] for name in ("one", "two", "killed")]
    spent = [{unit: amount for unit, amount in each.items() if unit != "seconds"} for each in spent]
    assert spent[0] == spent[1] == spent[2] and spent[0]["samples"] > 0
    assert lines(tmp_path / "two", "seconds") == lines(tmp_path / "killed", "seconds")
    figures = ("seconds", "loss", "norm")  # equal but for rounding
    assert lines(tmp_path / "one", *figures) == lines(tmp_path / "two", *figures)
    whole, cut = (load_file(tmp_path / name / "model/model.safetensors") for name in ("two", "killed"))
    assert all(whole[name].equal(cut[name]) for name in whole)
    alone = load_file(tmp_path / "one/model/model.safetensors")
    assert max(float((whole[name] - alone[name]).abs().max()) for name in whole) < 1e-5


def test_what_does_not_share_is_refused_once(tmp_path: Path) -> None:
    """Oracle: the paragraph, said by one of the processes; nothing is written."""
    process = start(tmp_path, "fit", "barlow-twins", "--out", "run")
    said, _ = process.communicate(timeout=SECONDS)
    assert process.returncode != 0 and said.count("works in one process, and 2 were started") == 1
    assert not list(tmp_path.iterdir())


def test_the_environment_tells_how_many_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what torchrun sets; a lone WORLD_SIZE, of some other program, counts for nothing."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("RANK", raising=False)
    require_alone("It")
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UsageError, match="It works in one process, and 8 were started"):
        require_alone("It")
