from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import derive
from selfstudy.data.arrays import draw_arrays, read_column

KEYS = derive(np.array(5, np.uint64), np.arange(40))


def test_permutations_and_duplicates() -> None:
    """Oracle: each value once; with levels, each equally often; the same ranks otherwise."""
    plain, equal = draw_arrays(KEYS, 20), draw_arrays(KEYS, 20, levels=5)
    assert all(sorted(row) == list(range(20)) for row in plain.values)
    assert len({tuple(row) for row in plain.values}) == len(KEYS)
    assert all(np.bincount(row.astype(int)).tolist() == [4] * 5 for row in equal.values)
    assert np.array_equal(plain.values // 4, equal.values)


def test_an_array_is_a_function_of_its_key() -> None:
    """Oracle: equality of the first rows of batches of different size, values, damage and labels."""
    few, many = (draw_arrays(KEYS[:n], 12, broken=3) for n in (4, 40))
    assert np.array_equal(few.values, many.values[:4]) and np.array_equal(few.frozen, many.frozen[:4])
    assert np.array_equal(few.labels(), many.labels()[:4])
    assert np.array_equal(few.schedules, many.schedules[:4])


def test_damage_is_nested() -> None:
    """Oracle: counts, and that more damage breaks the same cells and further ones."""
    arrays = draw_arrays(KEYS, 15)
    masks = [arrays.damaged(broken, "immovable").frozen for broken in range(16)]
    assert [mask.sum(1).tolist() for mask in masks] == [[k] * len(KEYS) for k in range(16)]
    assert all((less <= more).all() for less, more in itertools.pairwise(masks))
    # 600 places of the first broken cell: each of 15 within five standard errors of 40 (false alarms 1e-5).
    many = draw_arrays(derive(np.array(6, np.uint64), np.arange(600)), 15, broken=1)
    assert (abs(many.frozen.sum(0) - 40) < 5 * (600 / 15 * 14 / 15) ** 0.5).all()
    # Their values are those of any cell: mean 7, variance (15^2 - 1) / 12.
    assert abs(many.values[many.frozen].mean() - 7) < 5 * (224 / 12 / 600) ** 0.5


def test_labels_are_shares() -> None:
    """Oracle: counts by hand; labels do not follow values."""
    arrays = draw_arrays(KEYS, 10)
    assert (arrays.labels().sum(1) == 5).all() and (arrays.labels(0.3).sum(1) == 7).all()
    means = [row[labels == 1].mean() for row, labels in zip(arrays.values, arrays.labels(), strict=True)]
    # Of 40 means of 5 of 10 values the mean is 4.5, its standard error 0.15; five of them.
    assert abs(np.mean(means) - 4.5) < 5 * (8.25 / 5 * 5 / 9 / 40) ** 0.5


def test_a_column(tmp_path: Path) -> None:
    """Oracle: the file as written; rows are taken without repetition, so ties are the column's own."""
    path = tmp_path / "scores.csv"
    path.write_text("name,x\n" + "".join(f"n{i},{value}\n" for i, value in enumerate([3, 1.5, 3, -2])))
    column = read_column(str(path), "x")
    assert column.tolist() == [3, 1.5, 3, -2]
    assert all(sorted(row) == [-2, 1.5, 3, 3] for row in draw_arrays(KEYS, 4, column=column).values)
    with pytest.raises(DataError, match="4 rows"):
        draw_arrays(KEYS, 5, column=column)
    with pytest.raises(UsageError, match="no column 'y'"):
        read_column(str(path), "y")
    with pytest.raises(DataError, match=r"Row 1 of .* 'n0'"):
        read_column(str(path), "name")
    with pytest.raises(UsageError, match="none of"):
        read_column("scores.txt", "x")
    path.write_text("x\n1\nnan\n")
    with pytest.raises(DataError, match="Row 2"):
        read_column(str(path), "x")
    path.write_text("x,y\n1,2\n3\n")
    with pytest.raises(DataError, match=r"Row 3 of .* unparsable"):
        read_column(str(path), "x")


def test_the_built_in_table() -> None:
    """Oracle: scikit-learn."""
    assert np.array_equal(read_column("diabetes", "target"), load_diabetes().target)
    assert np.array_equal(read_column("diabetes", "bmi"), load_diabetes().data[:, 2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"broken": 11}, "11 frozen"),
        ({"broken": -1}, "frozen"),
        ({"mode": "fixed"}, "movable"),
        ({"levels": 11}, "duplicates"),
        ({"width": 3}, "width"),
        ({"length": -1}, "length"),
    ],
)
def test_bad_input(options, words) -> None:
    """Oracle: what the message must name."""
    with pytest.raises(UsageError, match=words):
        draw_arrays(KEYS, **{"length": 10, **options})


def test_empty_arrays_and_values_without_order() -> None:
    """Oracle: shapes; NaN is refused."""
    assert draw_arrays(KEYS, 0).values.shape == (40, 0) and draw_arrays(KEYS[:0], 3).frozen.shape == (0, 3)
    with pytest.raises(DataError, match="Value 2"):
        draw_arrays(KEYS, 2, column=np.array([1.0, np.nan]))
