"""Tagged sentences, nested samples, the made-up language."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.data.made_tags import TAGS, made_sentences
from selfstudy.data.tagged import nested_levels, tagged


def test_sentences_keep_their_tags() -> None:
    """Oracle: words and tags by hand; sentences without words are left out."""
    texts = tagged("three", [["a", "cat"], [], ["it", "runs", "."]], [["D", "N"], [], ["P", "V", "."]])
    assert texts.sentences == (("a", "cat"), ("it", "runs", "."))
    assert texts.classes == (".", "D", "N", "P", "V")
    assert [texts.classes[label] for label in texts.labels] == ["D", "N", "P", "V", "."]
    turned = texts.only(np.array([1, 0]))
    assert turned.sentences == texts.sentences[::-1]
    assert [texts.classes[label] for label in turned.labels] == ["P", "V", ".", "D", "N"]
    assert texts.only(slice(0)).words == 0
    with pytest.raises(KeyError):
        tagged("wrong", [["a"]], [["X"]], classes=["D"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=60), st.integers(1, 30), st.integers(1, 30))
def test_nested_levels(sizes: list[int], kernel: int, step: int) -> None:
    """Oracle: the laws of nested samples: each is the shortest row of whole items with its units, they grow,
    and the next would not fit."""
    levels = nested_levels(sizes, kernel, step)
    ends = np.cumsum(sizes)
    wanted = [kernel + i * step for i in range(100) if len(ends) and kernel + i * step <= ends[-1]]
    by_hand = sorted({next(n for n, end in enumerate(ends, 1) if end >= want) for want in wanted})
    assert [level.items for level in levels] == by_hand
    assert [level.number for level in levels] == list(range(1, len(levels) + 1))
    assert [level.units for level in levels] == [int(ends[items - 1]) for items in by_hand]


def test_the_made_up_language() -> None:
    """Oracle: the laws it is made by: samples are prefixes of one another, splits differ, new words go on."""
    small, large = made_sentences("train", 500, 10), made_sentences("train", 4000, 10)
    assert large.sentences[: len(small)] == small.sentences
    assert 500 <= small.words < 530 and large.classes == TAGS
    assert made_sentences("test", 500, 10).sentences[:3] != small.sentences[:3]
    words = [word for sentence in large.sentences for word in sentence]
    halves = set(words[: len(words) // 2]), words[len(words) // 2 :]
    new = np.mean([word not in halves[0] for word in halves[1]])
    assert 0.05 < new < 0.4
    assert set(made_sentences("train", 800, 4).labels.tolist()) == {0, 1, 2, 3}
