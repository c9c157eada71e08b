"""What `Flight` does, through the forward pass of any causal language model of transformers.

Every row has its prompt beside its own columns, and new prompts wait until all rows have ended: slower, but
right for architectures that are not known here.
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
    """Rows over a transformers module; the interface of `Flight`.

    Args:
        model: any with attention layers; sliding windows are handled by its own masks.
        places: prompts at the same time.
        steps: most tokens that a row adds.
    """

    refills = shares = False

    def __init__(self, model: LanguageModel, *, places: int, steps: int) -> None:
        self._model, self.places, self._steps, self.rows = model, places, steps, 0

    def choose(self, prompts: Sequence[np.ndarray], free: Sequence[int]) -> list[int]:
        """See `Flight.choose`: the first ones."""
        return list(free[: len(prompts)])

    def put(self, places: Sequence[int], prompts: Sequence[np.ndarray], charge: Charge) -> None:
        """See `Flight.put`; the prompts replace all that were there, and are read when rows begin."""
        self._texts = dict(zip(places, prompts, strict=True))
        self._charge = charge

    def begin(self, places: Sequence[int]) -> None:
        """See `Flight.begin`; there must be no rows."""
        device = self._model.device
        texts = [self._texts[place] for place in places]
        self._positions = torch.tensor([len(text) for text in texts], device=device)
        self._cache, self.rows = RowCache(self._positions, self._steps), len(places)
        distinct = {text.tobytes(): text.tolist() for text in texts if len(text)}
        names = list(distinct)
        for batch in batches_by_length([len(text) for text in distinct.values()], READ_TOKENS):
            part = {names[i]: number for number, i in enumerate(batch)}
            self._charge(sum(len(distinct[name]) for name in part))
            read = reading_cache()
            # Padded on the right, a causal model needs no mask: no real token looks at the padding.
            self._model.module.base_model(
                input_ids=pad_right([distinct[name] for name in part], device),
                past_key_values=read,
                use_cache=True,
            )
            rows = [row for row, text in enumerate(texts) if text.tobytes() in part]
            which = [part[texts[row].tobytes()] for row in rows]
            self._cache.place(torch.tensor(rows, device=device), torch.tensor(which, device=device), read)

    def fork(self, sources: np.ndarray) -> None:
        """See `Flight.fork`: never asked for, since rows are not shared."""
        raise NotImplementedError

    def leave(self, alive: np.ndarray) -> np.ndarray:
        """See `Flight.leave`; few that have ended stay, since letting go of them copies all others."""
        if int(alive.sum()) > SPARSE * self.rows:
            return np.arange(self.rows)
        left = torch.from_numpy(np.flatnonzero(alive)).to(self._model.device)
        self._cache.select(left)
        self._positions, self.rows = self._positions[left], len(left)
        return alive.cumsum(0) - 1

    def step(self, tokens: np.ndarray) -> torch.Tensor:
        """See `Flight.step`."""
        logits: torch.Tensor = self._model.module(
            input_ids=torch.from_numpy(tokens).to(self._model.device)[:, None],
            attention_mask=self._cache.mask(),
            position_ids=self._positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        ).logits[:, -1]
        self._cache.step()
        self._positions = self._positions + 1
        return logits

    def keep(self, rows: np.ndarray, texts: Sequence[np.ndarray]) -> None:
        """See `Flight.keep`: nothing is kept here."""

    def shrink(self) -> np.ndarray | None:
        """See `Flight.shrink`: nothing is read for places without rows."""
        return None

    def close(self) -> None:
        """See `Flight.close`."""
