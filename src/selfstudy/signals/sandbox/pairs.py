"""Two sandboxed processes, started and waiting: one for the code of a program, one for its tests."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import asdict

from selfstudy.core.errors import MachineError
from selfstudy.signals.sandbox.guests import SECONDS_TO_START, Guest, readable
from selfstudy.signals.sandbox.plain import HEADER, encode
from selfstudy.signals.sandbox.programs import Limits, Program

_LONGEST_LINE = 1024  # of what the tests' process says to the host


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
            if not readable(self._results, until - time.monotonic()):
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
