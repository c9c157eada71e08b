"""Counts of tags by word and by suffix, which the counting taggers are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.data.tagged import TaggedTexts


def word_counts(texts: TaggedTexts, classes: int) -> tuple[list[str], np.ndarray]:
    """Return the words that occur, and how often with each tag: [V, K]."""
    types: dict[str, int] = {}
    places = np.array(
        [types.setdefault(word, len(types)) for sentence in texts.sentences for word in sentence],
        dtype=np.int64,
    )
    counts = np.bincount(places * classes + texts.labels, minlength=len(types) * classes)
    return list(types), counts.reshape(len(types), classes)


def suffixes(word: str, longest: int) -> list[str]:
    """Return the endings of a word, the empty one first, each marked by whether it has a capital.

    >>> suffixes("Rome", 2)
    ['A', 'Ae', 'Ame']
    """
    mark = "A" if word[:1].isupper() else "a"
    return [mark + word[len(word) - length :] for length in range(min(longest, len(word)) + 1)]


def of_ending(word: str, longest: int, known: Mapping[str, int]) -> int:
    """Return what is known of a word's longest ending; `known` must have the empty one.

    >>> of_ending("Rome", 2, {"A": 0, "Ae": 5})
    5
    """
    return next(known[ending] for ending in reversed(suffixes(word, longest)) if ending in known)


def check_endings(suffix: int, rare: int) -> None:
    """Raise a UsageError for a longest ending below 0 letters, or for rare words that never occur."""
    if suffix < 0 or rare < 1:
        raise UsageError(f"suffix={suffix} must be 0 or more, and rare={rare} 1 or more.")


def suffix_counts(
    words: Iterable[str], counts: np.ndarray, longest: int, rare: int
) -> tuple[list[str], np.ndarray]:
    """Return the endings of rare words, and how often they occur with each tag: [S, K].

    Args:
        words: [V].
        counts: [V, K], of each word with each tag.
        longest: letters of the longest ending.
        rare: occurrences up to which a word is rare; words that were never seen are more like those.
    """
    endings: dict[str, int] = {"A": 0, "a": 1}
    rows: list[int] = []
    which: list[int] = []
    for place, (word, total) in enumerate(zip(words, counts.sum(1).tolist(), strict=True)):
        if total <= rare:
            found = [endings.setdefault(ending, len(endings)) for ending in suffixes(word, longest)]
            rows += found
            which += [place] * len(found)
    summed = np.zeros((len(endings), counts.shape[1]), dtype=np.int64)
    np.add.at(summed, rows, counts[which])
    return list(endings), summed
