"""Keys and values of prefixes that were read before, so that a search reads only what is new.

A state of a search is its parent's text and one step more, and siblings share all but that step. The store
keeps the keys and values of every prefix it has read, one slot a token, and a longer one starts from
the longest of its beginnings there. It belongs to one module with fixed weights and is dropped with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from selfstudy.models.language.cache import Layer

STORE_BYTES = 2**30
_READY_MASKS = {"llama", "qwen2", "qwen3"}  # their code passes a 4D mask on as it is
_MASKS_BY_KIND = {"gemma3_text"}  # theirs takes one for each kind of layer


def can_continue(module: PreTrainedModel) -> bool:
    """Tell whether a `PrefixStore` can serve the module: its code must take masks of ours."""
    return takes_ready_masks(module) or module.config.model_type in _MASKS_BY_KIND


def takes_ready_masks(module: PreTrainedModel) -> bool:
    """Tell whether the module's code passes a mask of ours on as it is."""
    config = module.config
    kinds = getattr(config, "layer_types", None) or ()
    return config.model_type in _READY_MASKS and all(kind == "full_attention" for kind in kinds)


class Reading(NamedTuple):
    """What `PrefixStore.read` gives for rows of L tokens, Q of them new at most."""

    cache: Cache
    """Keys and values of the whole rows, padded on the right."""
    last: torch.Tensor
    """Hidden state at the last token of each row, [B, H]."""
    hidden: torch.Tensor
    """Hidden states at the new tokens of each row, [B, Q, H]; without meaning past its end."""
    begins: np.ndarray
    """Place of the first new token of each row, [B]."""


class PrefixStore:
    """What a decoder without its vocabulary layer has read.

    Args:
        module: the decoder (`base_model`), one that `can_continue`.
        most: bytes of keys and values; when they are full everything is forgotten.
    """

    def __init__(self, module: PreTrainedModel, most: int = STORE_BYTES) -> None:
        self.module = module
        config = module.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._shape = (heads, width)
        size = torch.finfo(module.dtype).bits // 8
        self.capacity = max(1, most // (2 * config.num_hidden_layers * heads * width * size))
        self._layers = config.num_hidden_layers
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._forget()

    def _forget(self) -> None:
        self._slots: dict[bytes, np.ndarray] = {}
        self._lengths: list[int] = []
        self._used = 0

    def read(self, rows: Sequence[Sequence[int]]) -> Reading:
        """Read distinct rows of tokens from where the store leaves off.

        A row may be empty beside others; its hidden state has no meaning.
        """
        texts = [np.asarray(row, dtype=np.int32) for row in rows]
        if self._used + self.missing(rows) > self.capacity:
            self._forget()
        known = [self._longest(text) for text in texts]
        starts = np.array(
            [max(0, min(len(slots), len(text) - 1)) for slots, text in zip(known, texts, strict=True)]
        )
        lengths = np.array([len(text) for text in texts])
        new = lengths - starts
        width, queries = int(lengths.max()), int(new.max())
        device = self.module.device

        row, offset = np.nonzero(np.arange(queries)[None] < new[:, None])  # every new token
        place = starts[row] + offset
        tokens = np.zeros((len(texts), queries), dtype=np.int64)
        tokens[row, offset] = np.concatenate(
            [text[start:] for text, start in zip(texts, starts, strict=True)]
        )
        positions = torch.from_numpy(starts[:, None] + np.arange(queries)).to(device)
        slots = np.zeros((len(texts), width), dtype=np.int64)
        for i, (have, start) in enumerate(zip(known, starts, strict=True)):
            slots[i, :start] = have[:start]
        fresh = self._take(len(row))
        slots[row, place] = fresh
        cache = Cache(
            layers=[_StoreLayer(self, i, slots, (row, place, offset), fresh) for i in range(self._layers)]
        )
        hidden = self.module(
            input_ids=torch.from_numpy(tokens).to(device),
            attention_mask=self._mask(positions, width),
            position_ids=positions.clamp(max=width - 1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        for i, text in enumerate(texts):
            self._slots[text.tobytes()] = slots[i, : len(text)]
        self._lengths = sorted({*self._lengths, *map(len, texts)}, reverse=True)
        last = torch.from_numpy(new - 1).to(device)
        return Reading(cache, hidden[torch.arange(len(texts), device=device), last], hidden, starts)

    def missing(self, rows: Sequence[Sequence[int]]) -> int:
        """Return how many tokens `read` would have to read: at least the last one of a row that has any."""
        texts = [np.asarray(row, dtype=np.int32) for row in rows]
        new = sum(max(1, len(text) - len(self._longest(text))) for text in texts if len(text))
        return new if self._used + new <= self.capacity else sum(map(len, texts))

    def _mask(self, positions: torch.Tensor, width: int) -> Any:
        """Return what each new token may look at: [B, 1, queries, L], for models with windows by kind."""
        behind = positions[..., None] - torch.arange(width, device=positions.device)  # [B, queries, L]
        config, dtype = self.module.config, self.module.dtype

        def additive(seen: torch.Tensor) -> torch.Tensor:
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
            return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]

        full = additive(behind >= 0)
        if config.model_type not in _MASKS_BY_KIND:
            return full
        sliding = additive((behind >= 0) & (behind < config.sliding_window))
        return {"full_attention": full, "sliding_attention": sliding}

    def _longest(self, text: np.ndarray) -> np.ndarray:
        """Return the slots of the longest beginning of `text` that has been read."""
        data = text.tobytes()
        for length in self._lengths:
            if length <= len(text):
                found = self._slots.get(data[: 4 * length])
                if found is not None:
                    return found
        return np.zeros(0, dtype=np.int64)

    def _take(self, count: int) -> np.ndarray:
        """Return `count` unused slots."""
        first, self._used = self._used, self._used + count
        if not self._kept or self._used > len(self._kept[0][0]):  # more than the capacity in one reading
            shape = (max(self.capacity, self._used), *self._shape)
            dtype, device = self.module.dtype, self.module.device
            # On a processor the pages that nothing was written to take no memory.
            self._kept = [
                (
                    torch.empty(shape, dtype=dtype, device=device),
                    torch.empty(shape, dtype=dtype, device=device),
                )
                for _ in range(self._layers)
            ]
        return np.arange(first, first + count)


class _StoreLayer(Layer):
    """Lays the stored keys and values of each row out, [B, heads, L, D], and adds those of the new tokens."""

    def __init__(
        self,
        store: PrefixStore,
        index: int,
        slots: np.ndarray,
        new: tuple[np.ndarray, np.ndarray, np.ndarray],
        fresh: np.ndarray,
    ) -> None:
        super().__init__()
        self._store, self._index = store, index
        self._all = torch.from_numpy(slots).to(store.module.device)
        self._new = [torch.from_numpy(part).to(store.module.device) for part in new]
        self._fresh = torch.from_numpy(fresh).to(store.module.device)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        row, _place, offset = self._new
        laid = []
        for kept, states in zip(self._store._kept[self._index], (key_states, value_states), strict=True):
            kept[self._fresh] = states[row, :, offset]
            laid.append(kept[self._all].transpose(1, 2))
        self.keys, self.values = laid
        return laid[0], laid[1]

    def get_seq_length(self) -> int:
        return 0
