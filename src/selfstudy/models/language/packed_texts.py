"""Texts one after the other, without padding, of which several may go on from the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Packed:
    """Tokens of texts one after the other, int64 throughout."""

    tokens: np.ndarray
    """[N]."""
    positions: np.ndarray
    """[N], of each in its text."""
    texts: np.ndarray
    """[S, 4]: from where to where the tokens before a text lie, and from where to where its own."""
    places: np.ndarray
    """[M] the tokens whose logits are wanted."""


class Packing:
    """Texts as they are packed.

    Attributes:
        last: from where to where the text lies that was added last.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._positions: list[int] = []
        self._texts: list[tuple[int, int, int, int]] = []
        self._places: list[int] = []
        self.last = 0, 0

    def add(self, tokens: Sequence[int], *, after: int = 0, stem: tuple[int, int] = (0, 0)) -> list[int]:
        """Add a text; return which of the logits will be those after its tokens from number `after` on.

        Args:
            tokens: of the text.
            after: see above.
            stem: where a text lies that this one goes on from.
        """
        first, before = len(self._tokens), stem[1] - stem[0]
        end, known = first + len(tokens), len(self._places)
        if tokens:
            self._tokens += tokens
            self._positions += range(before, before + len(tokens))
            self._texts.append((*stem, first, end))
            self._places += range(first + after, end)
        self.last = first, end
        return list(range(known, len(self._places)))

    def done(self) -> Packed:
        """Return all of them."""
        return Packed(*map(np.array, (self._tokens, self._positions, self._texts, self._places)))
