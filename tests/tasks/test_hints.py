"""Hints of tasks: who may have them, what they cost, what they look like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.data.chains import solve
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.reasoning import posed
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import first_lines
from selfstudy.tasks.forms import tells_answer, text_form
from selfstudy.tasks.loading import task as task_of
from selfstudy.tasks.reasoning import Item, ReasoningTask


def test_a_hint_is_counted_and_kept_from_test_problems() -> None:
    """Oracle: the meter's count, and errors for test problems and beyond the budget."""
    task = task_of("chain100?steps=6&train=3&validation=1&test=1").metered(Meter(Budget(oracle_labels=2)))
    problem = task.train[0]
    lines = solve(problem.prompt)
    assert task.hint(problem) == "\n".join(lines[:3])
    assert task.hint(problem, 1) == "\n".join(lines[:5])
    assert task.hint(problem, 2) is None
    assert task.meter.snapshot()["oracle_labels"] == 2
    with pytest.raises(BudgetSpent):
        task.hint(task.validation[0])
    with pytest.raises(UsageError, match="test problem"):
        task.hint(task.test[0])


@given(st.lists(st.sampled_from(["1+1=2", "2*3=6"]), min_size=1, max_size=9))
def test_first_lines_are_real_parts(lines: list[str]) -> None:
    """Oracle: laws: parts from the beginning, each longer than the one before, never the last line."""
    hints = [hint.split("\n") for hint in first_lines(lines)]
    assert all(hint == lines[: len(hint)] for hint in hints)
    lengths = [0, *map(len, hints), len(lines)]
    assert sorted(set(lengths)) == lengths
    assert len(hints) == {1: 0, 2: 1, 3: 1}.get(len(lines), 2)
    assert len(lines) == 1 or len(hints[0]) == -(-len(lines) // 2)


def test_the_form_of_hinted_prompts() -> None:
    """Oracle: by hand, in a chain, in words for a plain model, and as a message."""
    chain, policy = task_of("chain100?steps=2&train=1&validation=0&test=1"), random_tiny_model(1, 32)
    question = chain.train[0].prompt
    hint = chain.hint(chain.train[0])
    assert posed(policy, chain, chain.train[0], hint) == f"{solve(question)[0]}\n{question}"
    assert posed(policy, chain, chain.train[0]) == question
    words = ReasoningTask(
        "words",
        {"train": [Item("2+2?", "4")], "test": [Item("1+1?", "2")]},
        form=text_form(),
        verifier=verifier("math"),
        max_steps=2,
        step_tokens=8,
        solution_tokens=16,
    )
    problem = words.train[0]
    assert words.prompt(problem, hint="Halve it.").endswith(
        f"Question: {problem.prompt}\nHint: Halve it.\nAnswer:\n"
    )
    assert words.prompt(problem, chat=True, hint="Halve it.").startswith(
        f"{problem.prompt}\nHint: Halve it.\n"
    )
    assert words.hint(problem) is None


def test_hints_from_columns(tmp_path) -> None:
    """Oracle: the rows by hand: weak before strong, empty ones left out, telling ones counted."""
    rows = [
        {"q": f"{n} and {n}?", "a": str(2 * n), "h": f"Twice {n}." if n % 2 else "", "p": f"It is {2 * n}."}
        for n in range(40, 80)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_of(f"jsonl:{file}?prompt=q&answer=a&hint=h,p")
    assert "hint=h" in task.name
    for problem in task.train:
        n = int(problem.prompt.split()[0])
        expected = [f"Twice {n}.", f"It is {2 * n}."] if n % 2 else [f"It is {2 * n}.", None]
        assert [task.hint(problem, 0), task.hint(problem, 1)] == expected
    assert task.telling_hints() == len(task.train)
    weak = task_of(f"jsonl:{file}?prompt=q&answer=a&hint=h")
    assert weak.telling_hints() == 0


@pytest.mark.parametrize(
    ("answer", "hint", "tells"),
    [
        ("8", "the sum is 8.", True),
        ("8", "the sum is 8.5", False),
        ("8", "start from 48", False),
        ("1250", "about 1,250 of them", True),
        ("x = 3", "then  X = 3", True),
        (r"\frac{1}{2}", r"so \frac{1}{2} remains", True),
        ("-5", "so -5", True),
    ],
)
def test_what_gives_an_answer_away(answer: str, hint: str, tells: bool) -> None:
    """Oracle: by hand."""
    assert tells_answer("?", answer, hint) == tells


def test_a_whole_solution_gives_a_chain_away() -> None:
    """Oracle: the chain's own hints never do, its whole solution does, a result by chance does not."""
    task = task_of("chain100?steps=1-12&train=200&validation=0&test=1")
    assert task.telling_hints() == 0
    form, question = task.form, "10*9*1:"
    assert form.tells(question, "90", "\n".join(solve(question)))
    assert not form.tells(question, "90", solve(question)[0])
