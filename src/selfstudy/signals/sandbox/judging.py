"""Judges one program: hands it to a pair of processes, watches the clock, and notes what the tests say."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from selfstudy.signals.sandbox.pairs import Pair
from selfstudy.signals.sandbox.programs import Limits, Program, Verdict

_SECONDS_TO_END = 0.25  # for a process that has broken off, before it is killed
_CPU_SPENT = 128 + signal.SIGXCPU


@dataclass
class _Course:
    """What is known of one program so far."""

    outcomes: list[str] = field(default_factory=list)
    """For each test that is done, why it failed; "" where it passed."""
    ending: str = "ran"
    """The first thing that went wrong."""

    def went(self, ending: str) -> None:
        self.ending = ending if self.ending == "ran" else self.ending


def judge_program(program: Program, limits: Limits, take: Callable[[], Pair]) -> Verdict:
    """Return the verdict of one program.

    Where a test ends the process of the code, or has to be cut off, the tests after it get new processes.

    Args:
        program: what is judged.
        limits: those that the pairs were started with.
        take: returns a pair that nobody has used.

    Raises:
        MachineError: a sandbox cannot be started.
    """
    begun = time.monotonic()
    end = begun + limits.program
    course, count = _Course(), len(program.tests)
    while len(course.outcomes) < count:
        if time.monotonic() >= end:
            course.went("timeout")
            course.outcomes += [_all_too_long(limits)] * (count - len(course.outcomes))
            break
        pair = take()
        try:
            pair.start(program, program.tests[len(course.outcomes) :])
            loaded = _load(pair, limits, end, course)
            if loaded:
                course.outcomes += [loaded] * (count - len(course.outcomes))
            else:
                _test(pair, limits, end, course, count)
        finally:
            pair.end()
    return Verdict(
        passed=tuple(not reason for reason in course.outcomes),
        ending=course.ending,
        reasons=tuple(course.outcomes),
        seconds=time.monotonic() - begun,
    )


def _load(pair: Pair, limits: Limits, end: float, course: _Course) -> str:
    """Return why no test can be run, or "" when the code is loaded."""
    line = pair.hear(min(end, time.monotonic() + limits.test))
    letter, text = _parted(line)
    if letter == "L":
        return ""
    if letter in ("U", "E"):
        course.went({"U": "unparsable", "E": _raised(text)}[letter])
        return text
    return _broken(pair, line, limits, end, course)


def _test(pair: Pair, limits: Limits, end: float, course: _Course, count: int) -> None:
    """Add the outcomes of tests, until all are done or one has broken off."""
    while len(course.outcomes) < count:
        line = pair.hear(min(end, time.monotonic() + limits.test))
        letter, text = _parted(line)
        if letter == "P":
            course.outcomes.append("")
        elif letter == "F":
            if text.startswith("MemoryError"):
                course.went("memory")
            course.outcomes.append(text or "Exception")
        else:
            course.outcomes.append(_broken(pair, line, limits, end, course))
            return


def _all_too_long(limits: Limits) -> str:
    return f"Timeout: all tests took longer than {limits.program:g} s"


def _parted(line: bytes | None) -> tuple[str, str]:
    text = (line or b"").decode(errors="replace")
    return text[:1], text[1:]


def _raised(text: str) -> str:
    return "memory" if text.startswith("MemoryError") else "raised"


def _broken(pair: Pair, line: bytes | None, limits: Limits, end: float, course: _Course) -> str:
    """Return why no more comes from a pair, after its last line."""
    if line is None:
        course.went("timeout")
        return _all_too_long(limits) if time.monotonic() >= end else f"Timeout: longer than {limits.test:g} s"
    ended = (pair.tests if line == b"" else pair.code).ended(_SECONDS_TO_END)
    if ended == _CPU_SPENT:
        course.went("timeout")
        return f"Timeout: more than {limits.cpu} s of processor time"
    course.went("crashed")
    whose = "tests" if line == b"" else "code"
    if ended is None:
        return f"Crash: the process of the {whose} broke off"
    return f"Crash: the process of the {whose} ended with code {ended}"
