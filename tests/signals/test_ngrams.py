"""Kneser-Ney: a distribution, closed forms of a bigram model, and fluent above shuffled text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.signals.ngrams import DISCOUNT, END, NGrams

TEXTS = [["a", "b", "a"], ["a", "c"], ["b", "b", "c"]]


@given(st.lists(st.sampled_from(["a", "b", "c", "unseen"]), max_size=4), st.integers(1, 4))
def test_it_is_a_distribution(context: list[str], order: int) -> None:
    """Oracle: the known words and the end sum to 1 after any context."""
    model = NGrams(TEXTS, order)
    total = sum(model.probability(tuple(context), word) for word in ("a", "b", "c", END))
    assert total == pytest.approx(1)


def test_bigrams_by_hand() -> None:
    """Oracle: p(b | a): seen once of 3 after a; the rest goes to how many words b follows, 3 of 9."""
    model = NGrams(TEXTS, 2)
    # Runs of two: <s>a x2, ab, ba, a</s>, ac, c</s> x2, <s>b, bb, bc: 9 kinds. b follows a, <s>, b: 3 of 9.
    lower = (3 - DISCOUNT) / 9 + DISCOUNT * 4 / 9 / 4
    after_a = (1 - DISCOUNT) / 3 + DISCOUNT * 3 / 3 * lower
    assert model.probability(("a",), "b") == pytest.approx(after_a)


def test_logprobs_are_those_of_each_word_and_the_end() -> None:
    """Oracle: the chain rule, word by word; a beginning that is given is not counted."""
    model = NGrams(TEXTS, 3)
    whole = model.logprobs(["a", "b", "a"])
    assert len(whole) == 4 and model.logprobs(["b", "a"], before=["a"]) == pytest.approx(whole[1:])
    assert whole[1] == pytest.approx(math.log(model.probability(("<s>", "a"), "b")))


def test_seen_text_is_likelier_than_its_words_in_another_order() -> None:
    """Oracle: the order matters from two words on."""
    text = ["it", "is", "a", "film", "that", "one", "will", "not", "forget"]
    model = NGrams([text, ["a", "film", "is", "a", "film"]], 4)
    assert sum(model.logprobs(text)) > sum(model.logprobs(sorted(text))) + 5
