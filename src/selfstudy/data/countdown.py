"""Countdown: reach a target from k numbers, each used once, by + - * / on whole numbers.

A prompt is `3 8 1 5=24:`; a step is `3*8=24`, which takes its two operands from the numbers at hand and puts
the result back. The last result must be the target; numbers may be left over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from selfstudy.core.errors import DataError

_PROMPT = re.compile(r"(\d+(?: \d+)+)=(\d+):")
_STEP = re.compile(r"(\d+)([+\-*/])(\d+)=(\d+)")


def read_countdown(prompt: str) -> tuple[list[int], int]:
    """Return the numbers and the target of a prompt.

    >>> read_countdown("3 8 1=24:")
    ([3, 8, 1], 24)
    """
    found = _PROMPT.fullmatch(prompt.strip())
    if found is None:
        raise DataError(f"{prompt!r} is not a countdown prompt such as '3 8 1 5=24:'.")
    return [int(number) for number in found[1].split()], int(found[2])


def first_wrong_step(prompt: str, steps: Sequence[str]) -> int | None:
    """Return the index of the first step that is untrue or uses a number not at hand, or None."""
    numbers, _ = read_countdown(prompt)
    for index, step in enumerate(steps):
        found = _STEP.fullmatch("".join(step.split()))
        if found is None:
            return index
        left, operator, right, result = int(found[1]), found[2], int(found[3]), int(found[4])
        for number in (left, right):
            if number not in numbers:
                return index
            numbers.remove(number)
        if _result(left, operator, right) != result:
            return index
        numbers.append(result)
    return None


def reaches_target(prompt: str, steps: Sequence[str]) -> bool:
    """Tell whether `steps` are all right and the last result is the target."""
    if not steps or first_wrong_step(prompt, steps) is not None:
        return False
    return last_result(prompt, steps) == str(read_countdown(prompt)[1])


def last_result(prompt: str | None, steps: Sequence[str]) -> str | None:
    """Return the result that the last step states, or None."""
    found = _STEP.fullmatch("".join(steps[-1].split())) if steps else None
    return str(int(found[4])) if found else None


def countdown_ended(prompt: str, steps: Sequence[str]) -> bool:
    """Tell whether the last step states the target, or as many steps are there as the numbers allow."""
    numbers, target = read_countdown(prompt)
    return len(steps) >= len(numbers) - 1 or last_result(None, steps) == str(target)


def draw_countdown(
    rng: np.random.Generator, numbers: int, *, largest: int = 13, largest_target: int = 100
) -> tuple[str, tuple[str, ...]]:
    """Draw a problem; return its prompt and a solution, which uses all numbers and meets the target last."""
    while True:
        given = [int(number) for number in rng.integers(1, largest + 1, size=numbers)]
        hand, steps = list(given), []
        while len(hand) > 1:
            left = hand.pop(int(rng.integers(len(hand))))
            right = hand.pop(int(rng.integers(len(hand))))
            results = ((operator, _result(left, operator, right)) for operator in "+-*/")
            moves = [(operator, result) for operator, result in results if result]
            operator, result = moves[int(rng.integers(len(moves)))]
            steps.append(f"{left}{operator}{right}={result}")
            hand.append(result)
        reached = [last_result(prompt=None, steps=[step]) for step in steps]
        if hand[0] <= largest_target and hand[0] not in given and reached.count(str(hand[0])) == 1:
            return f"{' '.join(map(str, given))}={hand[0]}:", tuple(steps)


def _result(left: int, operator: str, right: int) -> int | None:
    if operator == "/":
        return left // right if right and left % right == 0 else None
    result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result if result >= 0 else None
