"""What `Flight` does, through the forward pass of any causal language model of transformers.

Every row has its prompt beside its own columns, and a free row waits until all have ended: slower, but right
for architectures that are not known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from selfstudy.models.language.cache import RowCache, reading_cache
from selfstudy.models.language.flight import SPARSE
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.prompts import Charge
from selfstudy.models.language.scoring import batches_by_length, pad_right

READ_TOKENS = 4096  # tokens of prompts in one forward pass, padding included: larger only takes memory


class ModuleFlight:
    """Rows over a transformers module: a `Flight` with one sequence beside each place.

    Args:
        model: any with attention layers; sliding windows are handled by its own masks.
        places: rows.
        steps: most tokens that a sequence adds.
    """

    refills = False
    beside = 1

    def __init__(self, model: LanguageModel, *, places: int, steps: int) -> None:
        self._model, self.places, self._steps = model, places, steps

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """See `Flight.choose`: the first ones."""
        return list(free[: len(prompts)])

    def place(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """See `Flight.place`; the prompts replace all that were there."""
        device = self._model.device
        lengths = torch.zeros(self.places, dtype=torch.long, device=device)
        rows_of: dict[bytes, list[int]] = {}
        for place, prompt in zip(places, prompts, strict=True):
            lengths[place] = len(prompt)
            if len(prompt):
                rows_of.setdefault(prompt.tobytes(), []).append(place)
        self._cache, self._positions = RowCache(lengths, self._steps), lengths.clone()
        distinct = {text: np.frombuffer(text, dtype=np.int32).tolist() for text in rows_of}
        for batch in batches_by_length([len(row) for row in distinct.values()], READ_TOKENS):
            texts = [list(distinct)[i] for i in batch]
            charge(sum(len(distinct[text]) for text in texts))
            read = reading_cache()
            # Padded on the right, a causal model needs no mask: no real token looks at the padding.
            self._model.module.base_model(
                input_ids=pad_right([distinct[text] for text in texts], device),
                past_key_values=read,
                use_cache=True,
            )
            rows = [row for text in texts for row in rows_of[text]]
            which = np.repeat(np.arange(len(texts)), [len(rows_of[text]) for text in texts])
            self._cache.place(torch.tensor(rows, device=device), torch.from_numpy(which).to(device), read)

    def begin(self, seats: torch.Tensor) -> None:
        """See `Flight.begin`: placing has prepared everything."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See `Flight.step`."""
        logits: torch.Tensor = self._model.module(
            input_ids=tokens[:, None],
            attention_mask=self._cache.mask(),
            position_ids=self._positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        self._cache.step()
        self._positions = self._positions + 1
        return logits

    def keep(self, seats: torch.Tensor, texts: Sequence[np.ndarray]) -> None:
        """See `Flight.keep`: nothing is kept here."""

    def shrink(self, taken: torch.Tensor) -> torch.Tensor | None:
        """See `Flight.shrink`."""
        rows = taken.nonzero()[:, 0]
        if len(rows) > SPARSE * len(taken):
            return None
        self._cache.select(rows)
        self._positions, self.places = self._positions[rows], len(rows)
        return rows
