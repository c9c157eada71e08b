"""Two sandboxed processes, started and waiting: one for the code of a program, one for its tests."""

from __future__ import annotations

import functools
import itertools
import json
import marshal
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from selfstudy.core.errors import MachineError
from selfstudy.signals.sandbox.calls import call_filter
from selfstudy.signals.sandbox.confinement import command
from selfstudy.signals.sandbox.plain import HEADER, Ended, encode, send
from selfstudy.signals.sandbox.programs import Limits, Program

SECONDS_TO_START = 60
"""Before a sandbox that says nothing is given up; a start takes some 20 ms."""
_LONGEST_LINE = 1024  # of what the tests' process says to the host

# Takes compiled modules from standard input; every start compiling them anew would cost milliseconds.
_BOOT = """
import marshal, os, sys
size, data = int.from_bytes(os.read(0, 4), "big"), b""
while len(data) < size:
    data += os.read(0, size - len(data)) or sys.exit("the host has ended")
for name, code in marshal.loads(data):
    module = sys.modules[name] = type(sys)(name)
    exec(code, vars(module))
module.main(*map(int, sys.argv[1:]))
"""


@functools.cache
def _modules(last: str) -> bytes:
    """Return the modules that run in a guest, compiled, `last` being the one that is started."""
    compiled = []
    for name in ("plain", "guest", last):
        path = Path(__file__).with_name(f"{name}.py")
        code = compile(path.read_text(encoding="utf-8"), f"<{name}>", "exec", dont_inherit=True)
        compiled.append((f"{__package__}.{name}", code))
    return marshal.dumps(compiled)


_starts = itertools.count()


def _user() -> int:
    """Return whom the next guest is to become: nobody else where we are root, otherwise who it is.

    Each has its own, since the kernel counts the threads of a user. The numbers are those of systemd's
    passing users; most containers have them too.
    """
    return 61184 + (64 * os.getpid() + next(_starts)) % 4096 if os.geteuid() == 0 else 0


class Guest:
    """One process in a sandbox of its own.

    It is killed when the thread that started it ends.
    """

    def __init__(self, module: str, limits: Limits, passed: tuple[int, ...]) -> None:
        """Start the process; it goes on while it starts.

        Args:
            module: what runs in it, `guest_code` or `guest_tests`.
            limits: of the program to come.
            passed: file descriptors that it gets, given to the `main` of the module.

        Raises:
            MachineError: bubblewrap is not installed.
        """
        stdin, self._input = os.pipe()
        self._errors, stderr = os.pipe()
        self._info, info = os.pipe()
        rules, written = os.pipe()
        self._first: int | None = None
        given = (stdin, stderr, info, rules)
        try:
            os.write(written, call_filter())
            os.close(written)
            self._process = subprocess.Popen(
                [
                    *command(limits.files, {"seccomp": rules, "info": info}),
                    *("-c", _BOOT, *map(str, (_user(), *passed))),
                ],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(info, rules, *passed),
            )
        except BaseException:
            for descriptor in (self._input, self._errors, self._info):
                os.close(descriptor)
            raise
        finally:
            for descriptor in given:
                os.close(descriptor)
        self.send(_modules(module))

    def send(self, message: bytes) -> None:
        """Send a message; it is lost if the process has ended, which shows when no answer comes."""
        with suppress(Ended):
            send(self._input, message)

    def found(self) -> bool:
        """Learn which process is the first of the sandbox, unless it has not started.

        Called before judged code runs, so that nothing but bwrap has written what is read.
        """
        told = b""
        while self._first is None and b"}" not in told and _readable(self._info, SECONDS_TO_START):
            part = os.read(self._info, 4096)
            if not part:
                break
            told += part
        with suppress(ValueError, KeyError, ProcessLookupError):
            self._first = self._first or os.pidfd_open(json.loads(told)["child-pid"])
        return self._first is not None

    def end(self) -> str:
        """Kill every process in the sandbox, and return what bwrap said once all are gone."""
        if self.found() and self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            _readable(self._first, SECONDS_TO_START)  # the kernel ends the whole namespace before that
        else:
            self._process.kill()
        self._process.wait()
        if self._first is not None:
            with suppress(ChildProcessError):  # ours only if bwrap went first, and we are whom orphans go to
                os.waitid(os.P_PIDFD, self._first, os.WEXITED)
            os.close(self._first)
        said = os.read(self._errors, 4096) if _readable(self._errors, 0) else b""
        for descriptor in (self._input, self._errors, self._info):
            os.close(descriptor)
        return said.decode(errors="replace")

    def ended(self, seconds: float) -> int | None:
        """Return the exit code if Python ends within some seconds, a signal as 128 and its number."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


class Pair:
    """The processes for one program. They are used once, since who has run judged code cannot be trusted."""

    def __init__(self, limits: Limits) -> None:
        """Start both; they go on while they start.

        Raises:
            MachineError: bubblewrap is not installed.
        """
        self._limits = limits
        ours, theirs = socket.socketpair()
        self._results, results = os.pipe()
        try:
            self.code = Guest("guest_code", limits, (ours.fileno(),))
            self.tests = Guest("guest_tests", limits, (theirs.fileno(), results))
        finally:
            ours.close()
            theirs.close()
            os.close(results)

    def start(self, program: Program, tests: tuple[str, ...]) -> None:
        """Hand both their parts of a program over: the code sees no test.

        Raises:
            MachineError: the sandboxes have not started.
        """
        shared = {"names": program.names, "limits": asdict(self._limits)}
        if self.code.found() and self.tests.found():
            self.tests.send(encode({"setup": program.setup, "tests": tests} | shared))
            self.code.send(encode({"code": program.code} | shared))
            if self.hear(time.monotonic() + SECONDS_TO_START) == b"R":
                return
        raise MachineError(_no_start(self.end()))

    def hear(self, until: float) -> bytes | None:
        """Return the next message of the tests' process; b"" when it has ended, None after `until`."""
        message = b""
        size = HEADER
        while len(message) < size:
            if not _readable(self._results, until - time.monotonic()):
                return None
            part = os.read(self._results, size - len(message))
            if not part:
                return b""
            message += part
            if len(message) == HEADER:
                size = HEADER + min(int.from_bytes(message, "big"), _LONGEST_LINE)
        return message[HEADER:]

    def end(self) -> str:
        """Kill both, and return what bwrap said when nothing is left of them."""
        if self._results < 0:
            return ""
        os.close(self._results)
        self._results = -1
        return self.code.end() + self.tests.end()


def _readable(descriptor: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(max(0.0, seconds) * 1000))


def _no_start(said: str) -> str:
    said = " ".join(said.split()) or "it said nothing"
    text = f"Code is judged in bubblewrap, which cannot make a sandbox on this machine ({said}). "
    if "namespace" in said or "uid map" in said or "not permitted" in said or "denied" in said:
        text += (
            "It needs user namespaces. As root, allow them with: sysctl kernel.unprivileged_userns_clone=1, "
            "or on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0. A container has to be "
            "started with --security-opt seccomp=unconfined --security-opt systempaths=unconfined. "
        )
    return text + "Without it no code is run."
