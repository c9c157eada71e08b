"""A key/value cache that is allocated once: no copying as it grows, and rows that leave at once.

transformers' own dynamic cache concatenates keys and values anew for every token, which reads and writes the
whole cache. Here a step writes one column in place, and a finished row is overwritten by the last active
one, so a step costs what its new tokens cost.
"""

from __future__ import annotations

import math

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class Layer(CacheLayerMixin):
    """What all layers share. All columns are kept, so masks alone make a layer a sliding one."""

    is_compileable = False
    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many columns a mask has, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: no limit of its own."""
        return -1


class _ReadLayer(Layer):
    """Keeps the keys and values of one forward pass over whole prompts: [B, heads, L, D]."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0


class _GrowLayer(Layer):
    """Buffers [rows, heads, columns, D]; the first `cache.rows` rows and `cache.length` columns count."""

    def __init__(self, cache: RowCache, place: int) -> None:
        super().__init__()
        self._cache, self._place = cache, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, columns = self._cache.capacity
        self.keys, self.values = (
            self._cache.store.take((self._place, name), (rows, like.shape[1], columns, like.shape[3]), like)
            for name, like in (("k", key_states), ("v", value_states))
        )
        self.is_initialized = True

    def place(self, rows: slice, prompts: torch.Tensor, columns: torch.Tensor, read: CacheLayerMixin) -> None:
        """Write the `prompts` of `read` into `rows`, taking `columns` [n, L] of each, up to `length`."""
        assert read.keys is not None and read.values is not None
        if not self.is_initialized:
            self.lazy_initialization(read.keys, read.values)
        assert self.keys is not None and self.values is not None
        end = self._cache.length
        start = end - columns.shape[1]
        for target, source in ((self.keys, read.keys), (self.values, read.values)):
            # A masked column still enters products, and 0 * nan is nan: padding must be finite.
            target[rows, :, :start] = 0
            target[rows, :, start:end] = source[prompts[:, None], :, columns].transpose(1, 2)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        rows, length = self._cache.rows, self._cache.length
        self.keys[:rows, :, length] = key_states[:, :, 0]
        self.values[:rows, :, length] = value_states[:, :, 0]
        return self.keys[:rows, :, : length + 1], self.values[:rows, :, : length + 1]

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Overwrite the rows `target` by the rows `source`."""
        assert self.keys is not None and self.values is not None
        length = self._cache.length
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def get_seq_length(self) -> int:
        return self._cache.length


class Store:
    """Memory that caches of one sampler use one after the other.

    Fresh memory of this size costs a page fault for every 4 KB, a tenth of the time of short calls.
    """

    def __init__(self) -> None:
        self._flat: dict[tuple[int, str], torch.Tensor] = {}

    def take(self, name: tuple[int, str], shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Return memory of this shape, contents undefined; what was taken by this name before is given up."""
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.numel() < size or flat.dtype != like.dtype or flat.device != like.device:
            flat = self._flat[name] = like.new_empty(size)
        return flat[:size].view(shape)


class RowCache(Cache):
    """The cache of a batch that is being continued by one token a step, for models with masks of their own.

    Args:
        store: where the memory comes from.
        repeats: [P] how many rows continue each prompt; they stand side by side, in the prompts' order.
        lengths: [P] tokens of each prompt; all end at the same column.
        steps: most tokens that a row adds.
    """

    def __init__(self, store: Store, repeats: torch.Tensor, lengths: torch.Tensor, steps: int) -> None:
        self._rows_of: list[_GrowLayer] = []
        super().__init__(layer_class_to_replicate=self._add)  # type: ignore[arg-type]
        self.store, self._repeats, self._lengths = store, repeats, lengths
        self.rows, self.length = int(repeats.sum()), int(lengths.max())
        self.capacity = (self.rows, self.length + steps)
        padding = (self.length - lengths).repeat_interleave(repeats)
        self.seen = (torch.arange(self.capacity[1], device=lengths.device) >= padding[:, None]).long()

    def _add(self) -> _GrowLayer:
        self._rows_of.append(_GrowLayer(self, len(self._rows_of)))
        return self._rows_of[-1]

    def mask(self) -> torch.Tensor:
        """Return which columns are real for the next step: int64 [rows, length + 1]."""
        return self.seen[: self.rows, : self.length + 1]

    def place(self, first: int, read: Cache) -> None:
        """Take over the prompts from number `first` on that one forward pass has read.

        Args:
            first: number of the first prompt of `read`.
            read: its layers hold keys and values [B, heads, L, D], padded on the right.
        """
        source = read.layers[0]
        assert isinstance(source, CacheLayerMixin) and source.keys is not None
        part = slice(first, first + len(source.keys))
        repeats, lengths = self._repeats[part], self._lengths[part]
        width = int(lengths.max())
        # Right padding becomes left padding, filled with the prompt's first token.
        columns = torch.arange(width, device=lengths.device) - (width - lengths)[:, None]
        prompts = torch.repeat_interleave(repeats)
        start = int(self._repeats[:first].sum())
        rows = slice(start, start + len(prompts))
        while len(self.layers) < len(read.layers):
            self.layers.append(self._add())
        for layer, source in zip(self._rows_of, read.layers, strict=True):
            assert isinstance(source, CacheLayerMixin)
            layer.place(rows, prompts, columns.clamp(min=0)[prompts], source)

    def step(self) -> None:
        """Count the column that the last forward pass has written."""
        self.length += 1

    def keep(self, source: torch.Tensor, target: torch.Tensor, rows: int) -> None:
        """Move the rows `source` to the places `target`, then shrink to the first `rows`."""
        if len(source):
            self.seen[target] = self.seen[source]
            for layer in self._rows_of:
                layer.move(source, target)
        self.rows = rows


def reading_cache() -> Cache:
    """Return a cache that keeps the keys and values of one forward pass over prompts."""
    return Cache(layer_class_to_replicate=_ReadLayer)
