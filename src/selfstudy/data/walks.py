"""Solutions that go back: lines of steps, and lines that say after which step to go on anew.

A walk is a list of steps and of numbers: a number k keeps the first k steps of the branch at hand and drops
the rest, so 0 goes back to the start. What is at hand at the end of a walk is its last branch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

Item = str | int
"""A step, or the number of steps that are kept in going back."""


@dataclass(frozen=True, slots=True)
class Returns:
    """How going back is written, on a line of its own."""

    name: str
    phrase: str
    """With {k} where the number of kept steps stands."""
    pattern: re.Pattern[str]
    """Finds such a line, and k in it."""

    def write(self, walk: Sequence[Item]) -> str:
        r"""Return a walk as text, each item on its line.

        >>> SYMBOLS.write(["3*5=15;2 15", 0, "3-2=1;1 5"])
        '3*5=15;2 15\n?<0\n3-2=1;1 5\n'
        """
        lines = [self.phrase.format(k=item) if isinstance(item, int) else item for item in walk]
        return "".join(line + "\n" for line in lines)

    def read(self, lines: Sequence[str]) -> list[Item]:
        """Return the walk that lines describe.

        >>> SYMBOLS.read(["3*5=15;2 15", "?<0"])
        ['3*5=15;2 15', 0]
        """
        found = [self.pattern.search(line) for line in lines]
        return [int(match[1]) if match else line for match, line in zip(found, lines, strict=True)]


SYMBOLS = Returns("symbols", "?<{k}", re.compile(r"^\?<(\d+)$"))
"""For small models: `?` doubts what is there, `<k` goes back."""
WORDS = Returns(
    "words",
    "Wait, is this right so far? No, it cannot be. I go back to step {k}.",
    re.compile(r"\bgo back to step (\d+)", re.IGNORECASE),
)
"""For models that read English; step 0 is the question."""


def branches(walk: Sequence[Item]) -> list[tuple[str, ...]] | None:
    """Return every branch of a walk as it was when it was left, the last one as it stands at the end.

    >>> branches(["a", "b", 1, "c"])
    [('a', 'b'), ('a', 'c')]

    None for a walk that goes back to a step which its branch does not have, or stays where it is.
    """
    found, at_hand = [], []
    for item in walk:
        if isinstance(item, str):
            at_hand.append(item)
            continue
        if item >= len(at_hand):
            return None
        found.append(tuple(at_hand))
        del at_hand[item:]
    return [*found, tuple(at_hand)]


def last_branch(walk: Sequence[Item]) -> tuple[str, ...]:
    """Return the steps that hold at the end of a walk; none for a walk that cannot be followed."""
    followed = branches(walk)
    return followed[-1] if followed else ()
