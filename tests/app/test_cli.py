"""The command as people use it: help, mistakes, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfstudy import __version__
from selfstudy.app import cli

COMMANDS = (
    "demo",
    "methods",
    "show",
    "fit",
    "resume",
    "compare",
    "claim",
    "report",
    "label",
    "export",
    "doctor",
)
FIT = ("fit", "cram", "--task", "exam")


def selfstudy(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "selfstudy", *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_help_is_quick_and_names_every_command() -> None:
    """Oracle: the design's half second, for the best of three; the list of commands."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = selfstudy("--help")
        times.append(time.perf_counter() - start)
    assert done.returncode == 0 and done.stderr == ""
    assert all(f"    {name} " in done.stdout for name in COMMANDS)
    assert min(times) < 0.5


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, command) -> None:
    """Oracle: exit code 0 and the usage line."""
    said = command(name, "--help")
    assert said.code == 0 and said.out.startswith(f"usage: selfstudy {name}")


def test_version(command) -> None:
    """Oracle: the package's version."""
    assert command("--version").out.strip() == f"selfstudy {__version__}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fitt",), 2, "Did you mean 'fit'?"),
        (("fit",), 2, "required: method"),
        (("fit", "cram"), 2, "needs problems to work on"),
        (("fit", "rest-em", "--task", "exam"), 2, "cannot work on the task 'exam'"),
        (
            ("fit", "self-sorting"),
            2,
            "Unless told it takes the task 'arrays' and the model 'top-down-bubble'",
        ),
        (("methods", "--familly", "x"), 2, "--familly"),
        (("methods", "--family", "reasonin"), 2, "Did you mean 'reasoning'?"),
        (("show", "rest-mtcs"), 2, "Did you mean 'rest-mcts'?"),
        (("fit", "crm", "--task", "exam"), 2, "Did you mean 'cram'?"),
        ((*FIT, "--pace.gian", "0.2"), 2, "Did you mean '--pace.gain'?"),
        ((*FIT, "--rounds", "two"), 2, "rounds"),
        ((*FIT, "--rounds"), 2, "rounds"),
        ((*FIT, "--rounds", "0"), 2, "at least 1"),
        ((*FIT, "stray"), 2, "'stray' belongs to no option"),
        ((*FIT, "--seed", "x"), 2, "--seed"),
        ((*FIT, "--budget", "tokns=3"), 2, "Did you mean 'tokens'?"),
        ((*FIT, "--config", "none.yaml"), 2, "none.yaml"),
        ((*FIT, "--test-limit", "0"), 2, "--test-limit"),
        (("resume", "nowhere"), 2, "holds no run"),
        (("report", "nowhere"), 2, "holds no run"),
        (("compare", "cram", "--task", "exam", "--budget", "tokens=9"), 2, "two or more"),
        (("compare", "cram", "idle", "--task", "exam"), 2, "start from different models"),
        (
            ("compare", "cram", "idle", "--task", "exam", "--model", "skill", "--budget", ""),
            2,
            "needs a budget",
        ),
        (("compare", "cram", "idle", "--task", "exam", "--model", "skill"), 2, "does not say how many"),
        ((*FIT, "--labels", "0"), 2, "--labels"),
        (("fit", "cram", "--task", "digits?labels=20", "--labels", "30"), 2, "Say it once"),
        (
            ("compare", "cram", "idle", "--task", "e", "--budget", "tokens=9", "--crm.rounds", "1"),
            2,
            "--cram.FIELD",
        ),
        (("claim",), 2, "Name one method"),
        (("claim", "--all", "cram"), 2, "Name one method"),
        (("claim", "cram", "--seeds", "0"), 2, "--seeds"),
        (("claim", "cram", "--ray", "nowhere"), 2, "There is no Ray cluster"),
    ],
)
def test_mistakes_are_one_paragraph(arguments: tuple[str, ...], code: int, words: str, command) -> None:
    """Oracle: the exit code of the error's class, one line on stderr, and an empty directory."""
    said = command(*arguments)
    assert said.code == code
    assert words in said.err
    assert said.err.startswith("selfstudy: ") and said.err.count("\n") == 1 and said.out == ""
    assert list(Path.cwd().iterdir()) == []


def test_warnings_are_one_line(tmp_path: Path) -> None:
    """Oracle: a graph with a loop; neither the place in the code nor the code itself is shown."""
    ring = "".join(f"{node},{(node + 1) % 20}\n" for node in range(20))
    (tmp_path / "edges.csv").write_text(f"source,target\n{ring}3,3\n")
    numbers = "".join(f"{node},{node % 3},{node % 7}\n" for node in range(20))
    (tmp_path / "nodes.csv").write_text(f"id,x,y\n{numbers}")
    graph = "graph:edges.csv?features=nodes.csv"
    done = selfstudy("fit", "gcool", "--task", graph, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("note: Edges of the graph 'edges' were cleaned (1 loops")


def test_a_mistake_in_a_real_process(tmp_path: Path) -> None:
    """Oracle: as above, seen from a shell."""
    done = selfstudy("show", "rest-mtcs", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "selfstudy: Unknown method 'rest-mtcs'. Did you mean 'rest-mcts'?\n"


def test_the_unexpected_is_short_and_can_be_traced(command) -> None:
    """Oracle: exit code 1; the traceback only when asked for."""
    said = command(*FIT, "--fail-at", "0", "--out", "a")
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        "selfstudy: something unexpected went wrong (RuntimeError: power cut in two lines). "
        "Run with --traceback to see where."
    )
    assert "Traceback" not in said.err
    traced = command("--traceback", *FIT, "--fail-at", "0", "--out", "b")
    assert traced.code == 1 and "Traceback" in traced.err and "in learn" not in traced.err.splitlines()[0]


def test_interrupt(command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: 128 plus the number of SIGINT."""
    stopped = cli.COMMANDS["methods"]._replace(work=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setitem(cli.COMMANDS, "methods", stopped)
    said = command("methods")
    assert (said.code, said.err) == (130, "selfstudy: interrupted\n")


def test_a_closed_pipe_is_no_error() -> None:
    """Oracle: nothing on stderr when the reader has gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    arguments = [sys.executable, "-m", "selfstudy", "methods"]
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, "")


def test_methods_and_show(command) -> None:
    """Oracle: the index's words, and the fields of the fake method with their help."""
    listed = command("methods", "--family", "fakes")
    assert "cram" in listed.out and "rest-mcts" not in listed.out and "not run here" in listed.out
    shown = command("show", "cram")
    assert shown.code == 0 and "Learns by saying so." in shown.out
    (line,) = [line for line in shown.out.splitlines() if "--pace.gain" in line]
    assert "0.1" in line and "Share gained in a round." in line


def test_doctor(command) -> None:
    """Oracle: every extra of the package is told about."""
    from importlib.metadata import metadata

    said = command("doctor")
    extras = set(metadata("selfstudy").get_all("Provides-Extra") or []) - {"docs", "test"}
    assert said.code == 0 and "cores" in said.out and extras
    assert all(extra in said.out for extra in extras)
