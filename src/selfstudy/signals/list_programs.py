"""Judging programs on lists: known lines by their functions, any other line in the sandbox."""

from __future__ import annotations

import json
from collections.abc import Sequence

from selfstudy.data.list_programs import RETURN, Values, body, known, perform, source
from selfstudy.signals.sandbox import Program, judge

Cases = Sequence[tuple[Values, Values]]
"""Given lists and what a right program makes of them."""


def write_cases(cases: Cases) -> str:
    """Return cases as the gold answer of a problem."""
    return json.dumps(cases, separators=(",", ":"))


def read_cases(gold: str) -> list[tuple[Values, Values]]:
    """Read what `write_cases` wrote."""
    return [(tuple(given), tuple(wanted)) for given, wanted in json.loads(gold)]


def share_right(lines: Sequence[str], cases: Cases) -> float:
    """Return the share of cases that a program of known lines gets right; without a `return` it is none."""
    if RETURN not in lines:
        return 0.0
    lines = body(lines)
    return sum(perform(lines, given) == wanted for given, wanted in cases) / len(cases)


def grade_list_programs(many: Sequence[tuple[str, str, str]]) -> list[float]:
    """Return the share of hidden cases that each (question, gold, program) gets right."""
    programs = [given.splitlines() for _, _, given in many]
    grades = [
        share_right(lines, read_cases(gold)) if known(lines) else -1.0
        for lines, (_, gold, _) in zip(programs, many, strict=True)
    ]
    foreign = [i for i, grade in enumerate(grades) if grade < 0]
    for i, grade in zip(foreign, run([(programs[i], read_cases(many[i][1])) for i in foreign]), strict=True):
        grades[i] = grade
    return grades


def run(programs: Sequence[tuple[Sequence[str], Cases]]) -> list[float]:
    """Return the share of cases that each program gets right when Python runs it in the sandbox."""
    if not programs:
        return []
    asked = [
        Program(
            code=source(lines),
            tests=tuple(f"assert f({list(given)}) == {list(wanted)}" for given, wanted in cases),
            names=("f",),
        )
        for lines, cases in programs
    ]
    return [verdict.share for verdict in judge(asked)]
