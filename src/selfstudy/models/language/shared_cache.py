"""A key/value cache for rows that share what they continue: siblings in a tree, samples of one prompt.

A prompt's keys and values are kept once. A step reads them once for all of its rows, and each row's own
columns apart; on a processor, where a step waits for memory, that is most of its time. A row that leaves
takes only its own columns along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

from selfstudy.models.language.cache import Layer, Store

SHARED_ATTENTION = "selfstudy_shared"


class SharedCache(Cache):
    """The cache of a batch that is being continued by one token a step, for one query a row.

    Rows are the prompts' in their order, those of one prompt side by side. Seats are a grid of prompts and
    places beside each, so that the products over prompts go over all rows at once. A prompt that many more
    rows share than others is kept several times, which bounds the grid by twice the rows and prompts. Where
    no row shares, each has its prompt among its own columns.

    Args:
        store: where the memory comes from.
        repeats: [P] how many rows continue each prompt.
        lengths: [P] tokens of each prompt, 0 where nothing stands before what is drawn.
        steps: most tokens that a row adds.
    """

    def __init__(self, store: Store, repeats: torch.Tensor, lengths: torch.Tensor, steps: int) -> None:
        super().__init__(layer_class_to_replicate=self._add)  # type: ignore[arg-type]
        self.store, self.rows = store, int(repeats.sum())
        self.beside = -(-self.rows // len(repeats))
        self.shares = self.beside > 1 and bool(lengths.any())
        self._copies = (repeats + self.beside - 1) // self.beside
        self._first = self._copies.cumsum(0) - self._copies
        self.prompts = int(self._copies.sum())
        self.columns = int(lengths.max())
        self.length = 0 if self.shares else self.columns  # of the rows' own columns
        self.capacity = self.length + steps
        number = torch.arange(self.rows, device=repeats.device)
        number -= (repeats.cumsum(0) - repeats).repeat_interleave(repeats)  # among the rows of its prompt
        self.prompt = self._first.repeat_interleave(repeats) + number // self.beside
        self.place_beside = number % self.beside
        self.whole = self.rows == self.prompts * self.beside  # every seat is taken, in the rows' order
        hidden = torch.arange(self.columns, device=lengths.device) >= lengths[:, None]
        hidden = hidden.repeat_interleave(self._copies, 0)
        self.hidden = hidden[:, None] if bool(hidden.any()) else None  # [prompts, 1, columns]

    def _add(self) -> _SharedLayer:
        return _SharedLayer(self, len(self.layers))

    def place(self, first: int, read: Cache) -> None:
        """Take over the prompts from number `first` on that one forward pass has read.

        Args:
            first: number of the first prompt of `read`.
            read: its layers hold keys and values [B, heads, L, D], padded on the right.
        """
        while len(self.layers) < len(read.layers):
            self.layers.append(self._add())
        start = int(self._first[first])
        for layer, source in zip(self.layers, read.layers, strict=True):
            assert isinstance(layer, _SharedLayer) and isinstance(source, CacheLayerMixin)
            assert source.keys is not None
            layer.place(start, source, self._copies[first : first + len(source.keys)])

    def mask(self) -> None:
        """Return no mask: attention goes by the prompts' lengths."""

    def step(self) -> None:
        """Count the column that the last forward pass has written."""
        self.length += 1

    def keep(self, source: torch.Tensor, target: torch.Tensor, rows: int) -> None:
        """Move the rows `source` to the places `target`, then shrink to the first `rows`."""
        for layer in self.layers if len(source) else ():
            assert isinstance(layer, _SharedLayer)
            layer.move(source, target)
        self.rows, self.whole = rows, False
        if not self.shares:
            if self.hidden is not None:
                self.hidden[target] = self.hidden[source]
                self.hidden = self.hidden[:rows]
            return
        for state in (self.prompt, self.place_beside):
            state[target] = state[source]
        self.prompt, self.place_beside = self.prompt[:rows], self.place_beside[:rows]
        left = self.prompt.unique()
        if 2 * len(left) <= self.prompts:
            self._forget_all_but(left)

    def _forget_all_but(self, prompts: torch.Tensor) -> None:
        for layer in self.layers:
            assert isinstance(layer, _SharedLayer)
            layer.keep_prompts(prompts)
        self.prompts = len(prompts)
        self.prompt = torch.searchsorted(prompts, self.prompt)
        self.hidden = None if self.hidden is None else self.hidden[prompts]

    def hide(self, scores: torch.Tensor) -> torch.Tensor:
        """Take the columns past a prompt's end out of `scores`, one row of products a prompt, in place."""
        if self.hidden is not None:
            part = scores.view(len(self.hidden), -1, scores.shape[-1])[..., : self.columns]
            # The lowest finite number rather than -inf, so that no row can become nan.
            part.masked_fill_(self.hidden, torch.finfo(scores.dtype).min)
        return scores

    def seat(self, rows: torch.Tensor) -> torch.Tensor:
        """Lay rows [R, heads, group, X] out by prompt and head: [prompts * heads, beside * group, X]."""
        _, heads, group, width = rows.shape
        if self.whole:
            seats = rows.view(self.prompts, self.beside, heads, group, width).transpose(1, 2)
        else:
            seats = rows.new_zeros(self.prompts, heads, self.beside, group, width)
            seats[self.prompt, :, self.place_beside] = rows
        return seats.reshape(self.prompts * heads, self.beside * group, width)

    def unseat(self, seats: torch.Tensor, heads: int) -> torch.Tensor:
        """Undo `seat`."""
        by_prompt = seats.view(self.prompts, heads, self.beside, -1, seats.shape[2])
        if self.whole:
            return by_prompt.transpose(1, 2).reshape(self.rows, heads, -1, seats.shape[2])
        return by_prompt[self.prompt, :, self.place_beside]


