from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core import files
from selfstudy.core.errors import MachineError
from selfstudy.core.files import (
    Journal,
    Log,
    as_read,
    full_disk_explained,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
    write_whole,
)


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def fill(**contents):
    def write(folder):
        folder.mkdir(parents=True)
        for name, text in contents.items():
            (folder / name).write_text(text)

    return write


def test_json_round_trip(tmp_path):
    """Oracle: the same data as plain numbers and lists."""
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": np.float64(0.1), "y": np.arange(3), "z": Path("p"), "t": (1, None)})
    assert read_json(path) == {"x": 0.1, "y": [0, 1, 2], "z": "p", "t": [1, None]}
    assert as_read({1: (2, np.bool_(True))}) == {"1": [2, True]}
    with pytest.raises(TypeError, match="set cannot be written"):
        write_json(path, {1})
    assert read_json(path)["x"] == 0.1


@pytest.mark.parametrize(("content", "said"), [(None, "missing"), ("{", "damaged"), (b"\xff", "damaged")])
def test_read_json_names_the_damaged_file(tmp_path, content, said):
    """Oracle: a MachineError with the path in it."""
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(MachineError, match=said) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Oracle: the folder byte for byte as before, for a file and for a folder."""
    write_text(tmp_path / "file", "old")
    write_whole(tmp_path / "folder", fill(x="old"))
    before = tree(tmp_path)

    def half_a_file(path):
        path.write_text("ha")
        raise ValueError("midway")

    def half_a_folder(path):
        fill(x="new")(path)
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="midway"):
        write_whole(tmp_path / "file", half_a_file)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "folder", half_a_folder)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_failed_rename_brings_the_old_folder_back(tmp_path, monkeypatch, failing):
    """Oracle: the folder as before, whichever of the two renames fails."""
    write_whole(tmp_path / "folder", fill(x="old", z="old"))
    before, calls, real = tree(tmp_path), [], os.replace

    def replace(one, other):
        calls.append(one)
        if len(calls) == failing:
            raise OSError(errno.EIO, "no luck")
        real(one, other)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="no luck"):
        write_whole(tmp_path / "folder", fill(x="new"))
    assert tree(tmp_path) == before


def test_a_folder_is_replaced_whole(tmp_path):
    """Oracle: the new content alone, and no temporary beside it."""
    write_whole(tmp_path / "folder", fill(x="old", z="old"))
    write_whole(tmp_path / "folder", fill(x="new", y="new"))
    assert tree(tmp_path) == {"folder": None, "folder/x": b"new", "folder/y": b"new"}


def test_a_temporary_of_the_same_process_number_is_no_obstacle(tmp_path):
    """Oracle: in a container every process may have number 1; what a killed one left is written over."""
    for ending in ("tmp", "old.tmp"):
        fill(stale="x")(tmp_path / f".folder.{os.getpid()}.{ending}")
    write_whole(tmp_path / "folder", fill(x="new"))
    assert tree(tmp_path) == {"folder": None, "folder/x": b"new"}


def test_everything_is_on_disk_before_the_rename(tmp_path, monkeypatch):
    """Oracle: the order of calls: every file and folder synced, then renamed, then the parent synced."""
    done, real = [], os.replace
    monkeypatch.setattr(files, "_sync", lambda path: done.append(path.name))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), real(a, b)))

    def write(folder):
        fill(x="1")(folder)
        fill(y="2")(folder / "inner")

    write_whole(tmp_path / "folder", write)
    at = done.index("rename")
    assert {"x", "y", "inner", f".folder.{os.getpid()}.tmp"} == set(done[:at])
    assert done[at + 1 :] == [tmp_path.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from selfstudy.core import files
real, left = os.replace, int(sys.argv[2])
def replace(*paths):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(*paths)
files.os.replace = replace
def write(folder):
    folder.mkdir()
    (folder / "x").write_text("new")
path = Path(sys.argv[1])
files.write_text(path / "file", "new") if sys.argv[3] == "file" else files.write_whole(path / "folder", write)
"""


