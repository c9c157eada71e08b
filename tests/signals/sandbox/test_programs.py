from __future__ import annotations

import math

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.signals.sandbox import Limits, Program, Sandbox, Verdict, names_under_test


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("field", ["test", "program", "cpu", "memory", "threads", "files", "output"])
def test_a_limit_is_a_positive_number(field: str, value: float) -> None:
    """Oracle: the message names the field."""
    with pytest.raises(UsageError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("name", ["", "1f", "a.b", "def", "f()"])
def test_a_name_is_a_name(name: str) -> None:
    """Oracle: Python's grammar."""
    with pytest.raises(UsageError, match="name"):
        Program(code="", tests=("pass",), names=(name,))


def test_a_program_has_tests_and_a_pool_workers() -> None:
    """Oracle: what an empty list cannot say."""
    with pytest.raises(UsageError, match="tests"):
        Program(code="", tests=(), names=())
    with pytest.raises(UsageError, match="worker"):
        Sandbox(0)


def test_share() -> None:
    """Oracle: two of three, by hand."""
    verdict = Verdict(passed=(True, False, True), ending="ran", reasons=("", "x", ""), seconds=0.0)
    assert verdict.share == 2 / 3


def test_names_are_what_the_reference_defines() -> None:
    """Oracle: by hand; what is imported, what the setup defines and builtins are not among them."""
    reference = (
        "from math import isclose\nLIMIT: int = 3\na, b = 1, 2\ndef f(x): return x\nclass C: pass\ndef g(): f"
    )
    tests = ["assert isclose(f(1), LIMIT)", "helper(C, b); x = g\nlen(f(2))"]
    assert names_under_test(reference, tests) == ("C", "LIMIT", "b", "f", "g")
    assert names_under_test(reference, tests, "def g(): pass") == ("C", "LIMIT", "b", "f")
    with pytest.raises(SyntaxError):
        names_under_test(reference, ["assert ("])
