from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.search.best_of import best_of, majority, weighted_vote

answers = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12)


def test_best_of():
    """Closed forms: the first of equals; nothing to choose from is an error."""
    assert best_of([0.1, 0.9, 0.9, 0.3]) == 1
    assert best_of([-2.0]) == 0
    with pytest.raises(UsageError, match="at least one"):
        best_of([])


@given(answers)
def test_majority_equals_counting(votes):
    """Oracle: collections.Counter, which also lists equals by first appearance."""
    counted = Counter(vote for vote in votes if vote is not None).most_common(1)
    assert majority(votes) == (counted[0][0] if counted else None)


@given(answers, st.floats(0.1, 5.0))
def test_equal_weights_are_a_majority(votes, weight):
    """Limit: one weight for all, and the answers keep their order of first appearance."""
    assert weighted_vote(votes, [1.0] * len(votes)) == majority(votes)
    assert weighted_vote([*votes, "z"], [0.0] * len(votes) + [weight]) == "z"


def test_weighted_vote_by_hand():
    """Closed forms: sums decide, None has no vote, equals go to the first seen."""
    assert weighted_vote(["a", "b", "b"], [0.9, 0.5, 0.5]) == "b"
    assert weighted_vote([None, "b"], [9.0, 0.1]) == "b"
    assert weighted_vote(["b", "a"], [0.5, 0.5]) == "b"
    assert weighted_vote([], []) is None and weighted_vote([None], [1.0]) is None
    with pytest.raises(UsageError, match="2 answers and 1 weights"):
        weighted_vote(["a", "b"], [1.0])
