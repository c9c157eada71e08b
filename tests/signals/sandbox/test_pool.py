from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from selfstudy.core.errors import MachineError
from selfstudy.signals.sandbox import Limits, Program, Sandbox, Verdict, judge, require_sandbox

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

NEVER = Limits(test=60.0, program=120.0, cpu=60)


def program(code: str, *tests: str, setup: str = "", names: tuple[str, ...] = ("f",)) -> Program:
    return Program(code=textwrap.dedent(code), tests=tests, names=names, setup=setup)


def verdict(one: Program, limits: Limits = NEVER) -> Verdict:
    return judge([one], limits)[0]


def test_verdicts_are_in_order() -> None:
    """Oracle: which number each program adds."""
    programs = [
        program(f"def f(x): return x + {n}", *(f"assert f(1) == {m + 1}" for m in range(4))) for n in range(4)
    ]
    for n, one in enumerate(judge(programs, NEVER)):
        assert one.passed == tuple(m == n for m in range(4)) and one.ending == "ran"
        assert one.reasons == tuple("" if m == n else "AssertionError" for m in range(4))
    assert judge([], NEVER) == []


def test_arguments_results_and_values_go_over() -> None:
    """Oracle: Python itself."""
    code = """
        LIMIT = {"a": (1, 2.5), "b": {3}}
        def f(*given, **named): return given, named
    """
    tests = (
        "assert f([1, (2, {3: {4}})], b'x', k=None) == (([1, (2, {3: {4}})], b'x'), {'k': None})",
        "assert LIMIT == {'a': (1, 2.5), 'b': {3}}",
        "value = [1]; f(value).__class__; assert value == [1]",
        "assert f.__name__ == 'f' and list(map(f, [1])) == [((1,), {})]",
    )
    assert verdict(program(code, *tests, names=("f", "LIMIT", "absent"))).passed == (True,) * 4


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        ("ValueError('x')", "ValueError"),
        ("UnicodeDecodeError('u', b'', 0, 1, 'x')", "UnicodeError"),
        ("type('Own', (KeyError,), {})('x')", "KeyError"),
        ("type('Own', (Exception,), {})('x')", "Exception"),
        ("AssertionError('x')", "AssertionError"),
    ],
)
def test_exceptions_come_back_by_their_builtin_class(raised: str, caught: str) -> None:
    """Oracle: the class that the test can catch, and the message."""
    test = f"try: f()\nexcept {caught} as error: assert 'x' in str(error)\nelse: assert False"
    assert verdict(program(f"def f(): raise {raised}", test)).passed == (True,)


def test_what_is_not_plain_is_an_error_in_the_test() -> None:
    """Oracle: the reason that is told."""
    one = verdict(program("def f(x): return x", "f(f)", "f(1)"))
    assert one.passed == (False, True) and "'function' is not plain data" in one.reasons[0]
    one = verdict(program("def f(): return object()\nN = object()", "f()", "N", names=("f", "N")))
    assert "'object' is not plain data" in one.reasons[0] and "NameError" in one.reasons[1]


def test_setup_runs_before_every_test_and_code_cannot_replace_it() -> None:
    """Oracle: the helper of the setup, not that of the code."""
    one = program(
        "def close(a, b): return True\ndef f(x): return x",
        "seen.append(1); assert seen == [1] and close(f(1), 1)",
        "seen.append(1); assert seen == [1] and close(f(1), 9)",
        setup="seen = []\ndef close(a, b): return abs(a - b) < 1",
    )
    assert verdict(one).passed == (True, False)


def test_code_is_a_module() -> None:
    """Oracle: what needs a module to be found: dataclasses, a main block that is left alone."""
    code = """
        from __future__ import annotations
        import dataclasses, typing
        @dataclasses.dataclass
        class Point:
            x: int
        if __name__ == "__main__": raise SystemExit
        def f(x: typing.List[int]) -> int: return Point(sum(x)).x
    """
    assert verdict(program(code, "assert f([1, 2]) == 3")).passed == (True,)


def test_sets_have_one_order() -> None:
    """Oracle: two processes of Python with the same seed of hashes."""
    one = program("def f(): return list({'a', 'b', 'c', 'd', 'e', 'f'})", "raise ValueError(f())")
    assert len({found.reasons for found in judge([one] * 4, NEVER)}) == 1


