"""Rows on their way, each continued by one token a step, over memory that is allocated once.

Rows stand beside places for prompts: a prompt's keys and values are read once in a step for all rows beside
it, and each row's own columns apart. On a processor a step waits for memory, so that is most of its time.
A row may fork when the sequences that share it part, and leaves when the last of them has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.models.language.memory import Memory
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Charge, Prompts

SPARSE = 0.75  # share of places with rows below which the others are left out
LINE = 16  # numbers in a line of memory: products read prompts in whole lines
# torch multiplies by a plain loop what has fewer multiplications than this (for each matrix of a batch).
PLAIN_LOOP = 400


class Flight:
    """Rows beside places, over a decoder.

    Args:
        cache: takes over what was drawn.
        prompts: where they lie.
        memory: where buffers come from.
        places: prompts at the same time.
        most: rows at the same time.
        columns: tokens of the longest prompt.
        steps: most tokens that a row adds.

    Attributes:
        rows: how many there are.
    """

    refills = True  # new prompts are put while rows are on their way
    shares = True  # requests may be one row as long as they draw the same

    def __init__(
        self,
        cache: PrefixCache,
        prompts: Prompts,
        memory: Memory,
        *,
        places: int,
        most: int,
        columns: int,
        steps: int,
    ) -> None:
        self.places, self.rows = places, 0
        self._cache, self._prompts, self._decoder = cache, prompts, cache.decoder
        decoder, device = cache.decoder, cache.decoder.device
        heads, width = decoder.key_heads, decoder.width
        self._group = decoder.heads // heads
        self._least = -(-PLAIN_LOOP // (self._group * width))
        own = (most, heads, max(steps, self._least), width)
        like = torch.empty(0, dtype=decoder.dtype, device=device)
        self._keys, self._values = (
            [memory.lend(self, own, like) for _ in range(decoder.layers)] for _ in range(2)
        )
        # The hidden state at each token that was drawn, where the cache keeps them.
        self._states: torch.Tensor | None = None
        if cache.states is not None:
            self._states = memory.lend(self, (most, steps, decoder.hidden_size), like)
        prompts.require(places, columns)
        self._prompt_keys = [keys[:places] for keys in prompts.keys]
        self._prompt_values = [values[:places] for values in prompts.values]
        self._lengths = torch.zeros(places, dtype=torch.long, device=device)
        self._place, self._count = (torch.zeros(0, dtype=torch.long, device=device) for _ in range(2))
        self._longest = 0  # columns of prompts that are read, whole lines

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """Return one of the free places for each prompt."""
        return self._prompts.choose(prompts, free)

    def put(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """Put prompts in these places; see `Prompts.put`."""
        self._lengths[places] = torch.tensor([len(prompt) for prompt in prompts], device=self._lengths.device)
        self._prompts.put(places, prompts, charge)
        self._look_at_prompts()

    def _look_at_prompts(self) -> None:
        """Note how far prompts reach, and which of their columns are past the end."""
        self._longest = -(-int(self._lengths.max()) // LINE) * LINE
        past = torch.arange(self._longest, device=self._lengths.device) >= self._lengths[:, None]
        self._past = past if bool(past.any()) else None  # [P, L]

    def begin(self, places: Sequence[int]) -> None:
        """Add a row beside each of these places."""
        place = torch.tensor(places, device=self._place.device)
        self._set_rows(torch.cat([self._place, place]), torch.cat([self._count, torch.zeros_like(place)]))

    def fork(self, sources: np.ndarray) -> None:
        """Add a copy of each of these rows, int64 [n]."""
        source = self._given(sources)
        self._move(source, torch.arange(self.rows, self.rows + len(source), device=source.device))
        self._set_rows(
            torch.cat([self._place, self._place[source]]), torch.cat([self._count, self._count[source]])
        )

    def leave(self, alive: np.ndarray) -> np.ndarray:
        """Let go of all rows but the `alive` ones, bool [R]; return where each is now, int64 [R]."""
        left = int(alive.sum())
        target = np.flatnonzero(~alive[:left])
        source = np.flatnonzero(alive[left:]) + left
        now = np.arange(self.rows)
        now[source] = target
        self._move(self._given(source), self._given(target))
        order = np.empty(left, dtype=np.int64)
        order[now[alive]] = np.flatnonzero(alive)
        there = self._given(order)
        self._set_rows(self._place[there], self._count[there])
        return now

    def close(self) -> None:
        """Give back what belongs to others: nothing, for the buffers go with the flight."""

    def _given(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._place.device)

    def _move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        if len(source):
            columns = int(self._count[source].max())
            for buffers in (*self._keys, *self._values):
                buffers[target, :, :columns] = buffers[source, :, :columns]
            if self._states is not None:
                self._states[target, :columns] = self._states[source, :columns]

    def _set_rows(self, place: torch.Tensor, count: torch.Tensor) -> None:
        """Take over which rows there are, and number those beside each place."""
        self._place, self._count, self.rows = place, count, len(place)
        order = place.argsort(stable=True)
        beside = torch.bincount(place, minlength=self.places)
        first = beside.cumsum(0) - beside
        here = torch.empty_like(place)
        here[order] = torch.arange(self.rows, device=place.device) - first[place[order]]
        self._widest = int(beside.max()) if self.rows else 0
        self._number = place * self._widest + here  # of each row, among all that have room beside places
        several = self._number[1:] > self._number[:-1]
        self._whole = self.rows == self.places * self._widest and bool(several.all())

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """Feed one token a row, int64 [R]; return the logits after it, [R, V]."""
        positions = self._lengths[self._place] + self._count
        columns = int(self._count.max()) + 1
        level = bool((self._count == columns - 1).all())
        hidden_columns = self._hidden(positions, columns, level)
        row = torch.arange(self.rows, device=positions.device)
        at = row, slice(None), self._count
        split = (self._decoder.heads, self._decoder.key_heads, self._decoder.key_heads)

        def attend(layer: int, mixed: torch.Tensor) -> torch.Tensor:
            query, key, value = mixed.split_with_sizes(split, 1)
            keys, values = self._keys[layer], self._values[layer]  # [most, heads, own columns, D]
            if level:
                keys[: self.rows, :, columns - 1], values[: self.rows, :, columns - 1] = key, value
            else:
                keys[at], values[at] = key, value
            query = query.unflatten(1, (self._decoder.key_heads, self._group)) * self._decoder.scaling
            return self._attend(layer, query, columns, hidden_columns[self._decoder.windows[layer]])

        hidden = self._decoder.hidden(self._given(tokens), positions, attend)
        if self._states is not None:
            self._states[row, self._count] = hidden
        self._count += 1
        return self._decoder.logits(hidden)

    def _attend(
        self, layer: int, query: torch.Tensor, columns: int, hide: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what scaled queries [R, heads, group, D] take from prompts and own columns, [R, heads * D].

        Args:
            layer: whose keys and values.
            query: one a row and head.
            columns: own columns that are read.
            hide: true where a row must not look, [R, 1, 1, L + columns].
        """
        own_keys, own_values = (
            buffers[layer][: self.rows].flatten(0, 1) for buffers in (self._keys, self._values)
        )
        own = torch.bmm(query.flatten(0, 1), own_keys[:, :columns].transpose(1, 2)).view(
            *query.shape[:3], columns
        )
        prompt_keys = self._prompt_keys[layer].flatten(0, 1)[..., : self._longest]
        before = self._beside_rows(torch.bmm(self._beside_places(query), prompt_keys))
        scores = torch.cat([before, own], -1)  # [R, heads, group, L + columns]
        if hide is not None:
            # The lowest finite number rather than -inf, so that no row can become nan.
            scores.masked_fill_(hide, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        seen = weights[..., self._longest :]
        if columns < self._least:
            seen = F.pad(seen, (0, self._least - columns))
        taken = torch.bmm(seen.flatten(0, 1), own_values[:, : seen.shape[-1]]).view_as(query)
        prompt_values = self._prompt_values[layer].flatten(0, 1)[:, : self._longest]
        shared = torch.bmm(self._beside_places(weights[..., : self._longest]), prompt_values)
        return (taken + self._beside_rows(shared)).flatten(1)

    def _beside_places(self, rows: torch.Tensor) -> torch.Tensor:
        """Lay rows [R, heads, group, X] out by place and head, [P * heads, widest * group, X]."""
        _, heads, group, width = rows.shape
        grid = rows.flatten(1)
        if not self._whole:
            empty = grid.new_zeros(self.places * self._widest, grid.shape[1])
            grid = empty.index_copy_(0, self._number, grid)
        grid = grid.view(self.places, self._widest, heads, group, width).transpose(1, 2)
        return grid.reshape(self.places * heads, self._widest * group, width)

    def _beside_rows(self, grid: torch.Tensor) -> torch.Tensor:
        """Undo `_beside_places`."""
        heads, width = self._decoder.key_heads, grid.shape[-1]
        by_place = grid.view(self.places, heads, self._widest, self._group, width).transpose(1, 2)
        rows = by_place.reshape(self.places * self._widest, -1)
        if not self._whole:
            rows = rows.index_select(0, self._number)
        return rows.view(self.rows, heads, self._group, width)

    def _hidden(
        self, positions: torch.Tensor, columns: int, level: bool
    ) -> dict[int | None, torch.Tensor | None]:
        """Return by window which columns each row must not see, [R, 1, 1, L + columns]."""
        windows = set(self._decoder.windows)
        reach = self._longest + columns
        if level and all(window is None or window >= reach for window in windows):
            hide = None if self._past is None else F.pad(self._past[self._place], (0, columns))[:, None, None]
            return dict.fromkeys(windows, hide)
        prompt = torch.arange(self._longest, device=positions.device)
        lengths = self._lengths[self._place][:, None]
        own = lengths + torch.arange(columns, device=positions.device)
        # The position of each column, [R, L + columns]; a padded one's is past every end.
        place = torch.cat([torch.where(prompt < lengths, prompt, 2**31), own], 1)
        out: dict[int | None, torch.Tensor | None] = {}
        for window in windows:
            hide = place > positions[:, None]
            if window is not None:
                hide |= positions[:, None] - place >= window
            out[window] = hide[:, None, None]
        return out

    def keep(self, rows: np.ndarray, texts: Sequence[np.ndarray]) -> None:
        """Let the cache take over what these rows have drawn, so that longer texts go on from there.

        Args:
            rows: int64 [n].
            texts: the whole text of each up to the last token that was fed.
        """
        counts = self._count[self._given(rows)]
        row = self._given(rows).repeat_interleave(counts)
        column = torch.arange(len(row), device=row.device)
        column -= (counts.cumsum(0) - counts).repeat_interleave(counts)

        def keys_values(layer: int, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            at = row[chosen], slice(None), column[chosen]
            return self._keys[layer][at], self._values[layer][at]

        def hidden(chosen: torch.Tensor) -> torch.Tensor:
            assert self._states is not None
            return self._states[row[chosen], column[chosen]]

        self._cache.insert(texts, counts.cpu().numpy(), keys_values, hidden)

    def shrink(self) -> np.ndarray | None:
        """Leave out places without rows, where they have become many; return where each of the others is now.

        Returns:
            int64 [P], without meaning for those left out; None where nothing was moved.
        """
        taken = torch.bincount(self._place, minlength=self.places) > 0
        left = taken.nonzero()[:, 0]
        if len(left) > SPARSE * self.places:
            return None
        for buffers in (self._prompt_keys, self._prompt_values):
            for layer, buffer in enumerate(buffers):
                buffers[layer] = buffer.index_select(0, left)
        now = taken.cumsum(0) - 1
        self._lengths, self.places = self._lengths[left], len(left)
        self._set_rows(now[self._place], self._count)
        self._look_at_prompts()
        return now.cpu().numpy()
