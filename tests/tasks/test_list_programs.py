"""list-programs: lines and functions agree, splits differ in behaviour, grades are shares of hidden tests."""

from __future__ import annotations

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.list_programs import (
    LINES,
    RETURN,
    behaviour,
    behaviours,
    draw_lists,
    perform,
    read_examples,
    source,
)
from selfstudy.signals.list_programs import grade_list_programs, read_cases, run, share_right, write_cases
from selfstudy.tasks.list_programs import program_model

SMALL = "list-programs?train=40&validation=10&test=20"


def test_every_line_does_what_python_does() -> None:
    """Oracle: the lines run by Python in the sandbox, on 12 lists each and the empty one."""
    lists = [*draw_lists(np.random.default_rng(0), 12), ()]
    programs = [([line, RETURN], [(given, perform([line], given)) for given in lists]) for line in LINES]
    assert run(programs) == [1.0] * len(LINES)


def test_whole_programs_are_graded_as_python_grades_them() -> None:
    """Oracle: 30 random programs against the cases of another, in the sandbox: the same shares."""
    rng = np.random.default_rng(1)
    texts = list(LINES)
    programs = []
    for _ in range(30):
        ours, theirs = ([texts[i] for i in rng.integers(0, 24, size=rng.integers(1, 5))] for _ in range(2))
        cases = [(given, perform(theirs, given)) for given in draw_lists(rng, 8)]
        programs.append(([*ours, RETURN], cases))
    assert run(programs) == [share_right(lines, cases) for lines, cases in programs]


def test_other_lines_run_in_the_sandbox() -> None:
    """Oracle: another way to say the same, the wrong thing, and a program that forgets to return."""
    gold = write_cases([((1, 2), (2, 1)), ((3, 4, 5), (5, 4, 3))])
    answers = [
        "x = list(reversed(x))\nreturn x",
        "x = [2, 1]\nreturn x",
        "x = x[::-1]",
        "x = list(reversed(x))",
    ]
    assert grade_list_programs([("", gold, answer) for answer in answers]) == [1.0, 0.5, 0.0, 0.0]
    assert read_cases(gold) == [((1, 2), (2, 1)), ((3, 4, 5), (5, 4, 3))]


def test_reference_programs_are_right_and_fit_the_shown_examples() -> None:
    """Oracle: the program behind each problem."""
    task = selfstudy.task(SMALL)
    solutions = [task.oracle.solution(problem) or () for problem in task.train]
    assert task.grades(task.train, solutions) == [1.0] * 40
    for problem, lines in zip(task.train, solutions, strict=True):
        shown = read_examples(problem.prompt)
        assert len(shown) == 3
        assert share_right(lines, shown) == 1


def test_no_two_problems_want_the_same_behaviour() -> None:
    """Oracle: what the programs of all problems that give their solutions do to the probes."""
    task = selfstudy.task(SMALL)
    shown = [behaviour((task.oracle.solution(p) or ())[:-1]) for p in (*task.train, *task.validation)]
    assert len(set(shown)) == 50


def test_programs_with_a_shorter_equivalent_are_left_out() -> None:
    """Oracle: the table of all behaviours of at most two lines, made by trying every pair."""
    least = behaviours(2)
    tried = {behaviour((a, b)) for a in LINES for b in LINES}
    assert tried | {behaviour((a,)) for a in LINES} | {behaviour(())} == set(least)
    task = selfstudy.task("list-programs?lines=3&train=40&validation=0&test=10")
    for problem in task.train:
        assert behaviour((task.oracle.solution(problem) or ())[:-1]) not in least


def test_more_training_problems_leave_the_test_split_as_it_is() -> None:
    """Oracle: the same split in a larger task."""
    larger = selfstudy.task("list-programs?train=80&validation=10&test=20")
    assert larger.test == selfstudy.task(SMALL).test


def test_the_model_writes_a_line_in_a_token() -> None:
    """Oracle: counted by hand; a solution comes back from its tokens."""
    model = program_model(layers=1, width=16)
    text = "x = x[1:]\nx = [a + b for a, b in zip(x, x[1:])]\nreturn x\n"
    tokens = model.encode("10 2 -> 99\n" + text)
    assert len(tokens) == 5 + 3
    assert model.decode(tokens[5:]) == text
    assert model.encode("10 2 -> 99\n" + text.split("\n")[0] + "\n") == tokens[:6]


def test_source_is_python() -> None:
    """Oracle: compiles, with every line in the body."""
    compile(source(["x = x[1:]", RETURN]), "f", "exec")


@pytest.mark.parametrize(
    "query", ["lines=0", "lines=9", "lines=5-3", "lines=many", "train=-1", "lines=1&train=1000"]
)
def test_what_cannot_be_had_is_refused(query: str) -> None:
    """Oracle: there are 24 programs of one line."""
    with pytest.raises(UsageError):
        selfstudy.task(f"list-programs?{query}")
