from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.evaluation.gratification import delayed_gratification


def plainly(series: list[int]) -> tuple[list[float], bool]:
    """The gains by a walk over the series, and whether it ends in a rise."""
    kept = [value for i, value in enumerate(series) if i == 0 or value != series[i - 1]]
    turns = [
        i
        for i in range(len(kept))
        if i in (0, len(kept) - 1) or (kept[i] - kept[i - 1]) * (kept[i + 1] - kept[i]) < 0
    ]
    heights = [kept[i] for i in turns]
    if len(heights) > 1 and heights[1] < heights[0]:
        heights = heights[1:]
    gains = []
    while len(heights) >= 3:
        low, top, end = heights[:3]
        gains.append(((top - end) - (top - low)) / (top - low))
        heights = heights[2:]
    return gains, len(heights) == 2


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([5, 6, 7, 3, 3, 4, 2], 1.0),  # +2 -4, +1 -2
        ([9, 5, 5, 1], 0.0),  # only better
        ([9, 4, 6, 1], 1.5),  # the fall at the start is skipped: +2 -5
        ([1, 2, 3], 0.0),  # a rise without a fall
        ([1, 3, 2], -0.5),  # less won back than lost
        ([], 0.0),
        ([4], 0.0),
        ([4, 4], 0.0),
    ],
)
def test_by_hand(series: list[int], expected: float) -> None:
    """Oracle: segments written down by hand."""
    assert delayed_gratification(series) == expected
    assert delayed_gratification([-value for value in series], higher_is_better=True) == expected


def test_the_authors_program() -> None:
    """Oracle: by hand: gains 1 and 3; the sum where a rise ends the series, else the mean."""
    assert (
        delayed_gratification([5, 6, 4, 5, 1]) == delayed_gratification([5, 6, 4, 5, 1], released=True) == 2
    )
    assert delayed_gratification([5, 6, 4, 5, 1, 2]) == 2
    assert delayed_gratification([5, 6, 4, 5, 1, 2], released=True) == 4


@given(st.lists(st.integers(0, 6), max_size=25))
def test_against_a_walk(series: list[int]) -> None:
    """Oracle: the plain second implementation above."""
    gains, rising = plainly(series)
    mean = sum(gains) / len(gains) if gains else 0.0
    assert delayed_gratification(series) == pytest.approx(mean)
    released = sum(gains) if rising else mean
    assert delayed_gratification(series, released=True) == pytest.approx(released)


def test_values_that_are_not_finite() -> None:
    """Oracle: refused, in a loss that diverged for instance."""
    with pytest.raises(DataError, match="finite"):
        delayed_gratification([1.0, np.inf, 0.5])
