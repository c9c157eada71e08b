"""A word and its neighbours as hashed features: one sparse row a word."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy as np

from selfstudy.data.tagged import Sentences

OUTSIDE = "\x02"  # the word before a sentence and after it
OWN = ("word", "lower", "last", "last two", "last three", "last four", "first two", "shape")
"""What a word is known by, alone."""
NEIGHBOURS = (("lower", -2), ("lower", -1), ("lower", 1), ("lower", 2), ("last three", -1), ("last three", 1))
"""What is looked at around it, and how far away."""
PAIRS = ((("lower", -1), ("lower", 0)), (("lower", 0), ("lower", 1)), (("last two", -1), ("last two", 1)))
"""What is looked at together."""
FEATURES = len(OWN) + len(NEIGHBOURS) + len(PAIRS)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # Knuth's multiplier: spreads numbers over the upper bits
EDGE = 2  # words outside of a sentence on each side


def shape(word: str) -> str:
    """Return how a word is written: capitals, digits and other signs, repeated ones once.

    >>> shape("Ab-12c"), shape("NASA"), shape("...")
    ('Aa-0a', 'A', '-')
    """
    kinds = ("A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else "-" for c in word)
    return "".join(kind for kind, _ in itertools.groupby(kinds))


def window_features(sentences: Sentences, bits: int) -> Any:
    """Return the features of all words: a sparse matrix [T, 2^bits] of ones, `FEATURES` a row.

    Args:
        sentences: of words.
        bits: of the number of buckets that features are hashed into.
    """
    from scipy.sparse import csr_matrix

    types: dict[str, int] = {OUTSIDE: 0}
    edge = [0] * EDGE
    places = np.array(
        [
            place
            for sentence in sentences
            for place in (*edge, *(types.setdefault(word, len(types)) for word in sentence), *edge)
        ],
        dtype=np.int64,
    )
    inside = np.flatnonzero(places != 0)
    known = _known(list(types))
    columns = [known[name][places[inside]] for name in OWN]
    columns += [known[name][places[inside + away]] for name, away in NEIGHBOURS]
    for (first, before), (second, after) in PAIRS:
        one, other = known[first][places[inside + before]], known[second][places[inside + after]]
        columns.append(one * GOLDEN + other)
    shift = np.uint64(64 - bits)
    hashed = [(((column + np.uint64(kind)) * GOLDEN) >> shift) for kind, column in enumerate(columns, 1)]
    indices = np.stack(hashed, 1).astype(np.int32).ravel() if len(inside) else np.zeros(0, np.int32)
    starts = np.arange(len(inside) + 1, dtype=np.int32) * FEATURES
    ones = np.ones(len(indices), dtype=np.float32)
    return csr_matrix((ones, indices, starts), shape=(len(inside), 2**bits))


def _known(types: list[str]) -> dict[str, np.ndarray]:
    """Return 64-bit numbers [V] of what each word is known by."""
    lower = [word.lower() for word in types]
    seen = {
        "word": types,
        "lower": lower,
        "last": [word[-1:] for word in lower],
        "last two": [word[-2:] for word in lower],
        "last three": [word[-3:] for word in lower],
        "last four": [word[-4:] for word in lower],
        "first two": [word[:2] for word in lower],
        "shape": [shape(word) for word in types],
    }
    return {name: np.array([_number(text) for text in texts], np.uint64) for name, texts in seen.items()}


def _number(text: str) -> int:
    data = text.encode()
    return zlib.crc32(data) << 32 | zlib.crc32(data[::-1])
