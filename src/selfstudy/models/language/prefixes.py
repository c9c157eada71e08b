"""Keys and values of what was read before, so that a longer text costs only what is new in it.

A state of a search is its parent's text and one step more, siblings share all but that step, and samples
share their prompt. A radix tree over token ids says where the keys and values of each known prefix lie; the
least recently used ones make room, and all go when the weights change. Sampling and value scoring both read
through it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.core.errors import UsageError
from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.memory import memory_of
from selfstudy.models.language.prefix_tree import PrefixTree, Way

READ_TOKENS = 4096  # tokens of the texts of one forward pass: larger only takes memory
STEM = 32  # tokens; shorter beginnings that new texts share are read with each of them


Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(hidden state before each token [N, H], tokens [N]) to the log-probability of each [N]."""


class Reading(NamedTuple):
    """What `PrefixCache.read` gives for texts of up to W tokens."""

    slots: np.ndarray
    """Where what was read of each token lies, int64 [B, W]; slot 0, without meaning, past a text's end."""
    lengths: np.ndarray
    """Tokens of each text, [B]."""


class PrefixCache:
    """What a decoder has read.

    Args:
        decoder: reads.
        most: bytes of keys and values; the least recently used make room.
        states: also keep the hidden state at each token.
        score: also keep how likely each token was; needs the states.
        aside: leave as much room again for rows on their way; see `SlotFlight`.

    Attributes:
        capacity: tokens that fit.
        tree: which texts are known, and at which slots.
        kept: keys and values of each layer by slot, [2, slots + 1, key heads, D].
        nowhere: the last slot, which is never read; for what must be written somewhere.
        dropped: how often everything was forgotten because the weights had changed.
        states: hidden states by slot, [slots + 1, H].
        logprobs: of the tokens by slot, [slots], 0 for a text's first; [0] where they are not kept.
    """

    def __init__(
        self,
        decoder: Decoder,
        most: int,
        *,
        states: bool = False,
        score: Score | None = None,
        aside: bool = False,
    ) -> None:
        self.decoder = decoder
        self.dropped = 0
        numbers = 2 * decoder.layers * decoder.key_heads * decoder.width + states * decoder.hidden_size
        self.capacity = max(1, most // (numbers * (torch.finfo(decoder.dtype).bits // 8)))

        slots = 2 * self.capacity if aside else self.capacity
        self.nowhere = slots
        like = torch.empty(0, dtype=decoder.dtype, device=decoder.device)

        def memory(*shape: int) -> torch.Tensor:
            return memory_of(decoder.module).lend(self, shape, like)

        of_layer = (2, slots + 1, decoder.key_heads, decoder.width)
        self.kept = [memory(*of_layer) for _ in range(decoder.layers)]
        self.states = memory(slots + 1, decoder.hidden_size) if states else None
        self.logprobs = torch.zeros(slots if score else 0, device=decoder.device)
        self._score = score
        self.tree = PrefixTree(slots)

    def follow_weights(self) -> None:
        """Forget everything if the weights have changed since the last reading."""
        if self.decoder.refresh():
            self.forget()
            self.dropped += 1

    def forget(self) -> None:
        """Start anew."""
        self.tree.clear()

    def parts(self, texts: Sequence[np.ndarray]) -> Iterator[slice]:
        """Cut texts into parts that `read` can take at once.

        Raises:
            UsageError: a text that is longer than the cache.
        """
        first, tokens = 0, 0
        for i, text in enumerate(texts):
            if len(text) > self.capacity:
                raise UsageError(
                    f"A text of {len(text)} tokens does not fit into the cache, which holds {self.capacity}. "
                    "Give the model more of it: cache_mib in its specification, as in NAME?cache_mib=2048."
                )
            if i > first and tokens + len(text) > min(READ_TOKENS, self.capacity):
                yield slice(first, i)
                first, tokens = i, 0
            tokens += len(text)
        if len(texts) > first:
            yield slice(first, len(texts))

    def read(self, texts: Sequence[np.ndarray], charge: Callable[[int], None]) -> Reading:
        """Read distinct texts, int32 [n >= 1] each, from where the cache leaves off.

        The texts must fit into the cache together; see `parts`. Their slots hold until the next reading.

        Args:
            texts: in any order.
            charge: called with the number of tokens before they are read.
        """
        stems = self._stems(texts)
        if stems:
            self.read(stems, charge)
        lengths = np.array([len(text) for text in texts])
        with self.tree.hold(texts) as known:
            starts = np.array([len(slots) for slots in known])
            column = np.arange(int(lengths.max()))
            new = (column >= starts[:, None]) & (column < lengths[:, None])  # [B, W]
            slots = np.zeros(new.shape, dtype=np.int64)
            slots[column < starts[:, None]] = np.concatenate(known)
            if new.any():
                charge(int(new.sum()))
                taken = self.tree.take(int(new.sum()))
                assert taken is not None, "texts fit into the cache together"
                slots[new] = taken
                try:
                    self._forward(texts, new, slots, starts)
                except BaseException:
                    self.tree.give_back(taken)
                    raise
                for i in np.flatnonzero(new.any(1)).tolist():
                    self.tree.insert(texts[i], slots[i, : lengths[i]])
        return Reading(slots, lengths)

    def known(self, text: np.ndarray) -> np.ndarray:
        """Return numbers for the longest known beginning of a text, int64 [m]; see `ids`."""
        return self.tree.ids(self.tree.longest(text))

    def end(self, text: np.ndarray) -> Way | None:
        """See `PrefixTree.end`."""
        return self.tree.end(text)

    def onward(self, way: Way, token: int) -> Way | None:
        """See `PrefixTree.onward`."""
        return self.tree.onward(way, token)

    def ids(self, slots: np.ndarray) -> np.ndarray:
        """Return a number for what lies at each slot that nothing else ever has."""
        return self.tree.ids(slots)

    def keys_values(self, layer: int, slots: torch.Tensor) -> torch.Tensor:
        """Return what lies at `slots` [M]: keys and values, [2, M, key heads, D]."""
        return self.kept[layer].index_select(1, slots)

    def insert(
        self,
        texts: Sequence[np.ndarray],
        drawn: np.ndarray,
        keys_values: Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        hidden: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        """Take over the keys and values of tokens that were drawn after known texts.

        Args:
            texts: whole texts; those that no longer follow what is known are left out, and all where what
                they follow fills the cache.
            drawn: [B] how many of the last tokens of each text were drawn.
            keys_values: gives for a layer and places among all drawn tokens, text after text, keys and
                values [M, key heads, D].
            hidden: gives for such places the hidden states [M, H]; asked only where the cache keeps them.
        """
        lengths = np.array([len(text) for text in texts])
        with self.tree.hold(texts) as known:
            have = np.array([len(slots) for slots in known])
            # Some of what was drawn may be known from another text.
            new = np.where(have >= lengths - drawn, lengths - have, 0)
            fresh = self.tree.take(int(new.sum()))
            if fresh is None or not len(fresh):
                return
            at = torch.from_numpy(fresh).to(self.decoder.device)
            left = np.repeat(drawn.cumsum(), drawn) - np.arange(drawn.sum())  # to the end of the text
            chosen = torch.from_numpy(np.flatnonzero(left <= np.repeat(new, drawn))).to(at.device)
            for layer, kept in enumerate(self.kept):
                kept[0, at], kept[1, at] = keys_values(layer, chosen)
            if self.states is not None:
                self.states[at] = hidden(chosen)
            first = 0
            for i in np.flatnonzero(new).tolist():
                self.tree.insert(texts[i], np.concatenate([known[i], fresh[first : first + new[i]]]))
                first += new[i]

    def _stems(self, texts: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return beginnings, unknown so far, that several of the texts share."""
        order = sorted(range(len(texts)), key=lambda i: texts[i].tobytes())
        stems: dict[bytes, np.ndarray] = {}
        for i, j in itertools.pairwise(order):
            one, other = texts[i], texts[j]
            least = min(len(one), len(other)) - 1
            differ = np.flatnonzero(one[:least] != other[:least])
            shared = int(differ[0]) if len(differ) else least
            stem = one[: shared // STEM * STEM]
            if len(stem) and stem.tobytes() not in stems and len(self.tree.longest(stem)) < len(stem):
                stems[stem.tobytes()] = stem
        return list(stems.values())

    def _forward(
        self, texts: Sequence[np.ndarray], new: np.ndarray, slots: np.ndarray, starts: np.ndarray
    ) -> None:
        """Read the `new` tokens of texts, bool [B, W], whose places are `slots` [B, W]."""
        decoder = self.decoder

        def given(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).to(decoder.device)

        row, place = np.nonzero(new)
        tokens = np.concatenate([text[start:] for text, start in zip(texts, starts, strict=True)])
        queries = int(new.sum(1).max())
        padded = (len(texts), queries, decoder.heads, decoder.width)
        # Of each token, its place in a grid of texts; None where the grid is full.
        at = None if len(row) == len(texts) * queries else given(row * queries + place - starts[row])
        positions = given(starts[:, None] + np.arange(queries))  # [B, Q]
        masks = self._masks(positions, slots.shape[1])
        places, fresh = given(slots), given(slots[new])

        def attend(layer: int, mixed: torch.Tensor) -> torch.Tensor:
            query, both = mixed[:, : decoder.heads], mixed[:, decoder.heads :]
            self.kept[layer].index_copy_(1, fresh, both.unflatten(1, (2, -1)).transpose(0, 1))
            whole = self.keys_values(layer, places.flatten()).unflatten(1, places.shape)
            keys, values = whole.transpose(2, 3)  # [B, key heads, W, D]
            if at is not None:
                grid = query.new_zeros(len(texts) * queries, *query.shape[1:])
                query = grid.index_copy_(0, at, query)
            taken = F.scaled_dot_product_attention(
                query.view(padded).transpose(1, 2),
                keys,
                values,
                attn_mask=masks[decoder.windows[layer]],
                scale=decoder.scaling,
                enable_gqa=decoder.heads != decoder.key_heads,
            )
            taken = taken.transpose(1, 2).reshape(len(texts) * queries, -1)
            return taken if at is None else taken.index_select(0, at)

        ids = given(tokens.astype(np.int64))
        hidden = decoder.hidden(ids, given(place), attend)
        if self.states is not None:
            self.states[fresh] = hidden
            if self._score is not None:
                before = self.states[given(slots[row, np.maximum(place - 1, 0)])]
                self.logprobs[fresh] = self._score(before, ids).masked_fill(given(place == 0), 0.0)

    def _masks(self, positions: torch.Tensor, width: int) -> dict[int | None, torch.Tensor]:
        """Return by window what is added to the scores of queries at positions [B, Q]: [B, 1, Q, width]."""
        behind = positions[..., None] - torch.arange(width, device=positions.device)
        out = {}
        for window in set(self.decoder.windows):
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            shown = torch.zeros(hidden.shape, dtype=self.decoder.dtype, device=positions.device)
            # The lowest finite number rather than -inf, so that no query can become nan.
            out[window] = shown.masked_fill_(hidden, torch.finfo(shown.dtype).min)[:, None]
        return out
