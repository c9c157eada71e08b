from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from selfstudy.data.splits import split_of


def test_shares():
    """Oracle: 70/10/20 % within five standard deviations of a binomial."""
    splits = [split_of(f"question {number}") for number in range(10_000)]
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(splits.count(split) / 10_000 - share) < 5 * (share * (1 - share) / 10_000) ** 0.5


@given(st.text())
def test_a_text_keeps_its_side_when_there_is_no_test_part(text):
    """Oracle: widening train never takes a text out of train."""
    if split_of(text) == "train":
        assert split_of(text, train_end=0.9, validation_end=1.0) == "train"
