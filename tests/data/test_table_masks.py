"""Which columns are shown and which are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data.table_masks import ColumnMasks


def test_ten_thousand_draws() -> None:
    """Oracle: sizes by hand, all of them occur; context and targets share none, none is twice."""
    masks, columns, rows = ColumnMasks(context=(0.2, 0.5), target=(0.15, 0.5), targets=3), 14, np.arange(10)
    seen = set()
    for step in range(1000):
        context, targets = masks(columns, step, rows)
        assert context.shape[0] == 10 and targets.shape[:2] == (3, 10)
        seen.add((context.shape[1], targets.shape[2]))
        for row in range(10):
            assert len(set(context[row])) == context.shape[1]
            for mask in range(3):
                assert len(set(targets[mask, row])) == targets.shape[2]
            assert not set(context[row]) & set(targets[:, row].ravel())
        assert context.min() >= 0 and max(context.max(), targets.max()) < columns
    assert {size for size, _ in seen} == set(range(3, 8)) and {size for _, size in seen} == set(range(2, 8))


def test_columns_are_drawn_evenly_and_masks_differ() -> None:
    """Oracle: each column is context, and target, as often as its share says, within 5 standard errors."""
    masks = ColumnMasks(context=(0.2, 0.21), target=(0.3, 0.31), targets=2)
    context, targets = masks(10, 1, np.arange(20_000))
    for places, share in ((context, 0.2), (targets[0], 0.3), (targets[1], 0.3)):
        counts = np.bincount(places.ravel(), minlength=10) / 20_000
        assert np.abs(counts - share).max() < 5 * np.sqrt(share * (1 - share) / 20_000)
    assert (np.sort(targets[0]) != np.sort(targets[1])).any(1).mean() > 0.9


def test_a_row_has_its_own_columns_whatever_the_batch() -> None:
    """Oracle: the masks of a row alone equal those within a batch; another step gives others."""
    masks = ColumnMasks()
    context, targets = masks(12, 5, np.arange(30))
    alone = masks(12, 5, np.array([17]))
    assert np.array_equal(alone.context[0], context[17]) and np.array_equal(
        alone.targets[:, 0], targets[:, 17]
    )
    assert not np.array_equal(masks(12, 6, np.array([17])).context, alone.context)


@settings(deadline=None)
@given(st.integers(2, 60), st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.integers(0, 50))
def test_drawing_ends_where_the_least_shares_fit(
    columns: int, context: float, target: float, key: int
) -> None:
    """Oracle: least shares of at most 1 in sum give sizes of at most D in sum; others are refused."""
    masks = ColumnMasks(context=(context, 1.0), target=(target, 1.0))
    if context + target > 1:
        with pytest.raises(UsageError, match="more than all columns together"):
            masks.validate()
        return
    masks.validate()
    shown, asked = masks.sizes(columns, key)
    assert shown + asked <= columns


def test_halves_of_an_odd_number_of_columns_fit() -> None:
    """Oracle: half of 3 columns twice: 1 and 1, where rounding halves up would never end."""
    masks = ColumnMasks(context=(0.5, 0.51), target=(0.5, 0.51))
    assert masks.sizes(3, 0) == (1, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"context": (0.5, 0.5)},
        {"context": (0.6, 0.5)},
        {"target": (0.0, 0.5)},
        {"target": (0.5, 1.1)},
        {"context": (0.6, 0.7), "target": (0.5, 0.6)},
        {"targets": 0},
    ],
)
def test_shares_that_cannot_be(fields: dict[str, object]) -> None:
    """Oracle: each out of range; the defaults pass."""
    with pytest.raises(UsageError):
        ColumnMasks(**fields).validate()  # type: ignore[arg-type]
    ColumnMasks().validate()


def test_too_few_columns() -> None:
    """Oracle: the number of columns and the smallest legal share are named, and that share is legal."""
    masks = ColumnMasks(context=(0.05, 0.1), target=(0.2, 0.5))
    with pytest.raises(UsageError, match=r"table's 8 columns.*give one column are 0\.063"):
        masks.require(8)
    ColumnMasks(context=(0.063, 0.1)).require(8)
    with pytest.raises(UsageError, match="has 1 column that varies"):
        masks.require(1)
