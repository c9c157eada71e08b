"""Keys and values of what was read before, so that a longer text costs only what is new in it.

A state of a search is its parent's text and one step more, siblings share all but that step, and samples
share their prompt. A radix tree over token ids says where the keys and values of each known prefix lie; the
least recently used ones make room, and all go when the weights change. Sampling and value scoring both read
through it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.core.errors import UsageError
from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.memory import memory_of
from selfstudy.models.language.prefix_tree import PrefixTree

READ_TOKENS = 2048  # new tokens of one forward pass: larger only takes memory
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

    Attributes:
        capacity: tokens that fit.
        dropped: how often everything was forgotten because the weights had changed.
        states: hidden states by slot, [capacity, H].
        logprobs: of the tokens by slot, [capacity]; 0 for a text's first.
    """

    def __init__(
        self, decoder: Decoder, most: int, *, states: bool = False, score: Score | None = None
    ) -> None:
        self.decoder = decoder
        self.dropped = 0
        shape = (2, decoder.key_heads, decoder.width)
        numbers = decoder.layers * math.prod(shape) + states * decoder.hidden_size
        self.capacity = max(1, most // (numbers * (torch.finfo(decoder.dtype).bits // 8)))

        like = torch.empty(0, dtype=decoder.dtype, device=decoder.device)

        def memory(*shape: int) -> torch.Tensor:
            return memory_of(decoder.module).lend(self, (self.capacity, *shape), like)

        self._kept = [memory(*shape) for _ in range(decoder.layers)]
        self.states = memory(decoder.hidden_size) if states else None
        self.logprobs = torch.zeros(self.capacity, device=decoder.device)
        self._score = score
        self._tree = PrefixTree(self.capacity)

    def follow_weights(self) -> None:
        """Forget everything if the weights have changed since the last reading."""
        if self.decoder.refresh():
            self.forget()
            self.dropped += 1

    def forget(self) -> None:
        """Start anew."""
        self._tree.clear()

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
        with self._tree.hold(texts) as known:
            starts = np.array([len(slots) for slots in known])
            column = np.arange(int(lengths.max()))
            new = (column >= starts[:, None]) & (column < lengths[:, None])  # [B, W]
            slots = np.zeros(new.shape, dtype=np.int64)
            slots[column < starts[:, None]] = np.concatenate(known)
            if new.any():
                charge(int(new.sum()))
                taken = self._tree.take(int(new.sum()))
                assert taken is not None, "texts fit into the cache together"
                slots[new] = taken
                try:
                    self._forward(texts, new, slots, starts)
                except BaseException:
                    self.forget()  # else what was taken would never come back
                    raise
                for text, row in zip(texts, slots, strict=True):
                    self._tree.insert(text, row[: len(text)])
        return Reading(slots, lengths)

    def known(self, text: np.ndarray) -> np.ndarray:
        """Return numbers for the longest known beginning of a text, int64 [m]; see `ids`."""
        return self._tree.ids(self._tree.longest(text))

    def ids(self, slots: np.ndarray) -> np.ndarray:
        """Return a number for what lies at each slot that nothing else ever has."""
        return self._tree.ids(slots)

    def keys_values(self, layer: int, slots: torch.Tensor) -> torch.Tensor:
        """Return what lies at `slots` [...], [..., 2, key heads, D]: keys, then values."""
        return self._kept[layer][slots]

    def insert(
        self,
        texts: Sequence[np.ndarray],
        drawn: np.ndarray,
        states: Callable[[int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    ) -> None:
        """Take over the keys and values of tokens that were drawn after known texts.

        Args:
            texts: whole texts; those that no longer follow what is known are left out, and all where what
                they follow fills the cache.
            drawn: [B] how many of the last tokens of each text were drawn.
            states: gives for a layer and places among all drawn tokens, text after text, keys and values
                [M, key heads, D].
        """
        before = np.array([len(text) for text in texts]) - drawn
        with self._tree.hold(texts) as known:
            follows = np.array([len(slots) for slots in known]) == before
            fresh = self._tree.take(int(drawn[follows].sum()))
            if fresh is None:
                return
            at = torch.from_numpy(fresh).to(self.decoder.device)
            chosen = torch.from_numpy(np.flatnonzero(np.repeat(follows, drawn))).to(at.device)
            for layer, kept in enumerate(self._kept):
                kept[at, 0], kept[at, 1] = states(layer, chosen)
            first = 0
            for i in np.flatnonzero(follows).tolist():
                self._tree.insert(texts[i], np.concatenate([known[i], fresh[first : first + drawn[i]]]))
                first += drawn[i]

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
            if len(stem) and stem.tobytes() not in stems and len(self._tree.longest(stem)) < len(stem):
                stems[stem.tobytes()] = stem
        return list(stems.values())

    def _forward(
        self, texts: Sequence[np.ndarray], new: np.ndarray, slots: np.ndarray, starts: np.ndarray
    ) -> None:
        """Read the `new` tokens of texts, bool [B, W], whose places are `slots` [B, W]."""
        device, decoder = self.decoder.device, self.decoder
        row, place = np.nonzero(new)
        tokens = np.concatenate([text[start:] for text, start in zip(texts, starts, strict=True)])
        queries = int(new.sum(1).max())
        positions = torch.from_numpy(starts[:, None] + np.arange(queries)).to(device)  # [B, Q]
        behind = positions[..., None] - torch.arange(slots.shape[1], device=device)  # [B, Q, W]
        masks = {
            window: (behind >= 0 if window is None else (behind >= 0) & (behind < window))[:, None]
            for window in set(decoder.windows)
        }
        places, fresh = torch.from_numpy(slots).to(device), torch.from_numpy(slots[new]).to(device)
        at = torch.from_numpy(row).to(device), torch.from_numpy(place - starts[row]).to(device)

        def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            kept = self._kept[layer]
            kept[fresh, 0] = key
            kept[fresh, 1] = value
            whole = kept[places].permute(2, 0, 3, 1, 4)  # [2, B, key heads, W, D]
            padded = query.new_zeros((len(texts), queries, *query.shape[1:]))
            padded[at] = query
            taken = F.scaled_dot_product_attention(
                padded.transpose(1, 2),
                whole[0],
                whole[1],
                attn_mask=masks[decoder.windows[layer]],
                scale=decoder.scaling,
                enable_gqa=decoder.heads != decoder.key_heads,
            )
            return taken.transpose(1, 2)[at].flatten(1)

        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        hidden = decoder.hidden(ids, torch.from_numpy(place).to(device), attend)
        if self.states is not None:
            self.states[fresh] = hidden
            if self._score is not None:
                before = self.states[places[at[0], torch.from_numpy(np.maximum(place - 1, 0)).to(device)]]
                scores = self._score(before, ids)
                self.logprobs[fresh] = scores.masked_fill(torch.from_numpy(place == 0).to(device), 0.0)