@pytest.mark.parametrize(("kind", "renames"), [("file", 0), ("folder", 0), ("folder", 1)])
def test_killed_between_writing_and_renaming(tmp_path, kind, renames):
    """Oracle: after SIGKILL the name holds the old content or, between two renames, nothing; never a part."""
    write_text(tmp_path / "file", "old")
    write_whole(tmp_path / "folder", fill(x="old", z="old"))
    before = tree(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(renames), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.tmp"))) == 1 + renames
    expected = {name: data for name, data in before.items() if not (renames and name.startswith("folder"))}
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == expected


def test_leftovers_are_only_ours(tmp_path):
    """Oracle: names that write_whole makes go, other names stay; below only when asked."""
    ours = [".a.json.12.tmp", ".b.7.old.tmp"]
    others = [".tmp", ".x.tmp", "a.12.tmp", ".12.tmp", ".gitignore"]
    (tmp_path / "in").mkdir()
    for name in [*ours, *others, "in/.c.3.tmp"]:
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert set(tree(tmp_path)) == {*others, "in", "in/.c.3.tmp"}
    remove_leftovers(tmp_path, deep=True)
    assert set(tree(tmp_path)) == {*others, "in"}
    remove_leftovers(tmp_path / "nowhere", deep=True)


# Logs.


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=6), st.integers(1, 30))
def test_a_log_drops_a_cut_last_line(tmp_path_factory, lines, cut):
    """Oracle: the lines whose newline survived the cut; the file is shortened to them and takes new lines."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    log = Log(path)
    for line in lines:
        log.append(line)
    data = path.read_bytes() if path.exists() else b""
    data = data[: max(0, len(data) - cut)]
    path.write_bytes(data)
    whole = data.count(b"\n")
    again = Log(path)
    if cut % 2:  # with and without reading first
        assert again.read() == lines[:whole]
        assert path.stat().st_size == data.rfind(b"\n") + 1
    again.append({"new": 1})
    assert Log(path).read() == [*lines[:whole], {"new": 1}]


def test_a_damaged_line_is_reported(tmp_path):
    """Oracle: an error that names the file, for text that is not JSON and bytes that are not text."""
    for content in (b'{"a": 1}\n{"b\n{"c": 2}\n', b"\xff\xff\n"):
        (tmp_path / "log").write_bytes(content)
        with pytest.raises(MachineError, match="damaged") as caught:
            Log(tmp_path / "log").read()
        assert str(tmp_path / "log") in str(caught.value)


def test_no_log_yet(tmp_path):
    """Oracle: empty, and reading makes no file."""
    log = Log(tmp_path / "log")
    assert (log.read(), log.size()) == ([], 0)
    log.cut(0)
    assert list(tmp_path.iterdir()) == []


def journal(path, place=0, kept=0):
    it = Journal(path, kept)
    it.go_to(place)
    return it


def test_a_journal_keeps_what_is_added_again(tmp_path):
    """Oracle: the first session's bytes, whatever the seconds and although nan is not equal to itself."""
    path = tmp_path / "log"
    first = journal(path)
    for n in range(4):
        first.add({"n": n, "loss": float("nan"), "seconds": n})
    data, places = path.read_bytes(), first.place
    again = journal(path)
    for n in range(4):
        assert len(again.passed()) == n
        again.add({"n": n, "loss": np.float64("nan"), "seconds": 100 + n})
    assert (path.read_bytes(), again.place) == (data, places)
    again.add({"n": 4})
    assert path.read_bytes() == data + b'{"n": 4}\n'


def test_a_journal_ends_where_something_else_is_added(tmp_path):
    """Oracle: lines by hand; the part that is kept is never rewritten."""
    path = tmp_path / "log"
    first = journal(path)
    ends = []
    for n in range(6):
        first.add({"n": n})
        ends.append(first.place)
    again = journal(path, place=ends[0], kept=ends[2])
    again.add({"n": "timing"})  # within what is kept
    assert again.place == ends[1]
    again.go_to(ends[3])
    again.add({"n": "other"})
    assert [line["n"] for line in Log(path).read()] == [0, 1, 2, 3, "other"]
    again.go_to(ends[0])
    assert [line["n"] for line in again.passed()] == [0]


def test_a_journal_whose_file_was_shortened(tmp_path):
    """Oracle: a place beyond the end, or within a line, is the end of the last whole line before it."""
    path = tmp_path / "log"
    path.write_text('{"n": 1}\n{"n": 2}\n{"n"')
    assert journal(path, place=1000).place == 18
    assert journal(path, place=17).place == 9
    assert journal(path, place=3).place == 0
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n'


# Full disks.


def test_a_journal_is_forced_to_disk_where_it_is_referred_to(tmp_path, monkeypatch):
    """Oracle: the calls of fsync; one for any number of lines, none where nothing is new."""
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    it = Journal(tmp_path / "log")
    for step in range(5):
        it.add({"step": step})
    assert calls == [] and len((tmp_path / "log").read_text().splitlines()) == 5
    assert it.settled() == it.place == it.size() and len(calls) == 1
    assert it.settled() == it.place and len(calls) == 1


