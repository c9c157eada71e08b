"""Chains of arithmetic, applied left to right: `47+8-2*3:` is solved by `47+8=55`, `55-2=53`, `53*3=59`.

Two kinds of prompt are understood. The compact form with a colon works modulo 100, with results of two
digits; it is "chain100". Any other text with a chain in it, such as reasoning-gym's `4 + 3 - 2 =`, is
worked out in plain integers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError

MODULUS = 100
OPERATORS = "+-*"

_COMPACT = re.compile(r"\d\d(?:[+\-*]\d)+:")
_CHAIN = re.compile(r"(-?\d+)((?:\s*[+\-*]\s*\d+)+)")
_TERM = re.compile(r"([+\-*])\s*(\d+)")
_LINE = re.compile(r"(-?\d+)([+\-*])(\d+)=(-?\d+)")


class Chain(NamedTuple):
    """A prompt, read: the start, then one (operator, operand) a step; `modulus` is None for integers."""

    start: int
    terms: tuple[tuple[str, int], ...]
    modulus: int | None


def read_chain(prompt: str) -> Chain:
    """Read a prompt.

    >>> read_chain("47+8-2:")
    Chain(start=47, terms=(('+', 8), ('-', 2)), modulus=100)
    >>> read_chain("What is 4 + 3 - 12 =").terms
    (('+', 3), ('-', 12))

    Raises:
        DataError: there is no chain in it.
    """
    found = _CHAIN.search(prompt)
    if found is None:
        raise DataError(f"{prompt!r} holds no chain of arithmetic such as 47+8-2*3: or 4 + 3 - 2 =.")
    terms = tuple((operator, int(operand)) for operator, operand in _TERM.findall(found[2]))
    return Chain(int(found[1]), terms, MODULUS if _COMPACT.fullmatch(prompt) else None)


def chain_length(prompt: str) -> int:
    """Return K, the number of steps that `prompt` asks for."""
    return len(read_chain(prompt).terms)


def apply(
    values: np.ndarray, operators: np.ndarray, operands: np.ndarray, modulus: int | None = MODULUS
) -> np.ndarray:
    """Apply one step, elementwise on integer arrays; `operators` indexes into "+-*".

    >>> apply(np.array([47, 2]), np.array([0, 1]), np.array([8, 9])).tolist()
    [55, 93]
    """
    results = np.choose(operators, (values + operands, values - operands, values * operands))
    return results if modulus is None else results % modulus


def solve(prompt: str) -> tuple[str, ...]:
    """Return the exact solution lines of a prompt."""
    chain = read_chain(prompt)
    value, lines = chain.start, []
    for operator, operand in chain.terms:
        line = f"{_text(value, chain.modulus)}{operator}{operand}="
        value = _result(value, operator, operand, chain.modulus)
        lines.append(line + _text(value, chain.modulus))
    return tuple(lines)


def draw(
    rng: np.random.Generator,
    n: int,
    steps: int | tuple[int, int],
    *,
    smallest: int = 2,
    largest: int = 9,
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Draw `n` chain100 prompts with their exact solution lines, of all splits and not necessarily distinct.

    Args:
        rng: where the draws come from.
        n: how many.
        steps: K, or the least and greatest K, drawn uniformly.
        smallest: least operand, 0 to 9.
        largest: greatest operand, `smallest` to 9.
    """
    if not 0 <= smallest <= largest <= 9:
        raise UsageError(f"Operands have one digit: 0 <= {smallest=} <= {largest=} <= 9 does not hold.")
    low, high = (steps, steps) if isinstance(steps, int) else steps
    if not 1 <= low <= high:
        raise UsageError(f"The number of steps must be 1 or more and its range rising, not {low}-{high}.")
    lengths = rng.integers(low, high + 1, size=n)
    operators = rng.integers(0, 3, size=(n, high))  # [n, K]
    operands = rng.integers(smallest, largest + 1, size=(n, high))  # [n, K]
    values = np.empty((n, high + 1), dtype=np.int64)  # [n, K + 1], the start and every result
    values[:, 0] = rng.integers(10, 100, size=n)
    for step in range(high):
        values[:, step + 1] = apply(values[:, step], operators[:, step], operands[:, step])
    texts = [f"{value:02d}" for value in range(MODULUS)]
    terms = [f"{operator}{operand}" for operator in OPERATORS for operand in range(10)]
    prompts, solutions = [], []
    for length, row, term_row in zip(
        lengths.tolist(), values.tolist(), (operators * 10 + operands).tolist(), strict=True
    ):
        said = [terms[term] for term in term_row[:length]]
        prompts.append(texts[row[0]] + "".join(said) + ":")
        solutions.append(tuple(f"{texts[row[k]]}{term}={texts[row[k + 1]]}" for k, term in enumerate(said)))
    return prompts, solutions


def replay(prompt: str, lines: Sequence[str]) -> int | None:
    """Return the index of the first wrong line, or None when every line given is right.

    A line is right when its left operand is the previous line's result, its operator and operand are the
    ones due in the prompt, and its result is true, in the prompt's own form of numbers. A line after the
    last step is wrong. Blanks within lines do not count. Fewer lines than steps are not an error.

    >>> replay("47+8-2:", ["47+8=55", "55-2=54"])
    1
    """
    exact = solve(prompt)
    for index, line in enumerate(lines):
        if index >= len(exact) or "".join(line.split()) != exact[index]:
            return index
    return None


def chain_answer(prompt: str | None, lines: Sequence[str]) -> str | None:
    """Return the last line's result, or None when it has none.

    With a prompt, the solution is its first K lines, K being the steps of the prompt: what follows is not
    read, fewer are no answer. Whether the lines are right is not looked at.
    """
    if prompt is not None:
        lines = lines[: chain_length(prompt)] if len(lines) >= chain_length(prompt) else ()
    if not lines:
        return None
    found = _LINE.fullmatch("".join(lines[-1].split()))
    return found[4] if found else None


def _result(value: int, operator: str, operand: int, modulus: int | None) -> int:
    result = {"+": value + operand, "-": value - operand, "*": value * operand}[operator]
    return result if modulus is None else result % modulus


def _text(value: int, modulus: int | None) -> str:
    return str(value) if modulus is None else f"{value:02d}"
