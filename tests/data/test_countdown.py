from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.data.countdown import (
    countdown_ended,
    draw_countdown,
    first_wrong_step,
    reaches_target,
    read_countdown,
)


@given(st.integers(0, 2**32), st.integers(2, 6), st.data())
@settings(max_examples=60)
def test_drawn_problems_are_solved_and_corruptions_found(seed, k, data):
    """Oracle: Python's arithmetic on the steps; a changed result is named at its place."""
    prompt, steps = draw_countdown(np.random.default_rng(seed), k)
    numbers, target = read_countdown(prompt)
    assert len(numbers) == k and target not in numbers and len(steps) == k - 1
    for step in steps:
        left, operator, right, result = re.fullmatch(r"(\d+)(\D)(\d+)=(\d+)", step).groups()
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[operator] == int(result)
    assert reaches_target(prompt, steps)
    assert countdown_ended(prompt, steps)
    assert not reaches_target(prompt, steps[:-1])
    at = data.draw(st.integers(0, k - 2))
    wrong = [*steps[:at], steps[at] + "1", *steps[at + 1 :]]
    assert first_wrong_step(prompt, wrong) == at
    assert not reaches_target(prompt, wrong)


def test_a_number_is_used_once():
    """Oracle: by hand: one 4 only, then two."""
    assert first_wrong_step("4 5=16:", ["4*4=16"]) == 0
    assert first_wrong_step("4 4=16:", ["4*4=16"]) is None
    assert first_wrong_step("4 4 2=16:", ["4*4=16", "4+2=6"]) == 1


def test_unreadable_prompt():
    """Oracle: the message shows the form."""
    with pytest.raises(DataError, match="3 8 1 5=24:"):
        read_countdown("make 24")
