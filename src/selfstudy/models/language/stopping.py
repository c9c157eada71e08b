"""Which tokens end a sequence: tables over the vocabulary, so that a step needs no loop over the batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from selfstudy.models.language.model import LanguageModel

GO_ON, END, STOP, LOOK = range(4)
"""Codes of a token: nothing, end of sequence, contains a stop string, may complete one begun before it."""


class Stopping:
    """The stop strings and end tokens of one model; tables are made once for each set of stop strings."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tables: dict[tuple[str, ...], np.ndarray] = {}

    @cached_property
    def size(self) -> int:
        """Number of logits, which may exceed the tokenizer's vocabulary."""
        head = self._model.module.get_output_embeddings()
        return int(head.weight.shape[0]) if head is not None else int(self._model.module.config.vocab_size)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end a sequence: the tokenizer's, and those of the generation configuration."""
        config = getattr(self._model.module, "generation_config", None)
        more = getattr(config, "eos_token_id", None)
        ends = {self._model.end, *(more if isinstance(more, list | tuple) else [more])}
        return tuple(sorted(token for token in ends if token is not None and token < self.size))

    @cached_property
    def texts(self) -> list[str]:
        """The text that each token adds to what stands before it; empty for special tokens."""
        tokenizer = self._model.tokenizer
        count = min(self.size, len(tokenizer))
        special = set(tokenizer.all_special_ids)
        # Behind another token, because some decoders drop the space that begins a text.
        before = next(
            (i for i in range(count) if i not in special and self._model.decode([i]).isalnum()), None
        )
        if before is None:
            return [self._model.decode([i]) for i in range(count)]
        skip = len(self._model.decode([before]))
        rows = [[before, i] for i in range(count)]
        decoded = tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text[skip:] for text in decoded]

    def table(self, stops: Sequence[str]) -> np.ndarray:
        """Return the code of each token, uint8 [V], for these stop strings."""
        key = tuple(stops)
        if key not in self._tables:
            self._tables[key] = self._make(key)
        return self._tables[key]

    def _make(self, stops: tuple[str, ...]) -> np.ndarray:
        codes = np.full(self.size, GO_ON, dtype=np.uint8)
        for stop in stops if stops else ():
            rests = tuple(stop[i:] for i in range(1, len(stop)))
            for token, text in enumerate(self.texts):
                if not text:
                    continue
                if stop in text:
                    codes[token] = STOP
                elif codes[token] == GO_ON and self._completes(text, rests, stop):
                    codes[token] = LOOK
        codes[list(self.end_tokens)] = END
        return codes

    @staticmethod
    def _completes(text: str, rests: tuple[str, ...], stop: str) -> bool:
        # A token holding half a character decodes to the replacement mark: look when that could matter.
        return text.startswith(rests) or ("\ufffd" in text and not stop.isascii())

    def looked(self, tokens: Sequence[int], stops: Sequence[str]) -> int:
        """Return the code, in place of LOOK, of the last of the tokens that were drawn."""
        return STOP if self.in_tail(tokens, stops) else GO_ON

    def in_tail(self, tokens: Iterable[int], stops: Sequence[str]) -> bool:
        """Tell whether the last token completes a stop string; reads no further back than one could reach."""
        longest = max(map(len, stops))
        tail = list(tokens)[-4 * longest :]  # a character takes at most four tokens
        text = self._model.decode(tail)
        return any(stop in text for stop in stops)

    def cut(self, text: str, stops: Sequence[str]) -> str:
        """Return `text` up to the first stop string."""
        places = [text.find(stop) for stop in stops]
        return text[: min((place for place in places if place >= 0), default=len(text))]
