"""`--ray`: the command on a real cluster that other processes have started."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from selfstudy.app import cli
from selfstudy.core.cluster import SETTINGS

FIT = [
    *("fit", "rest-em", "--task", "chain100?steps=2&train=12&validation=0&test=12", "--rounds", "1"),
    *("--samples", "2", "--batch", "2", "--tuning.steps", "2", "--tuning.batch", "8"),
]


def run(arguments, environment):
    return subprocess.run(
        [sys.executable, "-m", "selfstudy", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def cluster(tmp_path):
    """Yield the address of a cluster of two cores, and the environment to use it in."""
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {
            **os.environ,
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_TOKEN": "5" * 64,
            **SETTINGS,
        }
        head = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}"),
                *("--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false"),
                f"--temp-dir={folder}",
            ],
            env={**environment, "RAY_AUTH_MODE": "token"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert head.stdout
        try:
            said = ""
            for line in head.stdout:
                said += line
                if "block forever" in line:
                    break
            assert head.poll() is None, said
            yield f"127.0.0.1:{port}", {**environment, "RAY_AUTH_MODE": "token"}
        finally:
            head.terminate()
            head.stdout.close()
            head.wait()


def test_a_fit_and_a_resumed_one_on_a_cluster(tmp_path, cluster):
    """Oracle: the same fit in this process; what is on the screen; the resumed one has its start."""
    address, environment = cluster
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers have
    try:
        assert cli.main([*FIT, "--out", str(tmp_path / "alone")]) == 0
    finally:
        torch.set_num_threads(threads)
    shutil.copytree(tmp_path / "alone", tmp_path / "resumed")
    (tmp_path / "resumed" / "summary.json").unlink()
    for stage in ("samples-0", "policy-0", "after", "look"):
        shutil.rmtree(tmp_path / "resumed" / "stages" / stage)
    fanned = run([*FIT, "--out", tmp_path / "fanned", "--ray", address], environment)
    resumed = run(["resume", tmp_path / "resumed", "--ray", "auto"], {**environment, "RAY_ADDRESS": address})
    for done, where in ((fanned, address), (resumed, "auto")):
        assert done.returncode == 0, done.stderr
        assert f"workers   2, at {where}" in done.stdout.splitlines()
    names = ["before", "samples-0", "policy-0", "after", "look"]
    assert fanned.stderr.split() == names  # nothing of Ray's
    assert resumed.stderr.split() == names[1:]
    found = [result(tmp_path / name) for name in ("alone", "fanned", "resumed")]
    assert found[0] == found[1] == found[2]


def result(directory):
    """All that must not depend on who worked."""
    summary = json.loads((directory / "summary.json").read_text())
    spent = {**summary["spent"], "seconds": 0}
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    weights = (directory / "model" / "model.safetensors").read_bytes()
    return summary["base"], summary["trained"], spent, [{**line, "seconds": 0} for line in lines], weights


def test_a_cluster_that_does_not_answer(tmp_path, capsys):
    """Oracle: a port where nobody listens; exit codes and the paragraph."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert cli.main([*FIT, "--out", str(tmp_path / "run"), "--ray", address]) == 4
    assert f"No Ray cluster answers at {address}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [FIT, ["compare", "rest-em", "rest-mcts", "--task", "chain100"]])
def test_a_word_that_is_no_cluster_is_refused_first(command, tmp_path, capsys, monkeypatch):
    """Oracle: nothing is loaded, nothing is written."""
    monkeypatch.setattr("selfstudy.task", None)
    monkeypatch.setattr("selfstudy.model", None)
    assert cli.main([*command, "--out", str(tmp_path / "run"), "--ray", "locl"]) == 2
    assert "There is no Ray cluster 'locl'. Give local, auto, or HOST:PORT" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
