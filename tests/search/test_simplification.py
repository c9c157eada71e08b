"""Shorter programs: names, algebra, lines that do nothing, rounding."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.random import generator
from selfstudy.search.program_mutation import mutate
from selfstudy.search.program_running import RunningProgram
from selfstudy.search.simplification import algebra, renamed, simplified
from selfstudy.search.update_programs import (
    ADAMW,
    LION,
    RAW_LION,
    UpdateProgram,
    parse_program,
    program_hash,
)

HEAD = "def train(w, g, m, v, lr):\n"
X = torch.tensor([0.5, -2.0, 3.0, -0.1])


def update(program: UpdateProgram) -> torch.Tensor:
    running = RunningProgram(program, [3, 1])
    return running(X, X.flip(0), 0.3 * X, X.square(), torch.tensor(0.7))[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_new_names_and_algebra_change_nothing(seed: int) -> None:
    """Oracle: the hash, and the updates of mutated programs where they are numbers; 0 / 0 becomes a sign."""
    program = ADAMW
    for step in range(8):
        program = mutate(program, generator("rename", seed, step))
    assert program_hash(renamed(program)) == program_hash(program)
    before, after = update(program), update(algebra(renamed(program)))
    assert torch.allclose(after[before.isfinite()], before[before.isfinite()])


def test_the_published_rewriting() -> None:
    """Oracle: m / sqrt(m m) is sign(m), in the paper's raw program: three lines are one."""
    text = str(algebra(renamed(RAW_LION)))
    assert "sign" in text and "sqrt" not in text and "divide" not in text
    assert len(algebra(renamed(RAW_LION)).statements) == 9


def test_lines_that_do_nothing_go() -> None:
    """Oracle: a fitness that looks at signs alone leaves the shortest rule with those signs."""
    wanted = update(LION).sign()

    def fitness(program: UpdateProgram) -> float:
        return float((update(program).sign() == wanted).float().mean())

    short = simplified(RAW_LION, fitness, 0.0)
    assert fitness(short) >= fitness(RAW_LION) and len(short.statements) < 5
    assert not set("0123456789") & set(str(short).replace("x1", "").replace("0.0", "").replace("x2", ""))


def test_nothing_goes_that_is_needed() -> None:
    """Oracle: with a fitness that asks for the exact update no line goes; with one try neither."""
    program = parse_program(HEAD + "  a = sin(g)\n  update = multiply(a, 0.123456)\n  return update, m, v")
    exact = simplified(program, lambda other: -float((update(other) - update(program)).abs().max()), 1e-3)
    assert [line.function for line in exact.statements] == ["sin", "multiply"]
    assert exact.statements[1].arguments == ("x1", 0.123)
    free = simplified(program, lambda other: 0.0, 0.0, tries=1)
    assert len(free.statements) == 1
