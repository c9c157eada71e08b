from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
from dataclasses import dataclass
from pathlib import Path

import pytest

from selfstudy.signals.sandbox import Limits, Program, Sandbox, Verdict

from .hostile import HONEST, PROGRAMS, SQUARE, Hostile

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

# A size of the temporary directory that no other sandbox has: it shows in the command of every process.
MARK = 16 * 2**20 + 4096 * (os.getpid() % 1000 + 1)
LIMITS = Limits(test=2.0, program=6.0, cpu=3, memory=256 * 2**20, files=MARK)


@dataclass
class Host:
    """What hostile programs reach for, and what it was like before."""

    secret: Path
    port: int

    def program(self, hostile: Hostile) -> Program:
        words = {"SECRET": str(self.secret), "PORT": str(self.port), "PID": str(os.getpid())}
        code = hostile.code
        for word, value in {**words, "VARIABLE": "SELFSTUDY_TEST_SECRET"}.items():
            code = code.replace(word, value)
        return Program(code=code, tests=hostile.tests, names=("f",))


@dataclass
class Aftermath:
    """One run of all hostile programs with honest ones between them."""

    hostile: dict[str, Verdict]
    honest: list[Verdict]
    secret: str
    connections: int
    mounts: tuple[str, str]
    processes: list[str]
    files: list[str]


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    folder = tmp_path_factory.mktemp("host")
    secret = folder / "secret"
    secret.write_text("untouched")
    mounts = Path("/proc/self/mountinfo").read_text()
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        door.setblocking(False)
        host = Host(secret, door.getsockname()[1])
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0selfstudy-{host.port}")
        abstract.listen()
        abstract.setblocking(False)
        os.environ["SELFSTUDY_TEST_SECRET"] = "x"
        stack.callback(os.environ.pop, "SELFSTUDY_TEST_SECRET")
        honest = Program(code=HONEST, tests=SQUARE, names=("f",))
        programs = [one for hostile in PROGRAMS.values() for one in (honest, host.program(hostile))]
        with Sandbox(2, LIMITS) as sandbox:
            verdicts = sandbox.judge(programs)
        connections = 0
        for listening in (door, abstract):
            with contextlib.suppress(BlockingIOError):
                listening.accept()
                connections += 1
    return Aftermath(
        hostile=dict(zip(PROGRAMS, verdicts[1::2], strict=True)),
        honest=verdicts[::2],
        secret=secret.read_text(),
        connections=connections,
        mounts=(mounts, Path("/proc/self/mountinfo").read_text()),
        processes=_marked(),
        files=sorted(os.listdir(folder)),
    )


def _marked() -> list[str]:
    """Return the commands of all living processes that carry our mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if str(MARK).encode() in words:
                found.append(str(words))
    return found


def test_there_are_enough() -> None:
    """Oracle: the number that was asked for."""
    assert len(PROGRAMS) >= 60


@pytest.mark.parametrize("name", PROGRAMS)
def test_hostile(name: str, aftermath: Aftermath) -> None:
    """Oracle: which tests pass, and how it ends, as written beside each program."""
    hostile, verdict = PROGRAMS[name], aftermath.hostile[name]
    assert verdict.passed == hostile.passed, verdict
    assert verdict.ending in hostile.endings, verdict


def test_honest_neighbours_are_judged_right(aftermath: Aftermath) -> None:
    """Oracle: a right program passes, whoever runs beside and before it."""
    assert len(aftermath.honest) == len(PROGRAMS)
    assert {verdict.passed for verdict in aftermath.honest} == {(True, True)}


def test_neighbours_are_not_slowed(aftermath: Aftermath) -> None:
    """Oracle: the limit of a test, which no neighbour may exceed."""
    assert statistics.median(verdict.seconds for verdict in aftermath.honest) < LIMITS.test
    assert max(verdict.seconds for verdict in aftermath.honest) < LIMITS.program


def test_nothing_is_left(aftermath: Aftermath) -> None:
    """Oracle: the host's files, mounts, processes and sockets before the run."""
    assert aftermath.secret == "untouched" and aftermath.files == ["secret"]
    assert aftermath.connections == 0
    assert aftermath.mounts[0] == aftermath.mounts[1]
    assert aftermath.processes == []
