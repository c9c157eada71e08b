"""Long-tailed samples: their counts, and what the draw decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data.long_tail import long_tail, long_tail_counts

LABELS = np.repeat(np.arange(5), 60)[np.random.default_rng(0).permutation(300)]


def test_counts_by_hand() -> None:
    """Oracle: 1500 * 0.02^(c / 9), cut off, worked out with a calculator; powers of ten exactly."""
    expected = [1500, 971, 628, 407, 263, 170, 110, 71, 46, 30]
    assert long_tail_counts(1500, 10, 0.02).tolist() == expected
    assert long_tail_counts(1000, 4, 0.001).tolist() == [1000, 100, 10, 1]


@given(most=st.integers(1, 5000), classes=st.integers(2, 50), tail=st.floats(0.001, 1))
def test_counts_fall_from_most_to_its_share(most: int, classes: int, tail: float) -> None:
    """Oracle: a law: the first is n_max, the last int(n_max f) but for rounding, and none rises."""
    counts = long_tail_counts(most, classes, tail)
    assert len(counts) == classes and counts[0] == most
    assert counts[-1] == int(round(most * tail, 9)) and (np.diff(counts) <= 0).all()


def test_a_sample_has_the_counts() -> None:
    """Oracle: the counts of the formula, in some order of the classes; places in order, none twice."""
    at = long_tail(LABELS, 0.1, draw=0)
    assert sorted(np.bincount(LABELS[at]), reverse=True) == long_tail_counts(60, 5, 0.1).tolist()
    assert (np.diff(at) > 0).all()
    # The largest n_max whose counts do not sum to more than 100.
    sums = [int(long_tail_counts(most, 5, 0.1).sum()) for most in range(61)]
    assert len(long_tail(LABELS, 0.1, draw=0, total=100)) == max(each for each in sums if each <= 100)


def test_the_draw_decides_which_class_is_frequent() -> None:
    """Oracle: the same draw gives the same places; over 40 draws every class is the most frequent once."""
    assert np.array_equal(long_tail(LABELS, 0.1, draw=3), long_tail(LABELS, 0.1, draw=3))
    first = {int(np.bincount(LABELS[long_tail(LABELS, 0.1, draw=draw)]).argmax()) for draw in range(40)}
    assert first == set(range(5))


def test_unknown_labels_are_never_taken() -> None:
    """Oracle: a class hidden but for ten inputs, the most that any class can have then."""
    labels = LABELS.copy()
    labels[np.flatnonzero(labels == 2)[10:]] = -1
    at = long_tail(labels, 0.5, draw=1)
    assert (labels[at] >= 0).all() and np.bincount(labels[at]).max() == 10


@pytest.mark.parametrize(
    ("labels", "tail", "total", "word"),
    [
        (LABELS, 0.0, 0, "above 0"),
        (LABELS, 1.5, 0, "at most 1"),
        (LABELS, 0.01, 0, "rarest none"),
        (LABELS, 0.1, 3, "rarest none"),
        (np.zeros(9, dtype=int), 0.5, 0, "two classes"),
    ],
)
def test_tails_that_cannot_be(labels: np.ndarray, tail: float, total: int, word: str) -> None:
    """Oracle: the message."""
    with pytest.raises(UsageError, match=word):
        long_tail(labels, tail, draw=0, total=total)
