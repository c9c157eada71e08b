from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.signals import verifiers
from selfstudy.signals.verifiers import VERIFIERS, verifier

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "cases" / "verifiers.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['verifier']}-{case['given'][:20]!r}")
def test_cases(case):
    """Oracle: verdicts written by hand."""
    check = verifier(case["verifier"])
    assert check(case.get("question", ""), case["gold"], case["given"]) is case["expected"]


def test_math_outside_the_main_thread():
    """Oracle: the verdict in the main thread; signals would raise in another one."""
    verdicts = []
    pairs = [("2x+1", "1+2x"), ("2x+3", "3x+2")]
    thread = threading.Thread(target=lambda: verdicts.extend(verifier("math")("", *pair) for pair in pairs))
    thread.start()
    thread.join()
    assert verdicts == [True, False]


@pytest.mark.parametrize(
    ("name", "gold", "usable"),
    [
        ("math", "8", True), ("math", "\\frac{1}{2}", True), ("math", "???", False), ("math", " ", False),
        ("choice", "(C)", True), ("choice", "none", False), ("chain", "-13", True), ("chain", "x", False),
        ("exact", "anything", True), ("exact", "", False),
    ],
)  # fmt: skip
def test_which_gold_answers_are_usable(name, gold, usable):
    """Oracle: by hand."""
    assert bool(VERIFIERS[name].usable(gold)) is usable


def test_user_function_from_the_current_directory(tmp_path, monkeypatch):
    """Oracle: the function itself; it sees question, gold answer and the whole solution."""
    (tmp_path / "my_checks_a.py").write_text(
        "def right(question, gold, solution):\n    return (question, gold, solution)\n"
    )
    monkeypatch.chdir(tmp_path)
    judge = verifier("my_checks_a:right")
    assert judge("q", "g", "a\nb") == ("q", "g", "a\nb")
    assert judge.reads == "solution"


def test_a_user_function_without_end_is_cut_off(tmp_path, monkeypatch):
    """Oracle: the message names the function and the limit."""
    (tmp_path / "my_checks_c.py").write_text("def right(*_):\n    while True:\n        pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verifiers, "SECONDS_TO_CHECK", 0.05)
    with pytest.raises(TimeoutError, match=r"verifier 'my_checks_c:right' took longer than 0\.05 s"):
        verifier("my_checks_c:right")("q", "g", "s")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("maths", "Did you mean 'math'?"),
        ("no_such_module:right", "no module 'no_such_module'"),
        ("my_checks_b:rigth", "Did you mean 'right'?"),
        ("my_checks_b:", "no function ''"),
        (":right", "not of the form module:function"),
        ("my_broken_checks:right", "ZeroDivisionError"),
        ("my_needy_checks:right", "no module 'not_installed_anywhere'"),
    ],
)
def test_verifiers_that_cannot_be_had(name, said, tmp_path, monkeypatch):
    """Oracle: the message names what is missing."""
    (tmp_path / "my_checks_b.py").write_text("def right(question, gold, solution):\n    return True\n")
    (tmp_path / "my_broken_checks.py").write_text("1 / 0\n")
    (tmp_path / "my_needy_checks.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        verifier(name)
