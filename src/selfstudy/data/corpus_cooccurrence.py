"""Which words of a text come together before which next word: P(l | m, n) from counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.data.cooccurrence import Cooccurrence


def count_cooccurrence(
    ids: np.ndarray,
    length: int,
    vocabulary: Sequence[str],
    *,
    queries: int = 20,
    nexts: int = 10,
    least: int = 20,
) -> Cooccurrence:
    """Estimate P(l | m, n) from a text, and which l are common for m.

    Last tokens m are the most frequent words, next tokens n those that most often follow each m. Context is
    the up to `length` - 1 words before m. A token l is common for m if its pointwise mutual information
    with n given m, log P(l | m, n) / P(l | m), is below 0 for at least half of the n that it comes with.
    (Taken over all n, a token that comes with a single n would count as common.) Tokens that come with m
    less than `least` times are too rare to be told apart: they keep their probability and are neither.

    Args:
        ids: words of the text; 0, the unknown, is neither m nor n.
        length: T of a window.
        vocabulary: words by id.
        queries: how many m.
        nexts: how many n of each.
        least: occurrences with m that a token needs, and (m, n) needs to be a class.

    Raises:
        DataError: the text is too short to have any class.
    """
    size, span = len(vocabulary), length - 1
    if len(ids) < length + 1:
        raise DataError(f"The text has {len(ids)} words; windows of {length} need at least {length + 1}.")
    padded = np.concatenate([np.full(span, size), ids])
    before = np.lib.stride_tricks.sliding_window_view(padded, span)  # row i: the words before word i
    frequent = np.argsort(-np.bincount(ids[1:-1], minlength=size)[1:], kind="stable")[:queries] + 1
    last, following, rows, common = [], [], [], []
    for m in frequent:
        at = np.flatnonzero(ids[1:-1] == m) + 1
        after = np.bincount(ids[at + 1], minlength=size)
        after[0] = 0
        chosen = np.argsort(-after, kind="stable")[:nexts]
        chosen = chosen[after[chosen] >= least]
        with_m = np.bincount(before[at].ravel(), minlength=size + 1)[:size]
        with_m[with_m < least] = 0
        for n in chosen:
            row = np.bincount(before[at[ids[at + 1] == n]].ravel(), minlength=size + 1)[:size]
            rows.append(row * (with_m > 0))
        counts = np.array(rows[len(rows) - len(chosen) :]).reshape(-1, size)
        last += [m] * len(chosen)
        following += chosen.tolist()
        common += [_common(counts, with_m)] * len(chosen)
    table = np.array(rows, dtype=float).reshape(-1, size)
    known = table.sum(1) > 0
    if not known.any():
        raise DataError(
            f"No two words of this text of {len(ids)} follow each other {least} times with context that "
            "comes as often. Give a longer text."
        )
    table = table[known]
    return Cooccurrence(
        last=np.array(last)[known],
        next=np.array(following)[known],
        probabilities=table / table.sum(1, keepdims=True),
        common=np.array(common)[known] & (table > 0),
        words=tuple(vocabulary),
    )


def _common(counts: np.ndarray, with_m: np.ndarray) -> np.ndarray:
    """Return which tokens are common, [M], from their counts by next token [N, M] and altogether [M]."""
    expected = with_m * counts.sum(1, keepdims=True) / max(1, with_m.sum())
    seen = counts > 0
    below = (seen & (counts < expected)).sum(0)
    return seen.any(0) & (2 * below >= seen.sum(0))
