"""Countdown with the numbers at hand shown after every step, in solutions that may go back.

A prompt is `2 3 5 7=24:`. A step is `5*7=35;2 3 35`: two of the numbers at hand give a whole number from 0 to
99, and what is then at hand follows in rising order. A branch solves its problem when one number is left and
it is the target. `?<1` goes back to what was at hand after the first step of the branch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from selfstudy.data.countdown import read_countdown
from selfstudy.data.walks import SYMBOLS, last_branch

VOCABULARY = "0123456789+-*/=; ?<:\n"
"""All characters of prompts and solutions."""
LARGEST = 99

_STEP = re.compile(r"(\d+)([+\-*/])(\d+)=(\d+);(\d+(?: \d+)*)")


def moves(hand: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """Return every step from the numbers at hand, greater operand first, with what is at hand after it.

    >>> [step for step, _ in moves((2, 6))]
    ['6+2=8;8', '6-2=4;4', '6*2=12;12', '6/2=3;3']
    """
    found: dict[str, tuple[int, ...]] = {}
    for i, j in combinations(range(len(hand)), 2):
        high, low = max(hand[i], hand[j]), min(hand[i], hand[j])
        others = [hand[k] for k in range(len(hand)) if k not in (i, j)]
        for operator in "+-*/":
            result = _result(high, operator, low)
            if result is not None:
                after = tuple(sorted([*others, result]))
                found[f"{high}{operator}{low}={result};{' '.join(map(str, after))}"] = after
    return list(found.items())


def after_step(hand: Sequence[int], step: str) -> tuple[int, ...] | None:
    """Return what is at hand after a step, or None when the step is not right.

    >>> after_step((2, 3, 5), "3*5=15;2 15"), after_step((2, 3, 5), "3*5=15;2 16")
    ((2, 15), None)
    """
    found = _STEP.fullmatch(step)
    if found is None:
        return None
    left, operator, right, result = int(found[1]), found[2], int(found[3]), int(found[4])
    rest = list(hand)
    for number in (left, right):
        if number not in rest:
            return None
        rest.remove(number)
    if _result(left, operator, right) != result:
        return None
    after = tuple(sorted([*rest, result]))
    return after if found[5] == " ".join(map(str, after)) else None


def outcome(prompt: str, lines: Sequence[str]) -> int | None:
    """Return the number that the last branch of a solution leaves, or None.

    None where the branch has a wrong step or more than one number left; earlier branches do not count.

    >>> outcome("2 3 5=17:", ["3*5=15;2 15", "15-2=13;13", "?<1", "15+2=17;17"])
    17
    """
    hand = tuple(read_countdown(prompt)[0])
    for step in last_branch(SYMBOLS.read(lines)):
        after = after_step(hand, step)
        if after is None:
            return None
        hand = after
    return hand[0] if len(hand) == 1 else None


def stated(prompt: str | None, lines: Sequence[str]) -> str | None:
    """Return `outcome` as text; without a prompt there is none."""
    result = None if prompt is None else outcome(prompt, lines)
    return None if result is None else str(result)


def complete(prompt: str, lines: Sequence[str]) -> bool:
    """Tell whether the last branch has as many steps as the numbers need, right or not."""
    return len(last_branch(SYMBOLS.read(lines))) >= len(read_countdown(prompt)[0]) - 1


def solved(prompt: str, lines: Sequence[str]) -> bool:
    """Tell whether the last branch is right and leaves the target."""
    return outcome(prompt, lines) == read_countdown(prompt)[1]


def draw_shown(
    rng: np.random.Generator, numbers: int, *, largest: int = 13, least_target: int = 10
) -> tuple[str, tuple[str, ...]]:
    """Draw a problem that random steps solve; return its prompt, numbers in rising order, and these steps."""
    while True:
        given = tuple(sorted(int(n) for n in rng.integers(1, largest + 1, size=numbers)))
        steps = random_branch(rng, given)
        target = int(steps[-1].partition(";")[2])
        if target >= least_target and target not in given:
            return f"{' '.join(map(str, given))}={target}:", steps


def random_branch(rng: np.random.Generator, hand: Sequence[int]) -> tuple[str, ...]:
    """Return right steps, drawn at random, until one number is left."""
    steps = []
    while len(hand) > 1:
        choices = moves(hand)
        step, hand = choices[int(rng.integers(len(choices)))]
        steps.append(step)
    return tuple(steps)


def _result(left: int, operator: str, right: int) -> int | None:
    if operator == "/":
        return left // right if right and left % right == 0 else None
    result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result if 0 <= result <= LARGEST else None
