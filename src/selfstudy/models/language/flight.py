"""Sequences on their way, each continued by one token a step, over memory that is allocated once.

Seats are a grid: places for prompts, and beside each place the sequences that continue its prompt. A prompt's
keys and values are read once in a step for all beside it, and each sequence's own columns apart. On a
processor a step waits for memory, so that is most of its time. A seat that falls free is given to the next
sequence without touching the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.models.language.memory import Memory
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.prompts import Charge, Prompts

SPARSE = 0.75  # share of taken seats below which the grid is drawn together
LINE = 16  # numbers in a line of memory: products read prompts in whole lines
# torch multiplies by a plain loop what has fewer multiplications than this (for each matrix of a batch).
PLAIN_LOOP = 400


class Flight:
    """A grid of seats over a decoder.

    Seat `place * beside + i` is the i-th beside its place.

    Args:
        cache: takes over what was drawn.
        prompts: where they lie.
        memory: where buffers come from.
        places: prompts at the same time.
        beside: sequences that continue one.
        columns: tokens of the longest prompt.
        steps: most tokens that a sequence adds.
    """

    refills = True

    def __init__(
        self,
        cache: PrefixCache,
        prompts: Prompts,
        memory: Memory,
        *,
        places: int,
        beside: int,
        columns: int,
        steps: int,
    ) -> None:
        self.places, self.beside = places, beside
        self._cache, self._prompts, self._decoder, self._steps = cache, prompts, cache.decoder, steps
        decoder, device = cache.decoder, cache.decoder.device
        heads, width = decoder.key_heads, decoder.width
        self._group = decoder.heads // heads
        self._least = -(-PLAIN_LOOP // (self._group * width))
        # One column more than any sequence fills: free seats write there without meaning.
        own = (places, heads, beside, max(steps + 1, self._least), width)
        like = torch.empty(0, dtype=decoder.dtype, device=device)
        self._keys, self._values = (
            [memory.lend(self, own, like) for _ in range(decoder.layers)] for _ in range(2)
        )
        prompts.require(places, -(-columns // LINE) * LINE)
        self._prompt_keys = [keys[:places] for keys in prompts.keys]
        self._prompt_values = [values[:places] for values in prompts.values]
        self._lengths = torch.zeros(places, dtype=torch.long, device=device)
        self._counts = torch.zeros(places * beside, dtype=torch.long, device=device)
        self._longest = 0  # columns of prompts that are read, whole lines

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """Return one of the free places for each prompt."""
        return self._prompts.choose(prompts, free)

    def place(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """Put prompts in these places; see `Prompts.put`."""
        self._lengths[places] = torch.tensor([len(prompt) for prompt in prompts], device=self._lengths.device)
        self._prompts.put(places, prompts, charge)
        self._look_at_prompts()

    def _look_at_prompts(self) -> None:
        """Note how far prompts reach, and which of their columns are past the end."""
        self._longest = -(-int(self._lengths.max()) // LINE) * LINE
        past = torch.arange(self._longest, device=self._lengths.device) >= self._lengths[:, None]
        self._past = past[:, None, None, None] if bool(past.any()) else None  # [P, 1, 1, 1, L]

    def begin(self, seats: torch.Tensor) -> None:
        """Let a new sequence start in each of these seats, [n], behind the prompt of its place."""
        self._counts[seats] = 0

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed one token a seat, [S]; return the logits after it, [S, V]."""
        positions = self._lengths.repeat_interleave(self.beside) + self._counts
        columns = int(self._counts.max()) + 1
        level = bool((self._counts == columns - 1).all())
        hidden_columns = self._hidden(positions, columns, level)
        seat = torch.arange(len(tokens), device=tokens.device)
        at = (seat // self.beside, slice(None), seat % self.beside, self._counts)
        grid = (self.places, self.beside, self._decoder.key_heads)

        def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            keys, values = self._keys[layer], self._values[layer]  # [P, heads, G, own columns, D]
            if level:
                keys[..., columns - 1, :] = key.view(*grid, -1).transpose(1, 2)
                values[..., columns - 1, :] = value.view(*grid, -1).transpose(1, 2)
            else:
                keys[at], values[at] = key, value
            query = query.reshape(*grid, self._group, -1).transpose(1, 2) * self._decoder.scaling
            taken = self._attend(layer, query, columns, hidden_columns[self._decoder.windows[layer]])
            return taken.transpose(1, 2).reshape(len(tokens), -1)

        hidden = self._decoder.hidden(tokens, positions, attend)
        self._counts.add_(1).clamp_(max=self._steps)
        return self._decoder.logits(hidden)

    def _attend(
        self, layer: int, query: torch.Tensor, columns: int, hide: torch.Tensor | None
    ) -> torch.Tensor:
        """Return what scaled queries [P, heads, G, group, D] take from prompts and own columns, shaped alike.

        Args:
            layer: whose keys and values.
            query: one a seat and head.
            columns: own columns that are read.
            hide: true where a seat must not look, broadcast to [P, heads, G, group, L + columns].
        """
        places, heads, beside, group, width = query.shape
        own_keys, own_values = self._keys[layer].flatten(0, 2), self._values[layer].flatten(0, 2)
        own = torch.bmm(query.reshape(-1, group, width), own_keys[:, :columns].transpose(1, 2))
        prompt_keys = self._prompt_keys[layer].flatten(0, 1)[..., : self._longest]
        before = torch.bmm(query.reshape(places * heads, -1, width), prompt_keys)
        scores = torch.cat([before.view(*own.shape[:2], -1), own], -1)  # [P heads G, group, L + columns]
        if hide is not None:
            # The lowest finite number rather than -inf, so that no row can become nan.
            least = torch.finfo(scores.dtype).min
            scores.view(places, heads, beside, group, -1).masked_fill_(hide, least)
        weights = scores.softmax(-1)
        seen = weights[..., self._longest :]
        if columns < self._least:
            seen = F.pad(seen, (0, self._least - columns))
        taken = torch.bmm(seen, own_values[:, : seen.shape[-1]])
        prompt_values = self._prompt_values[layer].flatten(0, 1)[:, : self._longest]
        taken += torch.bmm(weights[..., : self._longest].reshape_as(before), prompt_values).view_as(taken)
        return taken.view_as(query)

    def _hidden(
        self, positions: torch.Tensor, columns: int, level: bool
    ) -> dict[int | None, torch.Tensor | None]:
        """Return by window which columns a seat must not see, broadcast over [P, heads, G, group, L + n]."""
        windows = {
            window if window is not None and window <= self._longest + columns else None: window
            for window in set(self._decoder.windows)
        }
        if level and set(windows) == {None}:
            hide = None if self._past is None else F.pad(self._past, (0, columns))
            return dict.fromkeys(self._decoder.windows, hide)
        device = positions.device
        prompt = torch.arange(self._longest, device=device)
        lengths = self._lengths.repeat_interleave(self.beside)[:, None]
        own = lengths + torch.arange(columns, device=device)
        # The position of each column, [S, L + columns]; a padded one's is past every end.
        place = torch.cat([torch.where(prompt < lengths, prompt, 2**31), own], 1)
        out: dict[int | None, torch.Tensor | None] = {}
        for window in set(self._decoder.windows):
            hide = place > positions[:, None]
            if window is not None:
                hide |= positions[:, None] - place >= window
            out[window] = hide.view(self.places, 1, self.beside, 1, -1)
        return out

    def keep(self, seats: torch.Tensor, texts: Sequence[np.ndarray]) -> None:
        """Let the cache take over what these seats have drawn, so that longer texts go on from there.

        Args:
            seats: [n], that have ended.
            texts: the whole text of each up to the last token that was fed.
        """
        counts = self._counts[seats]
        seat = seats.repeat_interleave(counts)
        column = torch.arange(len(seat), device=seat.device)
        column -= (counts.cumsum(0) - counts).repeat_interleave(counts)

        def states(layer: int, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            place, beside = seat[chosen] // self.beside, seat[chosen] % self.beside
            at = place, slice(None), beside, column[chosen]
            return self._keys[layer][at], self._values[layer][at]

        self._cache.insert(texts, counts.cpu().numpy(), states)

    def shrink(self, taken: torch.Tensor) -> torch.Tensor | None:
        """Draw the grid together around the `taken` seats, bool [S], where few are.

        Returns:
            which old seat each new one is, [S']; None where nothing was moved. Free seats may be among them.
        """
        grid = taken.view(self.places, self.beside)
        rows = grid.any(1).nonzero()[:, 0]
        beside = int(grid.sum(1).max())
        if len(rows) * beside > SPARSE * len(taken):
            return None
        # Taken seats first, in their order.
        columns = (~grid[rows]).to(torch.int8).argsort(dim=1, stable=True)[:, :beside]  # [P', G']
        kept = (rows[:, None] * self.beside + columns).flatten()
        for layer in range(self._decoder.layers):
            for buffers in (self._prompt_keys, self._prompt_values):
                buffers[layer] = buffers[layer][rows]
            for buffers in (self._keys, self._values):
                moved = buffers[layer][rows[:, None], :, columns]  # [P', G', heads, own columns, D]
                buffers[layer] = moved.transpose(1, 2).contiguous()
        self._lengths, self._counts = self._lengths[rows], self._counts[kept]
        self.places, self.beside = len(rows), beside
        self._look_at_prompts()
        return kept