def test_full_disk_is_explained(tmp_path):
    """Oracle: errors of the kinds that Python and the Rust libraries raise; others pass unchanged."""
    full = [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ]
    for error in full:
        with (
            pytest.raises(MachineError, match="Nothing written before is lost") as caught,
            full_disk_explained(tmp_path / "outer"),
            full_disk_explained(tmp_path / "inner"),
        ):
            raise error
        assert caught.value.exit_code == 4
        assert f"writing {tmp_path / 'outer'}." in str(caught.value)
    for error in (OSError(errno.EIO, "bad"), ValueError("os error"), MachineError("other")):
        with pytest.raises(type(error)) as caught, full_disk_explained(tmp_path):
            raise error
        assert caught.value is error


def test_a_line_is_whole_or_absent_when_the_disk_fills(tmp_path, monkeypatch):
    """Oracle: a disk that fails at the sync, after the bytes were written; the log is as before."""
    log = Log(tmp_path / "log")
    log.append({"a": 1})
    before = log.path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="disk is full"):
            log.append({"b": 2})
    assert log.path.read_bytes() == before
    log.append({"c": 3})
    assert log.read() == [{"a": 1}, {"c": 3}]


ON_A_FULL_DISK = """
import json, sys
from pathlib import Path
import torch
from selfstudy.app import cli
from selfstudy.core.checkpoint import save_state
from selfstudy.core.errors import MachineError
from selfstudy.core.files import Log, write_text
from selfstudy.core.run import Run

disk, said = Path(sys.argv[1]), {}
log = Log(disk / "log")
write_text(disk / "old", "x" * 5000)
(disk / "filler").write_bytes(bytes(40000))
try:
    for count in range(1000):
        log.append({"n": count, "pad": "y" * 3000})
except MachineError as error:
    said["log"] = [str(error), error.exit_code, log.path.read_bytes()[-1:].decode(), len(log.read()) == count]
for name, write in {
    "file": lambda: write_text(disk / "old", "z" * 30000),
    "checkpoint": lambda: save_state(disk / "c", {"m": torch.nn.Linear(100, 100)}, {}),
}.items():
    try:
        write()
    except MachineError as error:
        said[name] = [str(error), error.exit_code]
said["left"] = sorted(path.name for path in disk.iterdir())
said["old"] = (disk / "old").read_text() == "x" * 5000
log.path.unlink()
def work(_):
    with Run(disk / "run") as run:
        run.stage("small", lambda: 1)
        run.stage("big", lambda: "z" * 100000)
cli._command = work
said["code"] = cli.main([])
(disk / "filler").unlink()
with Run(disk / "run") as run:
    said["kept"] = run.stage("small", lambda: 2)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """What happens on a file system of 64 KiB, in a mount namespace that ends with the program."""
    place = tmp_path_factory.mktemp("disk")
    mount = (
        f'mount -t tmpfs -o size=64k none {place} && echo mounted && exec {sys.executable} -c "$0" {place}'
    )
    for user in ([], ["--user", "--map-root-user"]):
        try:
            done = subprocess.run(
                ["unshare", *user, "--mount", "sh", "-c", mount, ON_A_FULL_DISK],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            break
        if done.stdout.startswith("mounted"):
            assert done.returncode == 0, done.stderr
            return {**json.loads(done.stdout.splitlines()[1]), "stderr": done.stderr}
    pytest.skip("a file system of 64 KiB cannot be mounted here")


def test_a_log_on_a_full_disk(full_disk):
    """Oracle: a real full file system: the message, exit code 4, the file ends with a whole line."""
    message, code, last, whole = full_disk["log"]
    assert "The disk is full while writing" in message
    assert "Nothing written before is lost" in message
    assert (code, last, whole) == (4, "\n", True)


def test_files_and_checkpoints_on_a_full_disk(full_disk):
    """Oracle: the old file is whole, nothing half-written is left, safetensors' own error is explained."""
    assert full_disk["file"][1] == full_disk["checkpoint"][1] == 4
    assert "/c." in full_disk["checkpoint"][0]
    assert full_disk["left"] == ["filler", "log", "old"]
    assert full_disk["old"]


def test_a_run_on_a_full_disk(full_disk):
    """Oracle: exit code 4 through the command line, one paragraph, and the finished stage is read back."""
    assert full_disk["code"] == 4
    assert full_disk["stderr"].startswith("selfstudy: The disk is full")
    assert len(full_disk["stderr"].splitlines()) == 1
    assert full_disk["kept"] == 1
