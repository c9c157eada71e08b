"""What is judged in the sandbox, under which limits, and what comes out."""

from __future__ import annotations

import keyword
import math
from dataclasses import dataclass, fields

from selfstudy.core.errors import UsageError

MIB = 2**20

ENDINGS = ("ran", "unparsable", "raised", "timeout", "memory", "crashed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Code to be judged, and the tests that judge it.

    Code and tests never share a process. In the tests each name stands for what the code defines under it: a
    call goes over to the judged process as plain data, and plain data comes back (see `plain`). Plain data
    are copied, so a change that the code makes to an argument is not seen by the test.
    """

    code: str
    """The judged Python source, run once as a module named `solution`."""
    tests: tuple[str, ...]
    """Python sources; each passes when it raises nothing, and each has a namespace of its own."""
    names: tuple[str, ...]
    """What the tests use from the code: functions, or values that are plain data."""
    setup: str = ""
    """Python source that is run before every test, in the tests' process: imports, helpers, data."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: no tests, or a name that is no Python name.
        """
        if not self.tests:
            raise UsageError("A program without tests cannot be judged. Give at least one test.")
        for name in self.names:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise UsageError(f"{name!r} is no name of a Python function. Tests use code by its names.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may take. The judged process and that of its tests have each their own.

    Time on the wall includes waiting for a core, so on a busy machine slow programs reach it earlier.
    """

    test: float = 4.0
    """Seconds on the wall for loading the code, and for each test."""
    program: float = 30.0
    """Seconds on the wall for a program with all its tests."""
    cpu: int = 10
    """Seconds of processor time of each process."""
    memory: int = 512 * MIB
    """Bytes of address space of each process."""
    threads: int = 16
    """Threads of each process; there are no child processes."""
    files: int = 16 * MIB
    """Bytes in the temporary directory."""
    output: int = 4 * MIB
    """Bytes of the arguments or of the result of one call. What a program prints is thrown away."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: a limit that is not a positive number.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"A limit is a positive number, {field.name} is {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a program came to."""

    passed: tuple[bool, ...]
    """For each test, in order, whether it passed."""
    ending: str
    """The first thing that went wrong, one of ENDINGS:

    - "ran": code and tests ran to their ends, passed or not;
    - "unparsable": the code is no Python;
    - "raised": the code raised an exception before any test;
    - "timeout": the code, or a test, was cut off by a limit of time;
    - "memory": a limit of memory was met;
    - "crashed": the process ended, by a signal or by its own doing.
    """
    reasons: tuple[str, ...]
    """For each test the exception it failed with, cut to 200 characters; "" where it passed.

    They may hold text of the judged code: show them, do not act on them.
    """
    seconds: float
    """Seconds on the wall from the start of the program to its verdict."""

    @property
    def share(self) -> float:
        """The share of tests that passed, in [0, 1]."""
        return sum(self.passed) / len(self.passed)
