"""Made-up sentences with tags: for tests and first steps, without any file.

Words of open classes are endless, as in a language: the rank of a word is drawn by Zipf's law, so that new
words become rare but never end. Endings hint at the tag, some words have two, and the tag before helps.
"""

from __future__ import annotations

import functools

import numpy as np

from selfstudy.core.random import generator
from selfstudy.data.tagged import TaggedTexts

TAGS = ("NOUN", "VERB", "DET", "PUNCT", "ADJ", "ADP", "PRON", "ADV", "CONJ", "NUM")
OPEN = ("NOUN", "VERB", "ADJ", "ADV")
"""Classes with endless words."""
CLOSED = {"DET": 6, "PUNCT": 3, "ADP": 20, "PRON": 15, "CONJ": 6, "NUM": 30}
"""Classes with few words, and how many."""
SHARED = (("VERB", "NOUN", 0.3), ("ADV", "ADJ", 0.2), ("ADP", "ADV", 0.2), ("DET", "PRON", 0.3))
"""A class that shares a share of its words with another."""
RANKS = 20_000
ENDED = 0.6  # of the words of open classes that end as their class does
LENGTHS = (4, 25)
LETTERS = ("bcdfghjklmnprstvwz", "aeiou")


def made_sentences(split: str, words: int, tags: int) -> TaggedTexts:
    """Return sentences of at least `words` words in all, with the first `tags` tags of `TAGS`.

    The first sentences of a split are the same whatever its size.
    """
    lexicon, classes = _lexicon(), TAGS[:tags]
    follows = np.cumsum(_follows()[:tags, :tags] / _follows()[:tags, :tags].sum(1, keepdims=True), 1)
    ranked = np.cumsum(1 / (np.arange(RANKS) + 2.7) ** 1.1)
    rng = generator("made tags", split)
    sentences: list[tuple[str, ...]] = []
    labels: list[int] = []
    while len(labels) < words:
        length = int(rng.integers(*LENGTHS))
        at, spoken = 3 % tags, []
        for chance, place in zip(rng.random(length), rng.random(length), strict=True):
            at = min(int(np.searchsorted(follows[at], chance)), tags - 1)
            known = lexicon[classes[at]]
            rank = np.searchsorted(ranked[: len(known)], place * ranked[len(known) - 1])
            spoken.append(known[rank])
            labels.append(at)
        sentences.append(tuple(spoken))
    return TaggedTexts("made-tags", tuple(sentences), np.array(labels, dtype=np.int64), classes)


@functools.cache
def _lexicon() -> dict[str, list[str]]:
    rng = generator("made tags", "words")
    words = {tag: _spelled(rng, RANKS if tag in OPEN else CLOSED[tag], tag in OPEN) for tag in TAGS}
    for tag, other, share in SHARED:
        count = min(len(words[tag]), len(words[other]))
        for rank in np.flatnonzero(rng.random(count) < share):
            words[tag][rank] = words[other][rank]
    return words


def _spelled(rng: np.random.Generator, count: int, opened: bool) -> list[str]:
    def syllables(least: int, most: int, rows: int) -> list[str]:
        sizes = rng.integers(least, most + 1, rows)
        letters = [rng.integers(0, len(kind), (rows, most)) for kind in LETTERS]
        return [
            "".join(
                kind[row[place]] for place in range(size) for kind, row in zip(LETTERS, pair, strict=True)
            )
            for size, *pair in zip(sizes, *letters, strict=True)
        ]

    stems = syllables(1, 3 if opened else 2, count)
    if not opened:
        return stems
    endings = syllables(1, 1, 6)
    own = rng.random(count) < ENDED
    which = rng.integers(0, len(endings), count)
    anything = syllables(1, 1, count)
    return [
        stem + (endings[number] if ended else any_ending)
        for stem, ended, number, any_ending in zip(stems, own, which, anything, strict=True)
    ]


@functools.cache
def _follows() -> np.ndarray:
    """Return how often each tag follows another [K, K], in proportion: a few that are likely, for each."""
    return generator("made tags", "grammar").dirichlet(np.full(len(TAGS), 0.5), len(TAGS)) + 0.01
