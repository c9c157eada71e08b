"""Advantages of groups: numbers by hand, laws, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.advantages import KINDS, constant_groups, group_advantages

REWARDS = st.integers(2, 6).flatmap(
    lambda size: st.lists(
        st.lists(st.sampled_from((0.0, 0.5, 1.0)), min_size=size, max_size=size), min_size=1, max_size=5
    )
)


def test_numbers_by_hand() -> None:
    """Oracle: by hand, with the sample standard deviation: two answers, and nine of ten that agree."""
    assert group_advantages(np.array([[1.0, -1.0]])) == pytest.approx(
        np.array([[0.70711, -0.70711]]), abs=1e-5
    )
    agreed = group_advantages(np.array([[1.0] * 9 + [0.0]]))[0]
    assert agreed[0] == pytest.approx(0.316, abs=1e-3) and agreed[9] == pytest.approx(-2.846, abs=1e-3)
    assert group_advantages(np.array([[1.0, 0.0, 0.0]]), "dr-grpo").tolist() == [
        pytest.approx([2 / 3, -1 / 3, -1 / 3])
    ]


@given(REWARDS)
def test_laws(rewards: list[list[float]]) -> None:
    """Oracle: advantages sum to 0 in a group; constant groups have none; leave-one-out as it is defined."""
    given_ = np.array(rewards)
    for kind in KINDS:
        found = group_advantages(given_, kind)
        assert np.abs(found.sum(1)).max() < 1e-6
        assert not found[constant_groups(given_)].any()
    for row, advantages in zip(rewards, group_advantages(given_, "leave-one-out"), strict=True):
        for i, reward in enumerate(row):
            others = row[:i] + row[i + 1 :]
            assert advantages[i] == pytest.approx(reward - sum(others) / len(others))


def test_refusals() -> None:
    """Oracle: the messages name the kind, the shape, and how many are no numbers."""
    with pytest.raises(UsageError, match="leave-one-out"):
        group_advantages(np.ones((1, 2)), "leave-one-in")
    with pytest.raises(UsageError, match=r"\(3, 1\)"):
        group_advantages(np.ones((3, 1)))
    with pytest.raises(DataError, match="2 of 4"):
        group_advantages(np.array([[1.0, np.nan], [np.inf, 0.0]]))
