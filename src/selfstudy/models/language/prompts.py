"""Prompts' keys and values as steps read them, at places that outlive a call.

A search asks for what follows a text, then for what follows that text and one step more. What is at a place
already stays there, and only what comes after is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from selfstudy.models.language.memory import Memory
from selfstudy.models.language.prefixes import PrefixCache

FEWEST = 16  # columns; more are allocated by doubling, so that a growing text seldom moves
MARK = 8  # every so many tokens of what is at a place are looked up by new prompts

Charge = Callable[[int], None]


def allocated(columns: int) -> int:
    """Return how many columns are allocated for prompts of up to `columns` tokens.

    >>> [allocated(columns) for columns in (1, 64, 65, 200)]
    [16, 64, 128, 256]
    """
    return max(FEWEST, 2 ** (columns - 1).bit_length())


class Prompts:
    """Places for prompts.

    Args:
        cache: reads them.
        memory: where buffers come from.

    Attributes:
        keys: by layer, [places, key heads, D, columns]: by channel, which a product reads in one sweep.
        values: by layer, [places, key heads, columns, D].
    """

    def __init__(self, cache: PrefixCache, memory: Memory) -> None:
        self._cache, self._memory = cache, memory
        self._grow(0, 0)

    def _grow(self, places: int, columns: int) -> None:
        decoder = self._cache.decoder
        self._buffers = _Buffers()
        shapes = (
            (places, decoder.key_heads, decoder.width, columns),
            (places, decoder.key_heads, columns, decoder.width),
        )
        like = torch.empty(0, dtype=decoder.dtype, device=decoder.device)
        self.keys, self.values = (
            [self._memory.lend(self._buffers, shape, like) for _ in range(decoder.layers)] for shape in shapes
        )
        self._ids = np.full((places, columns), -1)  # what lies in each column
        self._where: dict[int, int] = {}  # at which place a marked token lies

    def require(self, places: int, columns: int) -> None:
        """Make room for so many places and columns; what was there goes where there is too little."""
        if places > self._ids.shape[0] or columns > self._ids.shape[1]:
            self._grow(places, allocated(columns))

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """Return one of the free places for each prompt: where the longest beginning of it lies."""
        left = dict.fromkeys(free)
        chosen: list[int | None] = []
        for prompt in prompts:
            place = self._lies(self._cache.known(prompt), left)
            if place is not None:
                del left[place]
            chosen.append(place)
        others = iter(left)
        return [next(others) if place is None else place for place in chosen]

    def _lies(self, ids: np.ndarray, left: dict[int, None]) -> int | None:
        marked = len(ids) // MARK * MARK
        for column in range(marked - 1, 0, -MARK):
            place = self._where.get(int(ids[column]))
            if place in left and place is not None and self._ids[place, column] == ids[column]:
                return place
        return None

    def put(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """Put prompts, int32 [n] each, at these places.

        Args:
            places: one for each prompt.
            prompts: may be empty, and the same one may stand several times.
            charge: called with the number of tokens before they are read.
        """
        texts = {prompt.tobytes(): prompt for prompt in prompts if len(prompt)}
        at: dict[bytes, list[int]] = {}
        for place, prompt in zip(places, prompts, strict=True):
            at.setdefault(prompt.tobytes(), []).append(place)
        for part in self._cache.parts(list(texts.values())):
            names = list(texts)[part]
            reading = self._cache.read([texts[name] for name in names], charge)
            copies = [len(at[name]) for name in names]
            where = np.array([place for name in names for place in at[name]])
            self._copy(where, np.repeat(reading.slots, copies, 0), np.repeat(reading.lengths, copies))

    def _copy(self, places: np.ndarray, slots: np.ndarray, lengths: np.ndarray) -> None:
        """Copy what lies at `slots` [B, W] to `places` [B], from where it differs from what is there."""
        ids = self._cache.ids(slots)
        column = np.arange(slots.shape[1])
        inside = column < lengths[:, None]
        here = np.logical_and.accumulate((self._ids[places, : len(column)] == ids) & inside, 1)
        row, columns = np.nonzero(inside & ~here)
        device = self._cache.decoder.device
        source = torch.from_numpy(slots[row, columns]).to(device)
        place, columns_there = torch.from_numpy(places[row]).to(device), torch.from_numpy(columns).to(device)
        for layer, (keys, values) in enumerate(zip(self.keys, self.values, strict=True)):
            new_keys, new_values = self._cache.keys_values(layer, source)  # [M, heads, D]
            keys[place, :, :, columns_there] = new_keys
            values[place, :, columns_there] = new_values
        for one in places.tolist():
            for mark in self._ids[one, MARK - 1 :: MARK].tolist():
                if self._where.get(mark) == one:
                    del self._where[mark]
        self._ids[places] = -1
        self._ids[places, : len(column)] = np.where(inside, ids, -1)
        for one, length in zip(places.tolist(), lengths.tolist(), strict=True):
            marks = self._ids[one, MARK - 1 : length : MARK].tolist()
            self._where.update(dict.fromkeys(marks, one))


class _Buffers:
    """Whoever has borrowed; gone when the places are made anew."""
