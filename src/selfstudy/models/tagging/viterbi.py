"""Viterbi's search for the likeliest tags, over many sentences at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 4_000_000  # numbers of one step of the search: sentences are gone through in parts


def best_tags(coded: Sequence[np.ndarray], emissions: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """Return the likeliest tags of all sentences, one after the other: [T].

    The state is a pair of tags. Sentences are taken from the longest to the shortest, so that at each place
    those that go on are the first ones.

    Args:
        coded: N sentences of places in `emissions`.
        emissions: [V, K], log P(word | tag) but for a constant of the word.
        transitions: [K + 1, K + 1, K], log P(tag | two before); the last of a tag is a sentence's start.
    """
    lengths = np.array([len(sentence) for sentence in coded], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    tags = np.empty(lengths.sum(), dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    classes = emissions.shape[1]
    part = max(1, MOST // classes**3)
    for first in range(0, len(coded), part):
        chosen = order[first : first + part]
        chosen = chosen[lengths[chosen] > 0]
        for place, found in zip(
            chosen, _together([coded[i] for i in chosen], emissions, transitions), strict=True
        ):
            tags[starts[place] : starts[place] + lengths[place]] = found
    return tags


def _together(
    sentences: Sequence[np.ndarray], emissions: np.ndarray, transitions: np.ndarray
) -> list[np.ndarray]:
    """Return the tags of sentences that are in order of length, the longest first."""
    if not sentences:
        return []
    classes = emissions.shape[1]
    lengths = np.array([len(sentence) for sentence in sentences])
    inner = transitions[:classes, :classes]
    # score[n, p, t]: of the best tags up to here whose last two are p and t; p is the start at first.
    first = np.array([sentence[0] for sentence in sentences])
    score = (transitions[classes, classes] + emissions[first])[:, None, :]  # [n, 1, K]
    back: list[np.ndarray] = []
    last = [score]
    for place in range(1, int(lengths[0])):
        going = int((lengths > place).sum())
        words = np.array([sentence[place] for sentence in sentences[:going]])
        step = transitions[classes, :classes][None] if place == 1 else inner  # [p, t, next]
        reached = score[:going, :, :, None] + step  # [n, p, t, next]
        back.append(reached.argmax(1))
        score = reached.max(1) + emissions[words][:, None, :]  # [n, t, next]
        last.append(score)
    return [_traced(number, int(length), last, back) for number, length in enumerate(lengths)]


def _traced(number: int, length: int, scores: list[np.ndarray], back: list[np.ndarray]) -> np.ndarray:
    before, tag = np.unravel_index(scores[length - 1][number].argmax(), scores[length - 1].shape[1:])
    tags = np.empty(length, dtype=np.int64)
    tags[-1] = tag
    for place in range(length - 1, 0, -1):
        tags[place - 1] = before
        before, tag = back[place - 1][number, before, tag], before
    return tags
