"""Tables of mixed types as they come: from files, frames and dictionaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.mixed_tables import Table, chosen_kinds, numbers, table_of, texts


def test_every_source_gives_the_same_cells(tmp_path: Path) -> None:
    """Oracle: one table given in four ways, gaps among them, read as the same numbers and texts."""
    frame = pandas.DataFrame({"age": [31.0, None, 5.0], "city": ["Oslo", "Rome", None]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    sources = [frame, {"age": [31, None, 5], "city": ["Oslo", "Rome", float("nan")]}]
    sources += [tmp_path / "t.csv", str(tmp_path / "t.parquet")]
    for source in sources:
        table = table_of(source)
        assert len(table) == 3 and list(table.cells) == ["age", "city"]
        assert table.is_numeric("age") and not table.is_numeric("city")
        assert np.array_equal(numbers(table.cells["age"], "age"), [31, np.nan, 5], equal_nan=True)
        assert texts(table.cells["city"]) == ["Oslo", "Rome", None]


def test_nullable_columns_of_data_frames() -> None:
    """Oracle: pandas' own missing value and integers come out as gaps and numbers."""
    frame = pandas.DataFrame(
        {"n": pandas.array([1, None, 3], dtype="Int64"), "c": pandas.Categorical(["a", None, "b"])}
    )
    table = table_of(frame)
    assert np.array_equal(numbers(table.cells["n"], "n"), [1, np.nan, 3], equal_nan=True)
    assert texts(table.cells["c"]) == ["a", None, "b"]


def test_what_counts_as_missing() -> None:
    """Oracle: the texts that stand for nothing, in any case and with blanks; "0" and "no" do not."""
    cells = np.array(["", " ? ", "NA", "n/a", "NaN", "null", "None", "0", "no"], dtype=object)
    assert texts(cells) == [None] * 7 + ["0", "no"]


def test_kinds_are_found_and_can_be_chosen() -> None:
    """Oracle: numbers in text are numbers, truth values are not; the user's word goes before looks."""
    table = table_of(
        {"n": ["1", "2.5", ""], "code": [10, 20, 30], "yes": [True, False, True], "empty": ["", None, "?"]}
    )
    assert [table.is_numeric(name) for name in table.cells] == [True, True, False, False]
    chosen = chosen_kinds(table, [], ["code"])
    assert not chosen.is_numeric("code") and chosen.only(slice(2)).categorical == ("code",)
    with pytest.raises(UsageError, match=r"no column 'cod'.*'code'"):
        chosen_kinds(table, ["cod"], [])
    with pytest.raises(UsageError, match="'n' is given as numeric and as categorical"):
        chosen_kinds(table, ["n"], ["n"])


@pytest.mark.parametrize("cells", [[1.0, float("inf"), 2.0], ["1", "-inf", "2"], ["1", "two", "3"]])
def test_cells_that_are_no_finite_number_are_named_by_row(cells: list[object]) -> None:
    """Oracle: the second row, for floats and for text; a gap is not one."""
    column = table_of({"x": cells}).cells["x"]
    with pytest.raises(DataError, match=r"1 cells of x are no finite numbers: rows 2 \(row 2 has"):
        numbers(column, "x")


def test_rows_that_are_none() -> None:
    """Oracle: each kind of input that is no table says what it is."""
    for wrong, words in (
        ({}, "the same number of rows.*none"),
        ({"a": [], "b": []}, "a: 0, b: 0"),
        ({"a": [1], "b": [1, 2]}, "a: 1, b: 2"),
        ([[1, 2]], "given as list"),
        ({"a": [[1, 2], "x"]}, "Row 1 of the column is not a single value"),
    ):
        with pytest.raises(DataError, match=words):
            texts(table_of(wrong).cells["a"])


def test_rows_and_columns_are_taken_out() -> None:
    """Oracle: the cells by hand; the table itself stays as it is."""
    table = Table("t", {"a": np.arange(4), "b": np.arange(4) * 10})
    assert table.only(np.array([3, 1])).cells["b"].tolist() == [30, 10]
    assert list(table.without("a").cells) == ["b"] and list(table.cells) == ["a", "b"]
