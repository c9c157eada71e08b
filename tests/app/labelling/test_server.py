"""`selfstudy label` as a command: what it refuses, and labels from and to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfstudy.app.cli import main
from selfstudy.app.labelling import training
from selfstudy.app.labelling.server import listening_on
from selfstudy.core.directory import is_worked_on, open_directory
from selfstudy.core.errors import UsageError
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query

ROWS = "".join(f"the {'good' if n % 2 else 'bad'} one {n},{['no', 'yes'][n % 2]}\n" for n in range(20))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that asks for three labels, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.csv").write_text(f"text,label\n{ROWS}open one,\nopen two,\nopen three,\n")
    directory = tmp_path / "run"
    open_directory(
        directory, {"method": "hast", "task": "csv:r.csv?text=text&label=label", "seed": 0}
    ).close()
    places = np.array([14, 15, 16])
    with LabelDatabase(directory) as store, store.change():
        store.pose(Query(name="q", places=places, classes=("no", "yes")))
    return directory


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "holds no run"),
        ({"command": "demo"}, "was not started by `selfstudy fit`: it asks nobody"),
        ({"method": "hast", "task": "pool:digits?labels=20"}, "asks nobody: the labels of its task"),
        ({"method": "rest-mcts", "task": "chain100?steps=2&train=2"}, "asks nobody"),
    ],
)
def test_other_directories_are_refused(
    config: dict[str, str] | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Oracle: exit code 2, one line, and nothing written."""
    if config is not None:
        (tmp_path / "run.json").write_text(json.dumps(config))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["label", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_port_in_use_and_a_host_that_is_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: exit code 2 and the port in the message."""
    with listening_on("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert main(["label", "run", "--port", port]) == 2
        assert f"Nothing can listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    assert main(["label", "run", "--host", "256.1.1.1"]) == 2
    assert "Give another --host or --port" in capsys.readouterr().err
    assert main(["label", "run", "--port", "99999"]) == 2
    assert "must be from 0 to 65535" in capsys.readouterr().err
    assert main(["label", "run", "--annotators", "0"]) == 2


def test_labels_go_out_and_in(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oracle: the file that is written, filled in by hand, answers the query; the counts are said."""
    assert main(["label", "run", "--export", "labels.csv"]) == 0
    text = Path("labels.csv").read_text()
    assert text.count(",q,") == 3
    Path("labels.csv").write_text(text.replace(",,,,,,", ",,yes,Ann,,,"))
    capsys.readouterr()
    assert main(["label", "run", "--import", "labels.csv"]) == 0
    assert "3 labels answer the query" in capsys.readouterr().out
    assert main(["label", "run", "--import", "labels.txt"]) == 2
    assert main(["label", "run", "--import", "none.json"]) == 3


def test_a_run_that_is_worked_on_is_known(tmp_path: Path) -> None:
    """Oracle: the lock, while it is held and after."""
    assert not is_worked_on(tmp_path / "run")
    lock = open_directory(tmp_path / "run", {"seed": 0})
    assert is_worked_on(tmp_path / "run")
    lock.close()
    assert not is_worked_on(tmp_path / "run")


def test_the_command_that_trains_is_resume() -> None:
    """Oracle: the words that the page runs; the tests of the page replace them."""
    assert training.COMMAND[1:] == ("-m", "selfstudy", "resume")


def test_htmx_is_the_published_file() -> None:
    """Oracle: the checksum of htmx.min.js in the package htmx.org 2.0.11 of npm (0BSD)."""
    from hashlib import sha256

    from selfstudy.app.labelling.routes import STATIC

    assert sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX


def test_listening_ends(run: Path) -> None:
    """Oracle: the port is free again."""
    with listening_on("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
    with listening_on("127.0.0.1", port):
        pass
    with pytest.raises(UsageError), listening_on("127.0.0.1", -1):
        pass


HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
