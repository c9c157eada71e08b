"""Clusters against classes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.evaluation.clustering import matched_accuracy


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_best_pairing(pairs: list[tuple[int, int]]) -> None:
    """Oracle: every one-to-one renaming of four clusters tried."""
    labels, found = (np.array(side) for side in zip(*pairs, strict=True))
    best = max(float((np.array(order)[found] == labels).mean()) for order in itertools.permutations(range(4)))
    assert abs(matched_accuracy(labels, found) - best) < 1e-12
