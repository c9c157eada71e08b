"""The parts of a pool."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.data.items import Texts
from selfstudy.data.pool_parts import HELD_FROM, held_out_labels, pool_parts


def texts(*said: str) -> Texts:
    return Texts("said", said, np.full(len(said), -1))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_no_item_is_in_two_parts() -> None:
    """Oracle: 12 labels, a fifth of each class of 6 held out, 8 unlabelled; together all places, once."""
    labels = np.array([0, 1] * 6 + [-1] * 8)
    parts = pool_parts(texts(*map(str, range(20))), labels, held_out=0.2, rng=rng())
    everything = np.concatenate([parts.fit, parts.held, parts.unlabelled])
    assert sorted(everything.tolist()) == list(range(20))
    assert (len(parts.fit), len(parts.held), len(parts.unlabelled)) == (10, 2, 8)
    assert (labels[parts.fit] == parts.labels).all() and (labels[parts.held] == parts.held_labels).all()


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), share=st.floats(0, 0.9))
@settings(max_examples=50, deadline=None)
def test_a_class_with_few_labels_keeps_them(counts: list[int], share: float) -> None:
    """Oracle: of n labels round(share n) are held out, none of a class with fewer than five."""
    labels = np.repeat(np.arange(len(counts)), counts)
    fit, held = held_out_labels(labels, share, rng())
    assert sorted([*fit, *held]) == list(range(len(labels)))
    wanted = [round(share * count) if count >= HELD_FROM else 0 for count in counts]
    assert np.bincount(labels[held], minlength=len(counts)).tolist() == wanted


def test_copies_of_labelled_items_are_left_out_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the fourth text equals the first, which has a label; copies without a label stay."""
    items, labels = texts("a", "b", "c", "a", "c"), np.array([0, 1, -1, -1, -1])
    with caplog.at_level(logging.WARNING):
        parts = pool_parts(items, labels, held_out=0.0, rng=rng())
    assert parts.unlabelled.tolist() == [2, 4] and "1 unlabelled items" in caplog.text
    with pytest.raises(DataError, match="at place 3"):
        pool_parts(items, labels, held_out=0.0, rng=rng(), strict=True)


def test_too_few_labels_are_refused() -> None:
    """Oracle: no label, and labels of one class."""
    for labels in ([-1, -1], [0, 0]):
        with pytest.raises(DataError, match="two classes or more"):
            pool_parts(texts("a", "b"), np.array(labels), held_out=0.0, rng=rng())
