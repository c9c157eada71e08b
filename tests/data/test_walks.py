"""Walks: what is at hand after going back, and text that says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.data.walks import SYMBOLS, WORDS, branches, last_branch

STEPS = st.text("0123456789+-*/=; ", min_size=1)
WALKS = st.lists(st.one_of(STEPS, st.integers(0, 9)))


@pytest.mark.parametrize("returns", [SYMBOLS, WORDS], ids=lambda returns: returns.name)
@given(walk=WALKS)
def test_text_and_walk_are_the_same(returns, walk) -> None:
    """Oracle: the identity, both ways: walk -> text -> walk and text -> walk -> text."""
    text = returns.write(walk)
    lines = text.split("\n")[:-1]
    assert returns.read(lines) == walk
    assert returns.write(returns.read(lines)) == text


@given(WALKS)
def test_branches(walk) -> None:
    """Oracle: a stack, item by item: numbers cut it; one that cuts nothing cannot be followed."""
    stack, left = [], []
    for item in walk:
        if isinstance(item, str):
            stack = [*stack, item]
        elif item < len(stack):
            left, stack = [*left, tuple(stack)], stack[:item]
        else:
            assert branches(walk) is None and last_branch(walk) == ()
            return
    assert branches(walk) == [*left, tuple(stack)]
    assert last_branch(walk) == tuple(stack)


def test_words_name_the_step() -> None:
    """Oracle: sentences written by hand, as a model may put them."""
    lines = ["So x = 3.", "Hmm, that is odd. Let me go back to step 12 and redo it.", "Now x = 4."]
    assert WORDS.read(lines) == ["So x = 3.", 12, "Now x = 4."]
    assert WORDS.read(["I must go back to the step before."]) == ["I must go back to the step before."]
