"""Verifiers: functions that tell a right answer from a wrong one.

A verifier gets the question, the gold answer and what the model gave: its extracted answer, or its whole
solution where `reads` says so. It looks at text only and never runs it.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.functions import user_function
from selfstudy.data.chains import chain_answer
from selfstudy.data.countdown import reaches_target
from selfstudy.data.shown_countdown import solved
from selfstudy.signals.code_tests import grade_code, usable_tests
from selfstudy.signals.time_limit import time_limited

# Longer texts are not mathematical answers, and parsing them could take minutes.
LONGEST_ANSWER = 500
SECONDS_TO_PARSE = 5
SECONDS_TO_CHECK = 10  # of a user's own function, for one solution

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
# Small texts of numbers that no memory holds: a power in an exponent, many-digit exponents and factorials.
_HUGE = re.compile(r"(\^|\*\*)[^+\-=,]*(\^|\*\*)|(\^|\*\*)\s*[{(]?\s*\d{5,}|\d{5,}\s*!|!\s*!")
_CHOICE = re.compile(r"[^A-Za-z]*([A-Za-z])(?![A-Za-z]).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A named check `(question, gold answer, given) -> bool`."""

    name: str
    check: Callable[[str, str, str], bool | float]
    reads: str = "answer"
    """What is given: the extracted "answer", or the "solution" as lines."""
    usable: Callable[[str], bool] = str.strip  # type: ignore[assignment]
    """Tells whether a gold answer is one that this verifier can compare with."""
    grade_all: Callable[[Sequence[tuple[str, str, str]]], Sequence[float]] | None = None
    """Grades many (question, gold, given) together, in [0, 1]; where it is set, `check` is not used."""

    def __call__(self, question: str, gold: str, given: str) -> bool | float:
        """Tell whether `given` is right, or how right as a float in [0, 1]."""
        return self.check(question, gold, given)


def exact(question: str, gold: str, given: str) -> bool:
    """Equal texts, outer blanks aside."""
    return gold.strip() == given.strip()


def choice(question: str, gold: str, given: str) -> bool:
    """Equal letters: `(B)`, `b.` and `B: the second` are all B."""
    return _letter(gold) is not None and _letter(gold) == _letter(given)


def chain(question: str, gold: str, given: str) -> bool:
    """A chain of arithmetic with all its lines whose last result is the gold answer, as text."""
    return chain_answer(question, given.splitlines()) == gold


def countdown(question: str, gold: str, given: str) -> bool:
    """An exact replay: every step true and from numbers at hand, each used once, the last one the target."""
    return reaches_target(question, given.splitlines())


def shown_countdown(question: str, gold: str, given: str) -> bool:
    """An exact replay of the last branch of a countdown solution that may go back."""
    return solved(question, given.splitlines())


def mathematics(question: str, gold: str, given: str) -> bool:
    r"""Equal mathematical objects, by math-verify: `1/2`, `0.5` and `\frac{1}{2}` are the same.

    math-verify limits its time by signals, which only the main thread may set. So that other threads cannot
    hang either, very long answers and towers of powers are wrong unless they equal the gold answer as text.
    """
    if gold.strip() == given.strip():
        return True
    if len(given) > LONGEST_ANSWER or _HUGE.search(given):
        return False
    return _equal(gold, given)


@functools.lru_cache(maxsize=65536)
def _equal(gold: str, given: str) -> bool:
    numbers = [_number(text) for text in (gold, given)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    import math_verify

    return math_verify.verify(_parsed(gold), _parsed(given), timeout_seconds=_seconds())


def _parsed(text: str) -> list:
    import math_verify

    return math_verify.parse(f"${text}$", parsing_timeout=_seconds()) or math_verify.parse(
        text, parsing_timeout=_seconds()
    )


def _seconds() -> int | None:
    return SECONDS_TO_PARSE if threading.current_thread() is threading.main_thread() else None


def _number(text: str) -> Fraction | None:
    text = text.strip()
    return Fraction(text.replace(",", "")) if _PLAIN_NUMBER.fullmatch(text) else None


def _usable_mathematics(gold: str) -> bool:
    return bool(gold.strip()) and (
        _number(gold) is not None or any(not isinstance(one, str) for one in _parsed(gold))
    )


def _letter(text: str) -> str | None:
    found = _CHOICE.fullmatch(text)
    return found[1].upper() if found else None


VERIFIERS = {
    verifier.name: verifier
    for verifier in (
        Verifier("math", mathematics, usable=_usable_mathematics),
        Verifier("exact", exact),
        Verifier("choice", choice, usable=lambda gold: _letter(gold) is not None),
        Verifier("chain", chain, reads="solution", usable=lambda gold: gold.lstrip("-").isdigit()),
        Verifier("countdown", countdown, reads="solution"),
        Verifier("tests", lambda *_: False, reads="solution", usable=usable_tests, grade_all=grade_code),
        Verifier("shown-countdown", shown_countdown, reads="solution"),
    )
}


def verifier(name: str) -> Verifier:
    """Return a verifier by name, or the user's function from `module:function`.

    The function is called as `function(question, gold, solution)` with the whole solution as text, and
    returns a bool, or how right the solution is as a float in [0, 1]. A call that takes longer than
    `SECONDS_TO_CHECK` raises. The module is looked for in the current directory too.

    Raises:
        UsageError: no such verifier, module or function.
    """
    if name in VERIFIERS:
        return VERIFIERS[name]
    if ":" not in name:
        raise UsageError(
            f"Unknown verifier {name!r}. {nearest(name, VERIFIERS)} "
            "A function of your own is given as module:function."
        )
    check = time_limited(user_function(name, "verifier"), SECONDS_TO_CHECK, f"the verifier {name!r}")
    return Verifier(name, check, reads="solution")
