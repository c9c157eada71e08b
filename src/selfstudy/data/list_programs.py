"""Programs on lists of small integers: a few lines of Python, each one of 24 assignments to `x`.

A line is text that Python can run. Those in `LINES` are also known as functions, so that the many programs
of a search need not be run one by one; a test holds each function to its text.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from selfstudy.core.random import generator

Values = tuple[int, ...]
Behaviour = tuple[Values, ...]
"""What a program makes of each of the probes."""

LINES: dict[str, Callable[[Values], Values]] = {
    "x = sorted(x)": lambda x: tuple(sorted(x)),
    "x = x[::-1]": lambda x: x[::-1],
    "x = sorted(set(x))": lambda x: tuple(sorted(set(x))),
    "x = [v + 1 for v in x]": lambda x: tuple(v + 1 for v in x),
    "x = [max(v - 1, 0) for v in x]": lambda x: tuple(max(v - 1, 0) for v in x),
    "x = [v * 2 for v in x]": lambda x: tuple(v * 2 for v in x),
    "x = [v // 2 for v in x]": lambda x: tuple(v // 2 for v in x),
    "x = [v % 3 for v in x]": lambda x: tuple(v % 3 for v in x),
    "x = [abs(9 - v) for v in x]": lambda x: tuple(abs(9 - v) for v in x),
    "x = [v for v in x if v % 2 == 0]": lambda x: tuple(v for v in x if v % 2 == 0),
    "x = [v for v in x if v % 2 == 1]": lambda x: tuple(v for v in x if v % 2 == 1),
    "x = [v for v in x if v > 4]": lambda x: tuple(v for v in x if v > 4),
    "x = [v for v in x if v < 5]": lambda x: tuple(v for v in x if v < 5),
    "x = x[:3]": lambda x: x[:3],
    "x = x[-3:]": lambda x: x[-3:],
    "x = x[1:]": lambda x: x[1:],
    "x = x[:-1]": lambda x: x[:-1],
    "x = x[::2]": lambda x: x[::2],
    "x = x[1::2]": lambda x: x[1::2],
    "x = x[2:] + x[:2]": lambda x: x[2:] + x[:2],
    "x = x[:1] + x": lambda x: x[:1] + x,
    "x = [sum(x)]": lambda x: (sum(x),),
    "x = [len(x)]": lambda x: (len(x),),
    "x = [a + b for a, b in zip(x, x[1:])]": lambda x: tuple(a + b for a, b in itertools.pairwise(x)),
}
RETURN = "return x"
"""The line that ends a program."""

LARGEST = 99  # a number in an example
SHORTEST, LONGEST = 3, 6  # length of a list that is given
_PROBES = 12


def known(lines: Sequence[str]) -> bool:
    """Tell whether a program, as far as its first `return x`, is made of `LINES`.

    >>> known(["x = x[1:]", "return x", "anything"]), known(["x = 3"])
    (True, False)
    """
    return all(line in LINES for line in body(lines))


def body(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines before the first `return x`."""
    return lines[: lines.index(RETURN)] if RETURN in lines else lines


def perform(lines: Iterable[str], values: Values) -> Values:
    """Return what known lines make of a list.

    >>> perform(["x = sorted(x)", "x = x[::-1]"], (3, 1, 4))
    (4, 3, 1)
    """
    for line in lines:
        values = LINES[line](values)
    return values


def source(lines: Sequence[str]) -> str:
    """Return a program as the text of a function `f`."""
    return "\n".join(["def f(x):", *(f"    {line}" for line in lines)])


def draw_lists(rng: np.random.Generator, n: int) -> list[Values]:
    """Draw lists of 3 to 6 integers from 0 to 9."""
    lengths = rng.integers(SHORTEST, LONGEST + 1, size=n)
    values = rng.integers(0, 10, size=(n, LONGEST)).tolist()
    return [tuple(row[:length]) for row, length in zip(values, lengths.tolist(), strict=True)]


PROBES = draw_lists(generator("list-programs", "probes"), _PROBES)


@functools.lru_cache(maxsize=2**16)
def behaviour(lines: tuple[str, ...]) -> Behaviour:
    """Return what a program makes of the probes: programs of equal behaviour count as one."""
    return tuple(map(LINES[lines[-1]], behaviour(lines[:-1]))) if lines else tuple(PROBES)


def behaviours(most: int) -> dict[Behaviour, int]:
    """Return the least number of lines of each behaviour that up to `most` lines can have."""
    start = tuple(PROBES)
    found, last = {start: 0}, [start]
    for count in range(1, most + 1):
        new: dict[Behaviour, int] = {}
        for before in last:
            for function in LINES.values():
                after = tuple(map(function, before))
                if after not in found:
                    new[after] = count
        found |= new
        last = list(new)
    return found


def telling(shown: Behaviour) -> bool:
    """Tell whether a behaviour makes a problem: small numbers, short lists, not the same for all lists."""
    return len(set(shown)) > _PROBES // 2 and all(
        len(values) <= 2 * LONGEST and max(values, default=0) <= LARGEST for values in shown
    )


def examples(lines: Sequence[str], given: Sequence[Values]) -> tuple[str, ...]:
    """Return what a program makes of lists, as lines of text.

    >>> examples(["x = x[1:]"], [(3, 1, 4), (7,)])
    ('3 1 4 -> 1 4', '7 ->')
    """
    pairs = [(values, perform(lines, values)) for values in given]
    return tuple(f"{' '.join(map(str, a))} -> {' '.join(map(str, b))}".rstrip() for a, b in pairs)


def read_examples(question: str) -> list[tuple[Values, Values]]:
    """Read the examples in a question.

    >>> read_examples("3 1 -> 1")
    [((3, 1), (1,))]
    """
    sides = [line.split("->") for line in question.split("\n") if "->" in line]
    return [(_numbers(left), _numbers(right)) for left, right in sides]


def _numbers(text: str) -> Values:
    return tuple(map(int, text.split()))
