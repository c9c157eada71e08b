from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.random import derive
from selfstudy.models.sorting import kernels


def test_draws_are_those_of_the_project() -> None:
    """Oracle: `core.random.derive`, followed by hand; in the uniform schedule the upper half picks cells."""
    key, n, steps = 2**63 + 12345, 7, 400
    cells = np.zeros(n, kernels.CELL)
    cells["place"], cells["value"], cells["kind"] = np.arange(n), [3, 1, 4, 1, 5, 2, 6], kernels.BUBBLE
    state = (cells, np.arange(n), np.arange(n), np.ones(2, np.int64), np.zeros(2, np.int64))
    swaps = np.empty((100, 2), np.int32)
    done, _ = kernels.act(*state, np.zeros(4, np.int64), swaps, True, True, 0, np.uint64(key), steps)
    values, at, expected = [3, 1, 4, 1, 5, 2, 6], list(range(n)), []
    for number in derive(np.array(key, np.uint64), np.arange(steps)).tolist():
        p = at.index((number >> 32) * n >> 32)
        q = p + 1 if number >> 31 & 1 else p - 1
        low, high = sorted((p, q))
        if low >= 0 and high < n and values[at[low]] > values[at[high]]:
            at[p], at[q] = at[q], at[p]
            expected.append([p, q])
    assert swaps[:done].tolist() == expected and len(expected) == 6


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n=st.integers(2, 9), equal=st.booleans())
def test_pairs_over_time(data, n: int, equal: bool) -> None:
    """Oracle: the pairs counted anew after each swap."""
    values = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int32)
    place = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(place, place).filter(lambda pair: pair[0] != pair[1]), max_size=12))
    now, expected = values.copy(), []
    for p, q in [(0, 0), *pairs]:
        now[[p, q]] = now[[q, p]]
        expected.append(sum(a == b if equal else a > b for a, b in itertools.pairwise(now)))
    swaps = np.array(pairs, np.int32).reshape(-1, 2)
    assert kernels.pairs_over_time(values, swaps, equal).tolist() == expected
    assert values[kernels.replay(n, swaps)].tolist() == now.tolist()