def test_a_program_that_was_cut_off_goes_on_with_its_next_test() -> None:
    """Oracle: which calls never end, and the limits that cut each off."""
    code = """
        def f(x):
            while x == 1: pass
            if x == 2: import os; os._exit(3)
            return x
    """
    tests = ("assert f(0) == 0", "f(1)", "assert f(3) == 3", "f(2)", "assert f(4) == 4")
    one = verdict(program(code, *tests), Limits(test=1.0, program=60.0))
    assert one.passed == (True, False, True, False, True) and one.ending == "timeout"
    assert "1 s" in one.reasons[1] and "code 3" in one.reasons[3]


def test_all_tests_together_have_a_limit() -> None:
    """Oracle: three tests that never end, and time for less than two."""
    one = verdict(program("def f():\n    while True: pass", *["f()"] * 3), Limits(test=0.5, program=0.8))
    assert one.passed == (False,) * 3 and one.ending == "timeout"
    assert "all tests" in one.reasons[2]


def test_processor_time_is_limited_apart_from_the_clock() -> None:
    """Oracle: the limit that is told, which comes long before the other."""
    one = verdict(program("def f():\n    while True: pass", "f()"), Limits(test=60.0, program=60.0, cpu=1))
    assert one.ending == "timeout" and "processor time" in one.reasons[0]


def test_threads_share_a_pool() -> None:
    """Oracle: each thread's own programs."""
    found: dict[int, list[Verdict]] = {}

    def work(n: int) -> None:
        found[n] = judge([program(f"def f(): return {n}", f"assert f() == {n}")] * 3, NEVER)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.passed for several in found.values() for one in several} == {(True,)} and len(found) == 4


def test_another_process_has_a_pool_of_its_own() -> None:
    """Oracle: a fork of a process with a used pool judges, and ends, and so does the first."""
    code = """
        import os
        from selfstudy.signals.sandbox import Program, judge
        one = Program(code="def f(): return 1", tests=("assert f() == 1",), names=("f",))
        judge([one])
        child = os.fork()
        judged = [verdict.passed for verdict in judge([one, one])]
        if child == 0: os._exit(0 if judged == [(True,), (True,)] else 1)
        assert os.waitpid(child, 0)[1] == 0 and judged == [(True,), (True,)]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_a_killed_process_takes_its_sandboxes_with_it(tmp_path: Path) -> None:
    """Oracle: the processes whose command has the size that only this test gives; a FIFO tells when."""
    size = 16 * 2**20 + 4096 * (os.getpid() % 1000 + 2000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = f"""
        import signal
        from selfstudy.signals.sandbox import Limits, Program
        from selfstudy.signals.sandbox.pairs import Pair
        endless = Program(code="while True: pass", tests=("",), names=())
        pair = Pair(Limits(files={size}, test=600.0, program=600.0))
        pair.start(endless, endless.tests)
        open({str(fifo)!r}, "w").write("ready")
        signal.pause()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    assert fifo.read_text() == "ready"
    alive = _with_size(size)
    assert alive
    process.kill()
    process.wait()
    while alive := [*alive, *_with_size(size)]:
        _wait_for_the_end(alive.pop())


def _wait_for_the_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        assert waiting.poll(60_000), pid
        os.close(descriptor)


def _with_size(size: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(size).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def fake_bwrap(folder: Path, message: str) -> None:
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    path.chmod(0o755)


def test_without_bubblewrap_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the command that installs it is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with Sandbox(1) as sandbox, pytest.raises(MachineError, match="apt-get install bubblewrap"):
        sandbox.judge([program("", "")])
    require_sandbox.cache_clear()
    with pytest.raises(MachineError, match="apt-get install bubblewrap"):
        require_sandbox()


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("bwrap: No permissions to create new namespace", "kernel.unprivileged_userns_clone"),
        ("bwrap: setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: Cannot find anything", "Cannot find anything"),
    ],
)
def test_a_machine_that_forbids_namespaces_is_named(
    message: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: what bubblewrap says is passed on, with the setting to change."""
    fake_bwrap(tmp_path, message)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with Sandbox(1) as sandbox, pytest.raises(MachineError, match=told) as caught:
        sandbox.judge([program("", "")])
    assert message in str(caught.value)
