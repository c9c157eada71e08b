"""Rows on their way whose keys and values lie at slots of the cache: for compiled loops and kernels.

A loop goes from slot to slot as fast as along a buffer. So nothing is copied: a row reads its prompt where
the cache keeps it, and what it has drawn becomes known where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from selfstudy.models.language.prefix_tree import Known
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Charge
from selfstudy.models.language.small_layers import SmallLayers


class Steps(Protocol):
    """How the rows of a `SlotFlight` are computed."""

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy what lies at slots `source` to slots `target`, int64 [n] each."""

    def logits(self, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray) -> torch.Tensor:
        """Feed one token a row, [R]; return the logits after it, [R, V].

        Args:
            tokens: int64 [R].
            positions: int64 [R] of the tokens in their texts.
            slots: int64 [R, W] where the tokens of each text lie, up to the new one.
        """
        ...


class CompiledSteps:
    """Steps on a processor, in float32.

    Args:
        cache: where keys and values lie.
    """

    def __init__(self, cache: PrefixCache) -> None:
        # Only here, for the compiler's import takes half a second.
        from selfstudy.models.language import kernels

        self._kernels, self._cache = kernels, cache
        self._keys, self._values = zip(*(kept.numpy() for kept in cache.kept), strict=True)
        self._states = None if cache.states is None else cache.states.numpy()
        self._small = SmallLayers(cache.decoder) if SmallLayers.fits(cache.decoder) else None

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """See `Steps`."""
        for kept in (*self._keys, *self._values):
            kept[target] = kept[source]
        if self._states is not None:
            self._states[target] = self._states[source]

    def logits(self, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray) -> torch.Tensor:
        """See `Steps`."""
        decoder, row = self._cache.decoder, np.arange(len(tokens))

        def attend(layer: int, mixed: torch.Tensor) -> torch.Tensor:
            taken = mixed.new_empty(len(mixed), decoder.heads * decoder.width)
            self._kernels.attend(
                mixed.numpy(),
                row,
                positions,
                slots,
                self._keys[layer],
                self._values[layer],
                decoder.heads,
                decoder.windows[layer] or 0,
                np.float32(decoder.scaling),
                taken.numpy(),
            )
            return taken

        if self._small is not None:
            kept = self._keys, self._values
            hidden = torch.from_numpy(self._small.hidden(tokens, positions, slots, *kept))
        else:
            hidden = decoder.hidden(torch.from_numpy(tokens), torch.from_numpy(positions), attend)
        if self._states is not None:
            self._states[slots[row, positions]] = hidden.numpy()
        return decoder.logits(hidden)


class SlotFlight:
    """Rows over a cache with room aside; the interface of `Flight`.

    The first tokens of a row lie where the cache knows them, and are pinned there; at the slots after them,
    which are the row's own, it draws.

    Args:
        cache: reads prompts, and takes over what was drawn.
        by: computes the steps.
        places: prompts at the same time.
        most: rows at the same time.
        columns: tokens of the longest prompt.
        steps: most tokens that a row adds.
    """

    refills = shares = True

    def __init__(
        self, cache: PrefixCache, by: Steps, *, places: int, most: int, columns: int, steps: int
    ) -> None:
        self._cache, self._by, self._tree = cache, by, cache.tree
        self.places, self.rows, self._steps = places, 0, steps
        self._at_place: dict[int, Known] = {}
        self._pinned: list[Known] = []  # of each row
        self._slots = np.zeros((most, columns + steps), dtype=np.int64)  # of the tokens of each row
        # Of each row, how many tokens are pinned, how many there are, and for how many there are slots.
        self._known, self._ends, self._room = np.zeros((3, most), dtype=np.int64)

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """See `Flight.choose`: the first ones, for nothing lies there."""
        return list(free[: len(prompts)])

    def put(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """See `Flight.put`."""
        for place, prompt in zip(places, prompts, strict=True):
            self._pin(place, prompt)
        missing = {
            prompt.tobytes(): prompt
            for place, prompt in zip(places, prompts, strict=True)
            if len(self._at_place[place].slots) < len(prompt)
        }
        texts = list(missing.values())
        for part in self._cache.parts(texts):
            self._cache.read(texts[part], charge)
            read = {text.tobytes() for text in texts[part]}
            for place, prompt in zip(places, prompts, strict=True):
                if prompt.tobytes() in read:
                    self._pin(place, prompt)

    def _pin(self, place: int, prompt: np.ndarray) -> None:
        before = self._at_place.get(place)
        self._at_place[place] = self._tree.pin(prompt)
        if before is not None:
            self._tree.unpin(before)

    def begin(self, places: Sequence[int]) -> None:
        """See `Flight.begin`."""
        own = self._taken(len(places) * self._steps).reshape(-1, self._steps)
        for place, slots in zip(places, own, strict=True):
            self._add(self._tree.pin_again(self._at_place[place]), slots)

    def fork(self, sources: np.ndarray) -> None:
        """See `Flight.fork`; what the source knows is shared, and the rest is copied."""
        drawn, there = [], []
        for source in sources.tolist():
            known, end, room = self._known[source], self._ends[source], self._room[source]
            own = self._taken(int(room - known))
            self._add(self._tree.pin_again(self._pinned[source]), own)
            self._ends[self.rows - 1] = end
            drawn.append(self._slots[source, known:end])
            there.append(own[: end - known])
        self._by.copy(np.concatenate(drawn), np.concatenate(there))

    def _taken(self, count: int) -> np.ndarray:
        slots = self._tree.take(count)
        assert slots is not None, "a flight has room for its rows"
        return slots

    def _add(self, known: Known, own: np.ndarray) -> None:
        """Add a row after what it knows, with slots of its own."""
        length = len(known.slots)
        self._slots[self.rows, :length] = known.slots
        self._slots[self.rows, length : length + len(own)] = own
        self._known[self.rows] = self._ends[self.rows] = length
        self._room[self.rows] = length + len(own)
        self._pinned.append(known)
        self.rows += 1

    def leave(self, alive: np.ndarray) -> np.ndarray:
        """See `Flight.leave`."""
        for row in np.flatnonzero(~alive).tolist():
            self._tree.give_back(self._slots[row, self._known[row] : self._room[row]])
            self._tree.unpin(self._pinned[row])
        left = np.flatnonzero(alive)
        for of_rows in (self._slots, self._known, self._ends, self._room):
            of_rows[: len(left)] = of_rows[left]
        self._pinned = [self._pinned[row] for row in left.tolist()]
        self.rows = len(left)
        return np.cumsum(alive) - 1

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """See `Flight.step`."""
        logits = self._by.logits(tokens, self._ends[: self.rows].copy(), self._slots[: self.rows])
        self._ends[: self.rows] += 1
        return logits

    def keep(self, rows: np.ndarray, texts: Sequence[np.ndarray]) -> None:
        """See `Flight.keep`."""
        for row, text in zip(rows.tolist(), texts, strict=True):
            first, end = self._known[row], self._ends[row]
            known = self._tree.extend(self._pinned[row], text[first:], self._slots[row, first:end])
            self._slots[row, :end] = known.slots
            self._known[row], self._pinned[row] = end, known

    def shrink(self) -> np.ndarray | None:
        """See `Flight.shrink`: nothing is read for places without rows."""
        return None

    def close(self) -> None:
        """See `Flight.close`: slots and pins."""
        self.leave(np.zeros(self.rows, dtype=bool))
        for known in self._at_place.values():
            self._tree.unpin(known)
