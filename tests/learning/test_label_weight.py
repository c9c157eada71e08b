"""The weight of the labels from two fits: the least-squares mix, its limits and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.learning.label_weight import estimate_alpha


def three(seed: int, *shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    f, g, y = np.random.default_rng(seed).normal(size=(3, *shape))
    return f, g, y


@pytest.mark.parametrize("seed", range(3))
def test_a_line_search_finds_the_same(seed: int) -> None:
    """Oracle: the least error on 100,001 weights."""
    f, g, y = three(seed, 20)
    grid = np.linspace(-5, 5, 100_001)
    errors = ((grid[:, None] * f + (1 - grid[:, None]) * g - y) ** 2).sum(1)
    assert estimate_alpha(f, g, y, clip=None) == pytest.approx(grid[errors.argmin()], abs=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([(7,), (5, 3)]))
def test_never_worse_than_either_fit(seed: int, shape: tuple[int, ...]) -> None:
    """Oracle: the law that the error at the weight is at most those at 1 and 0, clipped or not."""
    f, g, y = three(seed, *shape)
    least = min(((f - y) ** 2).sum(), ((g - y) ** 2).sum())
    for clip in (None, (0.0, 1.0)):
        alpha = estimate_alpha(f, g, y, clip=clip)
        assert ((alpha * f + (1 - alpha) * g - y) ** 2).sum() <= least + 1e-9
        assert clip is None or 0 <= alpha <= 1


def test_outputs_share_one_weight() -> None:
    """Oracle: inner products summed over the columns."""
    f, g, y = three(4, 9, 3)
    above = sum(((y - g)[:, c] * (f - g)[:, c]).sum() for c in range(3))
    assert estimate_alpha(f, g, y, clip=None) == pytest.approx(above / ((f - g) ** 2).sum())


def test_the_same_fit_twice_and_bad_input() -> None:
    """Oracle: 1 by definition; shapes, gaps and no items at all are named."""
    assert estimate_alpha([1.0, 2.0], [1.0, 2.0 + 1e-8], [5.0, 5.0], clip=None) == 1
    with pytest.raises(DataError, match=r"shapes are \(2,\), \(2,\) and \(3,\)"):
        estimate_alpha([1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="at least one"):
        estimate_alpha([], [], [])
    with pytest.raises(DataError, match="not finite"):
        estimate_alpha([np.nan], [1.0], [1.0])
