"""Update programs made shorter without getting worse (Chen et al. 2023, section 3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from selfstudy.search.update_programs import (
    Argument,
    Statement,
    UpdateProgram,
    kinds_of,
    pruned,
)

DIGITS = 2  # significant ones of a rounded number


def simplified(
    program: UpdateProgram, fitness: Callable[[UpdateProgram], float], tolerance: float, tries: int = 1000
) -> UpdateProgram:
    """Return a shorter program whose fitness is at most `tolerance` below the program's own.

    Dead lines go first. Then algebra rewrites what is the same in fewer lines, each line is tried to be
    replaced by one of its arguments, from the last to the first, and numbers are rounded.

    Args:
        program: to shorten; its fitness is finite.
        fitness: more is better.
        tolerance: what is no more than noise.
        tries: shorter programs that are measured at most.
    """
    best = algebra(renamed(program))
    least, left = fitness(program) - tolerance, itertools.repeat(None, tries)

    def good(candidates: Iterator[UpdateProgram]) -> UpdateProgram | None:
        tried = (candidate for candidate, _ in zip(candidates, left, strict=False))
        return next((candidate for candidate in tried if fitness(candidate) >= least), None)

    while shorter := good(_one_line_fewer(best)):
        best = algebra(shorter)
    return good(_rounded(best)) or best


def renamed(program: UpdateProgram) -> UpdateProgram:
    """Return the pruned program with a name of its own for each line, x1, x2, ...

    >>> from selfstudy.search.update_programs import RAW_LION
    >>> print(renamed(RAW_LION).statements[1])
    x2 = arctan(x1)
    """
    program = pruned(program)
    names: dict[Argument, Argument] = {}
    lines = []
    for place, (name, function, arguments) in enumerate(program.statements, start=1):
        lines.append(Statement(f"x{place}", function, tuple(names.get(a, a) for a in arguments)))
        names[name] = f"x{place}"
    update, m, v = (names.get(value, value) for value in program.result)
    return UpdateProgram(tuple(lines), (update, m, v))


def algebra(program: UpdateProgram) -> UpdateProgram:
    """Return a renamed program in which x / sqrt(x x) and x / abs(x) are sign(x), and sqrt(x x) is abs(x).

    >>> from selfstudy.search.update_programs import RAW_LION
    >>> [str(line) for line in algebra(renamed(RAW_LION)).statements if "sign" in line.function]
    ['x5 = sign(x3)']
    """
    made: dict[Argument, Statement] = {}
    for line in program.statements:
        made[line.name] = _rewritten(line, made)
    return renamed(UpdateProgram(tuple(made.values()), program.result))


def _rewritten(line: Statement, made: dict[Argument, Statement]) -> Statement:
    if line.function == "sqrt":
        inner = made.get(line.arguments[0])
        if inner and inner.function == "square":  # x x has become square(x) above
            return Statement(line.name, "abs", inner.arguments)
    if line.function == "divide":
        below = made.get(line.arguments[1])
        if below and below.function == "abs" and below.arguments[0] == line.arguments[0]:
            return Statement(line.name, "sign", line.arguments[:1])
    if line.function == "multiply" and line.arguments[0] == line.arguments[1]:
        return Statement(line.name, "square", line.arguments[:1])
    return line


def _one_line_fewer(program: UpdateProgram) -> Iterator[UpdateProgram]:
    for place in reversed(range(len(program.statements))):
        line = program.statements[place]
        for argument in dict.fromkeys(line.arguments):
            candidate = _replaced(program, line.name, argument)
            if not isinstance(kinds_of(candidate), str):
                yield renamed(candidate)


def _replaced(program: UpdateProgram, name: str, by: Argument) -> UpdateProgram:
    """Return a renamed program in which `name` is `by`; its line is left out."""

    def now(value: Argument) -> Argument:
        return by if value == name else value

    lines = tuple(
        Statement(line.name, line.function, tuple(map(now, line.arguments)))
        for line in program.statements
        if line.name != name
    )
    update, m, v = map(now, program.result)
    return UpdateProgram(lines, (update, m, v))


def _rounded(program: UpdateProgram) -> Iterator[UpdateProgram]:
    for digits in (DIGITS, DIGITS + 1):
        lines = tuple(
            line._replace(
                arguments=tuple(
                    float(f"{a:.{digits}g}") if isinstance(a, float) else a for a in line.arguments
                )
            )
            for line in program.statements
        )
        yield program._replace(statements=lines)
