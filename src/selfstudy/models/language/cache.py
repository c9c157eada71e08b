"""A key/value cache of transformers' interface that is allocated once, for modules unknown to `Decoder`.

transformers' own dynamic cache concatenates keys and values anew for every token, which reads and writes the
whole cache. Here a step writes one column in place, so it costs what its new tokens cost.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class _Layer(CacheLayerMixin):
    """What all layers share. All columns are kept, so masks alone make a layer a sliding one."""

    is_compileable = False
    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many columns a mask has, and where they begin."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: no limit of its own."""
        return -1


class _ReadLayer(_Layer):
    """Keeps the keys and values of one forward pass over whole prompts: [B, heads, L, D]."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = key_states, value_states
        return key_states, value_states

    def get_seq_length(self) -> int:
        return 0


class _GrowLayer(_Layer):
    """Buffers [rows, heads, columns, D]; the first `cache.length` columns count."""

    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        self._cache = cache

    def place(self, rows: torch.Tensor, columns: torch.Tensor, read: CacheLayerMixin) -> None:
        """Write what was read of one prompt a row into `rows`, taking `columns` [n, L], up to `length`."""
        assert read.keys is not None and read.values is not None
        if not self.is_initialized:
            self._allocate(read.keys, read.values)
        assert self.keys is not None and self.values is not None
        start = self._cache.length - columns.shape[1]
        which = torch.arange(len(rows), device=rows.device)[:, None]
        for target, source in ((self.keys, read.keys), (self.values, read.values)):
            target[rows, :, start : self._cache.length] = source[which, :, columns].transpose(1, 2)

    def _allocate(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, columns = self._cache.capacity
        # A masked column still enters products, and 0 * nan is nan: padding must be finite.
        self.keys, self.values = (
            like.new_zeros(rows, like.shape[1], columns, like.shape[3]) for like in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self._allocate(key_states, value_states)
        assert self.keys is not None and self.values is not None
        length = self._cache.length
        self.keys[:, :, length] = key_states[:, :, 0]
        self.values[:, :, length] = value_states[:, :, 0]
        return self.keys[:, :, : length + 1], self.values[:, :, : length + 1]

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows."""
        assert self.keys is not None and self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_seq_length(self) -> int:
        return self._cache.length


class RowCache(Cache):
    """The cache of a batch that is being continued by one token a step.

    Args:
        lengths: [B] tokens of each row's prompt; all end at the same column.
        steps: most tokens that a row adds.
    """

    def __init__(self, lengths: torch.Tensor, steps: int) -> None:
        self._rows_of: list[_GrowLayer] = []
        super().__init__(layer_class_to_replicate=self._add)  # type: ignore[arg-type]
        self._lengths, self.length = lengths, int(lengths.max())
        self.capacity = (len(lengths), self.length + steps)
        columns = torch.arange(self.capacity[1], device=lengths.device)
        self._seen = (columns >= self.length - lengths[:, None]).long()

    def _add(self) -> _GrowLayer:
        self._rows_of.append(_GrowLayer(self))
        return self._rows_of[-1]

    def mask(self) -> torch.Tensor:
        """Return which columns are real for the next step: int64 [B, length + 1]."""
        return self._seen[:, : self.length + 1]

    def place(self, rows: torch.Tensor, prompts: torch.Tensor, read: Cache) -> None:
        """Take over the prompts that one forward pass has read, padded on the right.

        Args:
            rows: [n] which rows continue them.
            prompts: [n] the prompt of each, by its place in the pass.
            read: its layers hold keys and values [P, heads, L, D].
        """
        lengths = self._lengths[rows]
        width = int(lengths.max())
        # Right padding becomes left padding, filled with the prompt's first token.
        columns = torch.arange(width, device=lengths.device) - (width - lengths)[:, None]
        while len(self.layers) < len(read.layers):
            self.layers.append(self._add())
        for layer, source in zip(self._rows_of, read.layers, strict=True):
            assert isinstance(source, CacheLayerMixin)
            assert source.keys is not None and source.values is not None
            chosen = _ReadLayer()
            chosen.keys, chosen.values = source.keys[prompts], source.values[prompts]
            layer.place(rows, columns.clamp(min=0), chosen)

    def step(self) -> None:
        """Count the column that the last forward pass has written."""
        self.length += 1

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, [n]."""
        self._seen, self._lengths = self._seen[rows], self._lengths[rows]
        for layer in self._rows_of:
            layer.select(rows)


def reading_cache() -> Cache:
    """Return a cache that keeps the keys and values of one forward pass over prompts."""
    return Cache(layer_class_to_replicate=_ReadLayer)
