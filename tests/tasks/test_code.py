"""Code tasks: rows of HumanEval and MBPP, own problems, what is dropped and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import selfstudy
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.signals.code_tests import grade_code, read_tests
from selfstudy.tasks import code
from selfstudy.tasks.code import ends_program, read_humaneval, read_mbpp

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "import math\n\n\ndef twice(x):\n    return 2 * x\n\n\ndef f(x):\n    ''' Four times x. '''\n",
    "entry_point": "f",
    "canonical_solution": "    y = twice(x)\n\n    return twice(y)\n",
    "test": "def check(candidate):\n    assert candidate(1) == 4\n"
    "    assert candidate(2) == twice(twice(2))\n",
}
MBPP = {
    "task_id": 601,
    "text": "Write a function to add one.",
    "code": "def plus(x):\r\n    return x + 1",
    "test_list": ["assert plus(1) == 2", "assert plus(0) == 1", "assert plus(9) == 10"],
    "test_setup_code": "",
}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def own(n: int = 12, **changed: Any) -> list[dict[str, Any]]:
    return [
        {
            "q": f"Add {i}.",
            "tests": [f"assert f(1) == {1 + i}", f"assert f(2) == {2 + i}"],
            "right": f"def f(x):\n    return x + {i}",
            **changed,
        }
        for i in range(n)
    ]


def test_humaneval_is_completed_from_the_head() -> None:
    """Oracle: the row's own solution passes, a wrong one and one that forges the tests' helper do not."""
    item = read_humaneval(HUMANEVAL)
    tests = read_tests(item.answer)
    assert tests.names == ("f",)
    forged = "    return 4 if x == 1 else 0\ndef twice(x):\n    return 0"
    answers = ["\n".join(item.solution or ()), "    return 4", forged, "    return twice(twice(x))"]
    grades = grade_code([(item.prompt, item.answer, answer) for answer in answers])
    assert grades == [1.0, 0.0, 0.0, 1.0]


def test_mbpp_shows_one_test_and_is_judged_by_three() -> None:
    """Oracle: an answer that knows the shown test alone passes a third."""
    item = read_mbpp(MBPP)
    assert item.prompt == "Write a function to add one.\nassert plus(1) == 2"
    answers = ["\n".join(item.solution or ()), "def plus(x):\n    return 2"]
    assert grade_code([(item.prompt, item.answer, a) for a in answers]) == [1.0, pytest.approx(1 / 3)]


def test_known_sets_have_their_official_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: numbers on both sides of every border, and a number that is left out."""
    import gzip

    def zipped(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))

    numbers = (10, 11, 367, 510, 511, 600, 602, 974)
    zipped("mbpp/mbpp.jsonl.gz", [{**MBPP, "task_id": n, "text": f"Task {n}."} for n in numbers])
    zipped("humaneval/test.jsonl.gz", [HUMANEVAL])
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    mbpp = selfstudy.task("mbpp")
    shown = {
        split: [p.prompt.split(".")[0] for p in getattr(mbpp, split)]
        for split in ("train", "validation", "test")
    }
    assert shown == {
        "train": ["Task 602", "Task 974"],
        "validation": ["Task 511", "Task 600"],
        "test": ["Task 11", "Task 510"],
    }
    assert mbpp.dropped == {code.NOT_PLAIN: 1}
    humaneval = selfstudy.task("humaneval")
    assert (len(humaneval.train), len(humaneval.test)) == (0, 1)
    assert humaneval.prompt(humaneval.test[0]) == HUMANEVAL["prompt"]
    assert humaneval.steps("    a = 1\n\n    return a\n") == ("    a = 1", "    return a")


def test_own_problems_are_graded_by_their_tests(tmp_path: Path) -> None:
    """Oracle: the row's own solution, and one that passes the first test alone."""
    path = write(tmp_path / "own.jsonl", own())
    task = selfstudy.task(f"jsonl:{path}?prompt=q&tests=tests&solution=right")
    problem = task.train[0]
    value = int(problem.prompt.split()[1][:-1])
    right = task.oracle.solution(problem)
    assert task.grades([problem, problem], [right, ["def f(x):", f"    return {1 + value}"]]) == [1.0, 0.5]
    assert selfstudy.task(task.name).fingerprint == task.fingerprint


def test_a_question_may_be_the_beginning_of_the_program(tmp_path: Path) -> None:
    """Oracle: a body alone, and the whole function."""
    rows = [{"q": f"def f(x):\n    y = x + {i}", "tests": f"assert f(1) == {1 + i}"} for i in range(40)]
    path = write(tmp_path / "own.jsonl", rows)
    task = selfstudy.task(f"jsonl:{path}?prompt=q&tests=tests&continues=true")
    problem = task.train[0]
    body = task.grades([problem], [["", "    return y"]])
    whole = task.grades([problem], [["def f(x):", "    return -1"]])
    assert (body, whole) == ([1.0], [0.0])


def test_rows_that_cannot_be_used_are_dropped_and_counted(tmp_path: Path) -> None:
    """Oracle: one test that is no Python and one own solution that fails, of 20."""
    rows = own(20)
    rows[3]["tests"] = "assert f(1 =="
    rows[5]["right"] = "def f(x):\n    return 0"
    task = selfstudy.task(f"jsonl:{write(tmp_path / 'own.jsonl', rows)}?prompt=q&tests=tests&solution=right")
    assert task.dropped == {"unparsable": 1, "whose own solution fails": 1}
    assert sum(map(len, (task.train, task.validation, task.test))) == 18


def test_above_a_fifth_they_are_an_error(tmp_path: Path) -> None:
    """Oracle: all tests broken; all solutions wrong."""
    broken = write(tmp_path / "broken.jsonl", own(tests="assert f(1 =="))
    with pytest.raises(DataError, match="12 of 12 rows"):
        selfstudy.task(f"jsonl:{broken}?prompt=q&tests=tests")
    wrong = write(tmp_path / "wrong.jsonl", own(right="def f(x):\n    return None"))
    with pytest.raises(DataError, match=r"12 of 12 problems.*fail their own tests"):
        selfstudy.task(f"jsonl:{wrong}?prompt=q&tests=tests&solution=right")


def test_without_a_sandbox_code_tasks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the sandbox's own error, before a file is read."""

    def missing() -> None:
        raise MachineError("bubblewrap is missing")

    monkeypatch.setattr(code, "require_sandbox", missing)
    for spec in ("humaneval", "mbpp", f"jsonl:{tmp_path}/none.jsonl?prompt=q&tests=tests"):
        with pytest.raises(MachineError, match="bubblewrap"):
            selfstudy.task(spec)


@pytest.mark.parametrize("query", ["prompt=other&tests=tests", "prompt=q&tests=other"])
def test_missing_columns_are_named(query: str, tmp_path: Path) -> None:
    """Oracle: the message names the column."""
    with pytest.raises(DataError, match="no column 'other'"):
        selfstudy.task(f"jsonl:{write(tmp_path / 'own.jsonl', own())}?{query}")
    with pytest.raises(UsageError, match="at least 1"):
        selfstudy.task(f"jsonl:{tmp_path}/own.jsonl?prompt=q&tests=tests&max_steps=0")


def test_the_end_of_a_program_is_seen_by_its_form() -> None:
    """Oracle: a return as far left as the first line, or a fence."""
    assert ends_program(["    y = 1", "    return y"])
    assert not ends_program(["    if x:", "        return 1"])
    assert ends_program(["```python", "x = 1", "```"])
    assert not ends_program([])
