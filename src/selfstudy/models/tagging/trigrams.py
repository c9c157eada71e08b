"""A hidden Markov model of tags, two back: Brants 2000, "TnT: a statistical part-of-speech tagger"."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from selfstudy.data.tagged import Sentences, TaggedTexts
from selfstudy.models.tagging.base import Tagger
from selfstudy.models.tagging.counted import check_endings, of_ending, suffix_counts, word_counts
from selfstudy.models.tagging.viterbi import best_tags


class TrigramTagger(Tagger):
    """P(tag | two tags before) by deleted interpolation, P(word | tag) by counts, by endings for new words.

    Args:
        suffix: letters of the longest ending.
        rare: occurrences up to which a word counts as rare.

    Raises:
        UsageError: a number out of range.
    """

    kind: ClassVar[str] = "trigram-tagger"

    def __init__(self, *, suffix: int = 10, rare: int = 10) -> None:
        super().__init__(suffix=suffix, rare=rare)
        check_endings(suffix, rare)
        self.suffix, self.rare = suffix, rare

    def learn(self, texts: TaggedTexts, key: int) -> None:
        """Count; see `Tagger.learn`."""
        count = len(self.classes)
        words, counts = word_counts(texts, count)
        endings, by_ending = suffix_counts(words, counts, self.suffix, self.rare)
        tags = counts.sum(0)
        self.lists = {"words": words, "endings": endings}
        with np.errstate(divide="ignore"):
            self.arrays = {
                "transitions": np.log(transitions(trigram_counts(texts, count), tags)).astype(np.float32),
                "of_words": np.log(counts / np.maximum(tags, 1)).astype(np.float32),
                "of_endings": np.log(_inverted(endings, by_ending, tags)).astype(np.float32),
            }

    def scored(self, sentences: Sentences) -> np.ndarray:
        """Return the likeliest tags of each sentence; see `Tagger.scored`."""
        places = {word: place for place, word in enumerate(self.lists["words"])}
        endings = {ending: place for place, ending in enumerate(self.lists["endings"])}
        emissions = [self.arrays["of_words"]]
        for word in {word for sentence in sentences for word in sentence} - set(places):
            places[word] = len(places)
            ending = of_ending(word, self.suffix, endings)
            emissions.append(self.arrays["of_endings"][ending][None])
        rows = np.concatenate(emissions)
        coded = [np.array([places[word] for word in sentence], dtype=np.int64) for sentence in sentences]
        return best_tags(coded, rows, self.arrays["transitions"])


def trigram_counts(texts: TaggedTexts, classes: int) -> np.ndarray:
    """Return how often a tag follows two others: [K + 1, K + 1, K]; place K is a sentence's start."""
    ends = np.cumsum(texts.lengths)
    starts = ends - texts.lengths
    padded = np.concatenate([[classes, classes], texts.labels])
    # Two places of padding before each sentence, shifted over by those of the sentences before.
    before = np.full(texts.words, classes), np.full(texts.words, classes)
    inside = np.arange(texts.words) - np.repeat(starts, texts.lengths)
    one = np.where(inside >= 1, padded[1:-1], before[0])
    two = np.where(inside >= 2, padded[:-2], before[1])
    size = classes + 1
    flat = (two * size + one) * classes + texts.labels
    return np.bincount(flat, minlength=size * size * classes).reshape(size, size, classes)


def transitions(trigrams: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Return P(tag | two tags before) [K + 1, K + 1, K], mixed of uni-, bi- and trigrams.

    The shares are those of deleted interpolation: each trigram speaks for the order whose estimate, without
    itself, is largest.
    """
    bigrams, total = trigrams.sum(0), tags.sum()

    def left(counts: np.ndarray, of: np.ndarray | float) -> np.ndarray:
        bottom = np.broadcast_to(np.asarray(of, dtype=float) - 1, np.shape(counts))
        return np.divide(counts - 1, bottom, out=np.zeros(np.shape(counts)), where=bottom > 0)

    of_pair = trigrams.sum(2, keepdims=True)
    estimates = np.stack(
        [
            np.broadcast_to(left(tags, total), trigrams.shape),
            np.broadcast_to(left(bigrams, bigrams.sum(1, keepdims=True)), trigrams.shape),
            left(trigrams, of_pair),
        ]
    )
    speaks_for = np.where(trigrams > 0, estimates.argmax(0), -1)
    shares = np.array([trigrams[speaks_for == order].sum() for order in range(3)]) / total
    unigram = (tags + 1) / (total + len(tags))  # a tag not seen so far may come
    bigram = _each(bigrams, unigram)
    trigram = _each(trigrams, bigram)
    mixed = shares[0] * unigram + shares[1] * bigram + shares[2] * trigram
    return (1 - 1e-6) * mixed + 1e-6 * unigram


def _each(counts: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Return shares along the last axis, and `otherwise` where nothing was counted."""
    whole = counts.sum(-1, keepdims=True)
    shares = np.broadcast_to(otherwise, counts.shape).copy()
    return np.divide(counts, whole, out=shares, where=np.broadcast_to(whole > 0, counts.shape))


def _inverted(endings: list[str], counts: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Return P(tag | ending) / P(tag) [S, K]: successive abstraction from the longest ending to none."""
    prior = (tags + 1) / (tags.sum() + len(tags))
    theta = float(prior.std(ddof=1)) if len(tags) > 1 else 1.0
    smoothed = np.empty(counts.shape)
    places = {ending: place for place, ending in enumerate(endings)}
    shares = _each(counts, prior)
    for place in sorted(range(len(endings)), key=lambda place: len(endings[place])):
        ending = endings[place]
        shorter = ending[0] + ending[2:]
        below = smoothed[places[shorter]] if len(ending) > 1 else prior
        smoothed[place] = (shares[place] + theta * below) / (1 + theta)
    return smoothed / prior
