"""Countdown that shows its numbers: steps, replay of the last branch, and drawn problems."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.data.countdown import read_countdown
from selfstudy.data.shown_countdown import (
    VOCABULARY,
    after_step,
    complete,
    draw_shown,
    moves,
    outcome,
    random_branch,
    solved,
    stated,
)

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(2, 5))
@settings(max_examples=40)
def test_moves_are_right_steps_and_all_of_them(seed: int, k: int) -> None:
    """Oracle: Python's arithmetic on every pair and operator, counted as a set of (operands, result)."""
    hand = tuple(int(n) for n in np.random.default_rng(seed).integers(1, 30, size=k))
    wanted = set()
    for i in range(k):
        for j in range(k):
            a, b = hand[i], hand[j]
            if i == j or a < b:
                continue
            for operator, result in (("+", a + b), ("-", a - b), ("*", a * b), ("/", a / b)):
                if result == int(result) and 0 <= result <= 99:
                    wanted.add(f"{a}{operator}{b}={int(result)}")
    found = moves(hand)
    assert {step.partition(";")[0] for step, _ in found} == wanted
    assert all(after_step(hand, step) == after for step, after in found)


def test_wrong_steps() -> None:
    """Oracle: each mistake by hand: result, a number not at hand, what is shown, range, remainder, form."""
    hand = (2, 6, 9)
    assert after_step(hand, "6*2=12;9 12") == after_step(hand, "2*6=12;9 12") == (9, 12)
    for step in (
        "6*2=13;9 13",
        "6*6=36;2 9",
        "6*2=12;12 9",
        "6*2=12;9",
        "2-6=-4;-4 9",
        "9/2=4;4 6",
        "6x2=12;9 12",
        "",
    ):
        assert after_step(hand, step) is None
    assert after_step((50, 60), "60+50=110;110") is None
    assert after_step((0, 3), "3/0=0;0") is None


@given(SEEDS)
@settings(max_examples=40)
def test_only_the_last_branch_counts(seed: int) -> None:
    """Oracle: the drawn solution after branches of noise that are left for the start."""
    rng = np.random.default_rng(seed)
    prompt, steps = draw_shown(rng, 4)
    other = random_branch(rng, read_countdown(prompt)[0])
    target = str(read_countdown(prompt)[1])
    assert set(prompt + "".join(steps)) <= set(VOCABULARY)
    for lines in (
        list(steps),
        [*other, "?<0", *steps],
        ["nonsense", "?<0", *steps],
        [*steps[:1], *other[1:], "?<1", *steps[1:]],
    ):
        assert solved(prompt, lines) and stated(prompt, lines) == target and complete(prompt, lines)
        # The same branches with another end: right where that one is.
        ended = [*lines, "?<0", *other]
        assert solved(prompt, ended) == (other[-1].endswith(f";{target}"))
    assert not solved(prompt, steps[:-1]) and not complete(prompt, steps[:-1])
    assert not solved(prompt, [*steps, "?<3"]) and not solved(prompt, [*steps, "?<2"])
    assert not solved(prompt, ["nonsense", *steps[1:]])


@given(SEEDS, st.integers(3, 5))
@settings(max_examples=30)
def test_drawn_problems(seed: int, k: int) -> None:
    """Oracle: the form, by hand: rising numbers, a target of two digits not among them, a right solution."""
    prompt, steps = draw_shown(np.random.default_rng(seed), k, largest=9)
    numbers, target = read_countdown(prompt)
    assert re.fullmatch(r"\d( \d)+=\d\d:", prompt)
    assert numbers == sorted(numbers) and len(numbers) == k and 10 <= target <= 99
    assert len(steps) == k - 1 and outcome(prompt, steps) == target and target not in numbers
    assert stated(None, steps) is None
