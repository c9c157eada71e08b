from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.chains import apply, chain_answer, chain_length, draw, read_chain, replay, solve

drawn = st.builds(
    lambda seed, low, extra: draw(np.random.default_rng(seed), 4, (low, low + extra)),
    st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 6),
)  # fmt: skip


@given(drawn)
@settings(max_examples=50)
def test_drawn_solutions_are_right(problems):
    """Oracle: Python's own arithmetic on the prompt, left to right modulo 100."""
    for prompt, lines in zip(*problems, strict=True):
        assert re.fullmatch(r"[1-9]\d([+\-*][2-9])+:", prompt)
        value = int(prompt[:2])
        for operator, operand in re.findall(r"([+\-*])(\d)", prompt):
            value = {"+": value.__add__, "-": value.__sub__, "*": value.__mul__}[operator](int(operand)) % 100
        assert chain_answer(prompt, lines) == f"{value:02d}"
        assert replay(prompt, lines) is None
        assert solve(prompt) == lines
        assert len(lines) == chain_length(prompt)


@given(drawn, st.data())
@settings(max_examples=100)
def test_replay_names_a_corrupted_line(problems, data):
    """Oracle: the place of the corruption: a result, an operand, an operator or a left operand changed."""
    prompt, lines = problems[0][0], list(problems[1][0])
    at = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.sampled_from([0, 1, 2, 3, 5, 6]))
    old = lines[at][place]
    new = data.draw(st.sampled_from([c for c in ("+-*" if place == 2 else "0123456789") if c != old]))
    lines[at] = lines[at][:place] + new + lines[at][place + 1 :]
    assert replay(prompt, lines) == at


def test_lines_that_are_locally_right_but_not_due_are_wrong():
    """Oracle: by hand; the second line is true arithmetic with the third operand."""
    assert replay("47+8-2*3:", ["47+8=55", "55*3=65"]) == 1
    assert replay("47+8:", ["47+8=55", "55+0=55"]) == 1
    assert replay("47+8:", []) is None


def test_integers_without_modulus():
    """Oracle: by hand, on the wording of reasoning-gym."""
    prompt = "State the final answer to the following arithmetic problem: 4 + 3 - 20 ="
    assert solve(prompt) == ("4+3=7", "7-20=-13")
    assert replay(prompt, ["4 + 3 = 7", "7 - 20 = 87"]) == 1
    assert read_chain("47+8:").modulus == 100 and read_chain("47+8=").modulus is None
    assert solve("60+70=") == ("60+70=130",)


def test_answers_need_all_lines_when_the_problem_is_known():
    """Oracle: by hand."""
    assert chain_answer("47+8-2:", ["47+8=55"]) is None
    assert chain_answer(None, ["47+8=55"]) == "55"
    assert chain_answer("47+8-2:", ["47+8=55", "55-2="]) is None
    assert chain_answer("47+8-2:", []) is None
    # Only the first K lines are the solution.
    assert chain_answer("47+8-2:", ["47+8=55", "55-2=53", "53+1=54"]) == "53"


def test_apply_equals_the_scalar_rule():
    """Oracle: Python's operators on every value and operand."""
    values, operands = np.meshgrid(np.arange(100), np.arange(10))
    for index, rule in enumerate((int.__add__, int.__sub__, int.__mul__)):
        got = apply(values, np.full_like(values, index), operands)
        assert got.tolist() == [[rule(v, o) % 100 for v in range(100)] for o in range(10)]


def test_draw_reaches_its_bounds_and_is_a_function_of_the_generator():
    """Oracle: the ranges asked for."""
    prompts, _ = draw(np.random.default_rng(0), 3000, (1, 3), smallest=3, largest=5)
    assert {chain_length(p) for p in prompts} == {1, 2, 3}
    assert {o for p in prompts for _, o in read_chain(p).terms} == {3, 4, 5}
    assert {p[:2] for p in prompts} == {str(n) for n in range(10, 100)}
    assert draw(np.random.default_rng(0), 3000, (1, 3), smallest=3, largest=5)[0] == prompts


@pytest.mark.parametrize("bad", [{"smallest": 5, "largest": 4}, {"largest": 10}, {"smallest": -1}])
def test_bad_operands_are_refused(bad):
    """Oracle: the documented range."""
    with pytest.raises(UsageError, match="one digit"):
        draw(np.random.default_rng(0), 1, 3, **bad)


def test_text_without_a_chain():
    """Oracle: the message shows the form."""
    with pytest.raises(DataError, match="47\\+8"):
        read_chain("How are you?")
