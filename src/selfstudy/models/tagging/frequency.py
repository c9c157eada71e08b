"""The most frequent tag of a word, and that of its ending where the word was never seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from selfstudy.data.tagged import Sentences, TaggedTexts
from selfstudy.models.tagging.base import Tagger
from selfstudy.models.tagging.counted import check_endings, of_ending, suffix_counts, word_counts


class FrequencyTagger(Tagger):
    """Each word's most frequent tag; a new word has that of its longest ending that rare words had.

    Args:
        suffix: letters of the longest ending.
        rare: occurrences up to which a word counts as rare.

    Raises:
        UsageError: a number out of range.
    """

    kind: ClassVar[str] = "frequency-tagger"

    def __init__(self, *, suffix: int = 5, rare: int = 10) -> None:
        super().__init__(suffix=suffix, rare=rare)
        check_endings(suffix, rare)
        self.suffix, self.rare = suffix, rare

    def learn(self, texts: TaggedTexts, key: int) -> None:
        """Count; see `Tagger.learn`."""
        words, counts = word_counts(texts, len(self.classes))
        endings, by_ending = suffix_counts(words, counts, self.suffix, self.rare)
        usual = counts.sum(0).argmax()
        told = np.where(by_ending.any(1), by_ending.argmax(1), usual)
        self.lists = {"words": words, "endings": endings}
        self.arrays = {"of_words": counts.argmax(1).astype(np.int32), "of_endings": told.astype(np.int32)}

    def scored(self, sentences: Sentences) -> np.ndarray:
        """Look words and endings up; see `Tagger.scored`."""
        known = dict(zip(self.lists["words"], self.arrays["of_words"].tolist(), strict=True))
        endings = dict(zip(self.lists["endings"], self.arrays["of_endings"].tolist(), strict=True))
        types = {word for sentence in sentences for word in sentence}
        for word in types - set(known):
            known[word] = of_ending(word, self.suffix, endings)
        return np.array([known[word] for sentence in sentences for word in sentence], dtype=np.int64)
