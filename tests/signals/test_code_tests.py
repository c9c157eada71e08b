"""Tests as gold answers: what they are, which code an answer holds, and the share that it passes."""

from __future__ import annotations

import json

import pytest

from selfstudy.signals.code_tests import CodeTests, code_of, code_tests, grade_code, read_tests, usable_tests

DOUBLE = CodeTests(tests=("assert f(2) == 4", "assert f(0) == 0"), names=("f",))
HEAD = "import math\n\n\ndef f(x):\n"


def grade(answer: str, tests: CodeTests = DOUBLE) -> float:
    return grade_code([("question", tests.to_text(), answer)])[0]


def test_tests_come_back_as_they_were() -> None:
    """Oracle: what went in."""
    tests = code_tests(["assert f(1) == g(2)"], setup="import math", head=HEAD)
    assert read_tests(tests.to_text()) == tests
    assert tests.names == ("f", "g")


def test_a_source_of_asserts_is_as_many_tests_any_other_is_one() -> None:
    """Oracle: counted by hand."""
    assert len(read_tests("assert f(1) == 1\nassert f(2) == 2").tests) == 2
    assert len(read_tests("y = f(1)\nassert y == 1\nassert f(2) == 2").tests) == 1
    assert len(read_tests(json.dumps(["assert f(1) == 1", "assert f(2) == 2"])).tests) == 2


def test_names_are_those_that_nothing_else_defines() -> None:
    """Oracle: builtins, loop variables, imports and arguments are not the judged code's."""
    source = "import math\nfor i in range(3):\n    assert math.isclose(f(i), sorted([i], key=lambda v: v)[0])"
    assert read_tests(source).names == ("f",)
    assert code_tests(["assert close(f(1), 1)"], setup="def close(a, b): return a == b").names == ("f",)


def test_a_reference_says_which_names_are_judged() -> None:
    """Oracle: `helper` is read by the tests, but the reference imports it."""
    tests = code_tests(
        ["assert isclose(f(1), 1)"], reference="from math import isclose\ndef f(x):\n    return x"
    )
    assert tests.names == ("f",)


@pytest.mark.parametrize("gold", ["assert f(1 ==", "", "[]", "assert 1 == 1", '{"tests": []}'])
def test_tests_that_cannot_be_run_are_not_usable(gold: str) -> None:
    """Oracle: broken Python, none at all, and tests of nothing."""
    assert not usable_tests(gold)
    assert usable_tests("assert f(1) == 1")


def test_the_code_of_an_answer() -> None:
    """Oracle: fenced, closed by a fence, plain, going on from a head, and repeating the head."""
    whole = "def f(x):\n    return 2 * x"
    assert code_of(f"Sure:\n```python\n{whole}\n```\nThat is it.\n```\nno\n```", DOUBLE).strip() == whole
    assert code_of(f"{whole}\n```\nThat is it.", DOUBLE) == whole
    head = CodeTests(tests=DOUBLE.tests, names=("f",), head=HEAD)
    assert code_of("    return 2 * x", head) == f"{HEAD}    return 2 * x"
    assert code_of(whole, head) == f"import math\n{whole}"


def test_the_share_of_tests_is_the_grade() -> None:
    """Oracle: right, right for 0 only, wrong, broken."""
    assert grade("def f(x):\n    return 2 * x") == 1
    assert grade("def f(x):\n    return x") == 0.5
    assert grade("def f(x):\n    return -1") == 0
    assert grade("def f(x:\n") == 0
    assert grade("") == 0


HOSTILE = {
    "endless": "def f(x):\n    while True:\n        pass",
    "memory": "def f(x):\n    return [0] * 10**12",
    "exit": "import sys\nsys.exit(0)",
    "hard exit": "import os\ndef f(x):\n    os._exit(0)",
    "always equal": "class A(int):\n    def __eq__(self, o):\n        return True\n    __hash__ = None\n"
    "def f(x):\n    return A(7)",
    "patched assert": "import builtins\nbuiltins.AssertionError = None\ndef f(x):\n    return 7",
    "write": "def f(x):\n    open('/usr/forged', 'w').write('x')\n    return 2 * x",
}


def test_hostile_programs_fail_and_leave_their_neighbours_alone() -> None:
    """Oracle: none may pass; the honest ones between them do."""
    honest = "def f(x):\n    return 2 * x"
    answers = [text for code in HOSTILE.values() for text in (honest, code)]
    grades = grade_code([("q", DOUBLE.to_text(), text) for text in answers])
    assert grades[::2] == [1.0] * len(HOSTILE)
    assert dict(zip(HOSTILE, grades[1::2], strict=True)) == dict.fromkeys(HOSTILE, 0.0)


def test_equal_answers_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: what reaches the sandbox."""
    from selfstudy.signals import code_tests as module

    asked: list[int] = []
    judge = module.judge
    monkeypatch.setattr(module, "judge", lambda programs: asked.append(len(programs)) or judge(programs))
    right = "def f(x):\n    return 2 * x"
    assert grade_code([("q", DOUBLE.to_text(), right)] * 3) == [1.0] * 3
    assert asked == [1]
