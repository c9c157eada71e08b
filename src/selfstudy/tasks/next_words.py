"""The next word of a text: WikiText-2, Tiny Shakespeare, or a file of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.cooccurrence import Cooccurrence, Sequences
from selfstudy.data.corpus_cooccurrence import count_cooccurrence
from selfstudy.data.words import Text, Vocabulary, read_text, windows
from selfstudy.models.attention_decoder import require_decoder
from selfstudy.tasks.cooccurrence import LOSS, mean_losses
from selfstudy.tasks.sampled import SampledTask


class NextWordsTask(SampledTask):
    """Windows of a text; each word but a window's first asks for the next one.

    Attributes:
        words: the vocabulary; token 0 stands for all rarer words.
        vocabulary: M, its size.
        window: T.
        splits: ids by split.

    Args:
        name: the specification that makes this task again.
        text: the words, split.
        window: T.
        most: words of the vocabulary, the most frequent ones of the training split.
        queries: frequent words whose context is looked at.
        nexts: words after each of them.
        items: test windows.

    Raises:
        UsageError: a size below its least.
        DataError: a split shorter than a window.
    """

    def __init__(
        self,
        name: str,
        text: Text,
        *,
        window: int = 35,
        most: int = 2000,
        queries: int = 20,
        nexts: int = 10,
        items: int = 500,
    ) -> None:
        if window < 2 or min(most, queries, nexts, items) < 1:
            raise UsageError(
                f"A window needs a word and one before it: window={window} must be at least 2, and words="
                f"{most}, queries={queries}, nexts={nexts} and items={items} at least 1."
            )
        self.words = Vocabulary(text.train, most)
        self.splits = {
            split: self.words.encode(words)
            for split, words in (
                ("train", text.train),
                ("validation", text.validation),
                ("test", text.test),
            )
        }
        for split, ids in self.splits.items():
            if len(ids) < window + 1:
                raise DataError(
                    f"The {split} split of {name!r} has {len(ids)} words, and a window takes {window} and "
                    "one to predict. Give a longer text or a shorter window."
                )
        super().__init__(name, LOSS, min(items, (len(self.splits["test"]) - 1) // window))
        self.window, self.vocabulary = window, len(self.words)
        self._queries, self._nexts = queries, nexts

    @cached_property
    def table(self) -> Cooccurrence:
        """P(l | m, n) of frequent words m and n, counted in the training split."""
        return count_cooccurrence(
            self.splits["train"], self.window, self.words.words, queries=self._queries, nexts=self._nexts
        )

    def batch(self, size: int, rng: np.random.Generator) -> Sequences:
        """Return `size` windows that begin anywhere in the training split."""
        ids = self.splits["train"]
        return windows(ids, self.window, rng.integers(len(ids) - self.window, size=size))

    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return the mean cross-entropy of each of the first `count` windows of a split, in nats a word."""
        require_decoder(model, self)
        return mean_losses(model, self.windows_of(split, count))

    def held_out(self, count: int) -> Sequences:
        """Return the first `count` windows of the validation split, or as many as there are."""
        return self.windows_of("validation", count)

    def windows_of(self, split: str, count: int) -> Sequences:
        """Return the first `count` windows of a split, one after the other, or as many as there are."""
        ids = self.splits[split]
        count = min(count, (len(ids) - 1) // self.window)
        return windows(ids, self.window, self.window * np.arange(count))


def next_words(
    *,
    text: str = "wikitext2",
    words: int = 2000,
    window: int = 35,
    queries: int = 20,
    nexts: int = 10,
    items: int = 500,
) -> NextWordsTask:
    """Return the task on `text`, as in `data.words.read_text`; other fields as in `NextWordsTask`."""
    name = (
        f"next-words?text={text}&words={words}&window={window}&queries={queries}&nexts={nexts}&items={items}"
    )
    return NextWordsTask(
        name, read_text(text), window=window, most=words, queries=queries, nexts=nexts, items=items
    )
