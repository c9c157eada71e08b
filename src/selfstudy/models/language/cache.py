"""A key/value cache that is allocated once: no copying as it grows, and rows that leave at once.

transformers' own dynamic cache concatenates keys and values anew for every token, which reads and writes the
whole cache. Here a step writes one column in place, and a finished row is overwritten by the last active
one, so a step costs what its new tokens cost.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, CacheLayerMixin

ROW_ATTENTION = "selfstudy_row"


class _Layer(CacheLayerMixin):
    """What both layers share. All columns are kept, so masks alone make a layer a sliding one."""

    is_compileable = False
    is_sliding = False
    is_croppable = False
    supports_early_init = False

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class _ReadLayer(_Layer):
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


class _GrowLayer(_Layer):
    """Buffers [rows, heads, columns, D]; the first `cache.rows` rows and `cache.length` columns count."""

    def __init__(self, cache: RowCache, place: int) -> None:
        super().__init__()
        self._cache, self._place = cache, place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        rows, columns = self._cache.capacity
        buffers = []
        for name, like in (("k", key_states), ("v", value_states)):
            last = (like.shape[3], columns) if self._cache.by_channel else (columns, like.shape[3])
            buffer = self._cache.store.take((self._place, name), (rows, like.shape[1], *last), like)
            buffers.append(buffer.transpose(2, 3) if self._cache.by_channel else buffer)
        self.keys, self.values = buffers
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
            for head in range(target.shape[1]):
                target[rows, head, start:end] = source[prompts[:, None], head, columns]

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
    """The cache of a batch that is being continued by one token a step.

    Args:
        store: where the memory comes from.
        rows: sequences.
        columns: tokens of the longest sequence when it is finished.
        length: columns taken by the prompts, which end at the same column.
        by_channel: lay the columns of a channel side by side, as `row_attention` reads them.
    """

    def __init__(
        self, store: Store, rows: int, columns: int, length: int, *, by_channel: bool = False
    ) -> None:
        self.by_channel = by_channel
        self._rows_of: list[_GrowLayer] = []
        super().__init__(layer_class_to_replicate=self._add)  # type: ignore[arg-type]
        self.store, self.rows, self.length, self.capacity = store, rows, length, (rows, columns)

    def _add(self) -> _GrowLayer:
        self._rows_of.append(_GrowLayer(self, len(self._rows_of)))
        return self._rows_of[-1]

    def place(self, start: int, read: Cache, repeats: torch.Tensor, lengths: torch.Tensor) -> None:
        """Take over prompts that one forward pass has read.

        Args:
            start: first row to write.
            read: from `reading_cache`; prompts are padded on the right there.
            repeats: [B] how many rows get each prompt.
            lengths: [B] real tokens of each prompt.
        """
        width = int(lengths.max())
        # Right padding becomes left padding, filled with the prompt's first token.
        columns = torch.arange(width, device=lengths.device) - (width - lengths)[:, None]
        prompts = torch.repeat_interleave(repeats)
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
            for layer in self._rows_of:
                layer.move(source, target)
        self.rows = rows


def reading_cache() -> Cache:
    """Return a cache that keeps the keys and values of one forward pass over prompts."""
    return Cache(layer_class_to_replicate=_ReadLayer)


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend with one query a row, for processors: two products that read a cache by channel in one sweep.

    The same numbers as torch's kernel up to rounding, at about half of its time, since that works through
    one head of one row after the other.

    Args:
        module: not used; part of transformers' interface.
        query: [B, heads, 1, D].
        key: [B, key heads, L, D], laid out by channel.
        value: as `key`.
        attention_mask: [B, 1, 1, L], added to the scores; None adds nothing.
        scaling: of the scores; None is 1 / sqrt(D).
    """
    count, heads, length, width = key.shape
    grouped = query.reshape(count * heads, -1, width) * (width**-0.5 if scaling is None else scaling)
    scores = torch.bmm(grouped, key.transpose(2, 3).flatten(0, 1))  # [B * key heads, group, L]
    if attention_mask is not None:
        scores.view(count, -1, length).add_(attention_mask[:, 0])
    out = torch.bmm(value.transpose(2, 3).flatten(0, 1), scores.softmax(-1).transpose(1, 2))
    return out.transpose(1, 2).reshape(count, 1, -1, width), None


AttentionInterface.register(ROW_ATTENTION, row_attention)


@contextlib.contextmanager
def attend_by_row(module: PreTrainedModel) -> Iterator[None]:
    """Let `module` use `row_attention` inside the block."""
    config = module.config
    before = config._attn_implementation
    config._attn_implementation = ROW_ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