class _SharedLayer(Layer):
    """Keys and values of the prompts, [prompts, heads, D, columns], and of the rows, [R, heads, D, capacity].

    They lie by channel: many short products read that in one sweep.
    """

    def __init__(self, cache: SharedCache, index: int) -> None:
        super().__init__()
        self._cache, self._index = cache, index

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        cache, (_, heads, _, width) = self._cache, key_states.shape

        def take(name: str, rows: int, columns: int) -> torch.Tensor:
            return cache.store.take((self._index, name), (rows, heads, width, columns), key_states)

        self._own = [take(name, cache.rows, cache.capacity) for name in ("k", "v")]
        self._prompts = self._own
        if cache.shares:
            self._prompts = [take(f"prompt {name}", cache.prompts, cache.columns) for name in ("k", "v")]
        self.is_initialized = True

    def place(self, start: int, read: CacheLayerMixin, copies: torch.Tensor) -> None:
        """Write what was read of some prompts, `copies` of each, to the places from `start` on."""
        assert read.keys is not None and read.values is not None
        if not self.is_initialized:
            self.lazy_initialization(read.keys, read.values)
        several = int(copies.max()) > 1
        for buffer, states in zip(self._prompts, (read.keys, read.values), strict=True):
            states = states.repeat_interleave(copies, 0) if several else states
            part = buffer[start : start + len(states)]
            part[..., : states.shape[2]] = states.transpose(2, 3)
            # A hidden column still enters products, and 0 * nan is nan: padding must be finite.
            part[..., states.shape[2] : self._cache.columns] = 0

    def update(  # type: ignore[override]
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[_SharedLayer, _SharedLayer]:
        """Write the next column; return the layer itself, which `shared_attention` gets as key and value."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, length = self._cache.rows, self._cache.length
        for buffer, states in zip(self._own, (key_states, value_states), strict=True):
            buffer[:rows, ..., length] = states[:, :, 0]
        return self, self

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Overwrite the rows `target` by the rows `source`."""
        length = self._cache.length
        for buffer in self._own:
            buffer[target, ..., :length] = buffer[source, ..., :length]

    def keep_prompts(self, prompts: torch.Tensor) -> None:
        """Shrink to these prompts, in rising order."""
        for i, buffer in enumerate(self._prompts):
            buffer[: len(prompts)] = buffer[prompts]
            self._prompts[i] = buffer[: len(prompts)]

    def attend(self, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """Return what each query [R, heads, 1, D] takes from its prompt and its row: [R, 1, heads, D]."""
        cache = self._cache
        rows, heads, width = cache.rows, self._own[0].shape[1], query.shape[3]
        keys, values = (buffer[:rows, ..., : cache.length + 1].flatten(0, 1) for buffer in self._own)
        grouped = query.reshape(rows, heads, -1, width) * scaling  # [R, key heads, group, D]
        scores = torch.bmm(grouped.flatten(0, 1), keys).view(rows, heads, -1, cache.length + 1)
        if not cache.shares:
            weights = cache.hide(scores).softmax(-1).flatten(0, 1)
            out = torch.bmm(values, weights.transpose(1, 2)).transpose(1, 2)
            return out.reshape(rows, 1, -1, width)
        prompt_keys, prompt_values = (buffer.flatten(0, 1) for buffer in self._prompts)
        before = cache.hide(torch.bmm(cache.seat(grouped), prompt_keys))
        weights = torch.cat([cache.unseat(before, heads), scores], -1).softmax(-1)
        own = weights[..., cache.columns :].flatten(0, 1)
        out = torch.bmm(values, own.transpose(1, 2)).transpose(1, 2).view(rows, heads, -1, width)
        seated = cache.seat(weights[..., : cache.columns])
        taken = torch.bmm(prompt_values, seated.transpose(1, 2)).transpose(1, 2)
        return (out + cache.unseat(taken, heads)).reshape(rows, 1, -1, width)

    def get_seq_length(self) -> int:
        return self._cache.columns * self._cache.shares + self._cache.length


def shared_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: _SharedLayer,
    value: _SharedLayer,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend with one query a row to a layer of a `SharedCache`, as transformers' interface asks for it.

    Args:
        module: not used.
        query: [B, heads, 1, D].
        key: the cache's layer.
        value: the same.
        attention_mask: not used: the cache knows how long its prompts are.
        scaling: of the scores; None is 1 / sqrt(D).
    """
    return key.attend(query, query.shape[3] ** -0.5 if scaling is None else scaling), None


AttentionInterface.register(SHARED_ATTENTION, shared_attention)


@contextlib.contextmanager
def attend_shared(module: PreTrainedModel) -> Iterator[None]:
    """Let `module` use `shared_attention` inside the block."""
    config = module.config
    before = config._attn_implementation
    config._attn_implementation = SHARED_ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
