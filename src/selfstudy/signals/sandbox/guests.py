"""One sandboxed process: its start, its messages, and its end."""

from __future__ import annotations

import functools
import itertools
import json
import marshal
import math
import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from selfstudy.signals.sandbox.calls import call_filter
from selfstudy.signals.sandbox.confinement import command
from selfstudy.signals.sandbox.plain import Ended, send
from selfstudy.signals.sandbox.programs import Limits

SECONDS_TO_START = 60
"""Before a sandbox that says nothing is given up; a start takes some 20 ms."""

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
        while self._first is None and b"}" not in told and readable(self._info, SECONDS_TO_START):
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
            readable(self._first, SECONDS_TO_START)  # the kernel ends the whole namespace before that
        else:
            self._process.kill()
        self._process.wait()
        if self._first is not None:
            with suppress(ChildProcessError):  # ours only if bwrap went first, and we are whom orphans go to
                os.waitid(os.P_PIDFD, self._first, os.WEXITED)
            os.close(self._first)
        said = os.read(self._errors, 4096) if readable(self._errors, 0) else b""
        for descriptor in (self._input, self._errors, self._info):
            os.close(descriptor)
        return said.decode(errors="replace")

    def ended(self, seconds: float) -> int | None:
        """Return the exit code if Python ends within some seconds, a signal as 128 and its number."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def readable(descriptor: int, seconds: float) -> bool:
    """Tell whether something can be read, or the end is reached, within some seconds."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(math.ceil(max(0.0, seconds) * 1000)))  # poll cuts a fraction off
