"""A user's table as columns."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.tables import finite_numbers, read_columns, require_column


def test_every_kind_of_file_gives_the_same_columns(tmp_path: Path) -> None:
    """Oracle: one table written in four ways; cells of text files are text where the file has no types."""
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2.5,y\n")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n2.5,y\n"))
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": "x"}\n{"a": 2.5, "b": "y"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2.5], "b": ["x", "y"]}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.csv.gz", "t.jsonl", "t.parquet"):
        columns = read_columns(str(tmp_path / name))
        assert list(columns) == ["a", "b"] and columns["b"] == ["x", "y"]
        assert np.array_equal(finite_numbers(name, "a", columns["a"]), [1.0, 2.5])


def test_a_column_that_begins_late_is_a_column(tmp_path: Path) -> None:
    """Oracle: the rows as written; what is absent is None."""
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n{"a": 2, "b": 3}\n')
    assert read_columns(str(tmp_path / "t.jsonl")) == {"a": [1, 2], "b": [None, 3]}


def test_the_built_in_table() -> None:
    """Oracle: scikit-learn's own shape."""
    columns = read_columns("diabetes")
    assert len(columns) == 11 and {len(cells) for cells in columns.values()} == {442} and "target" in columns


def test_faults_are_named(tmp_path: Path) -> None:
    """Oracle: the message names the row, the column and the cell."""
    with pytest.raises(UsageError, match=r"none of \.csv, \.parquet, \.jsonl"):
        read_columns("table.xlsx")
    (tmp_path / "t.jsonl").write_text('{"a": 1}\nnot json\n')
    with pytest.raises(DataError, match=r"Row 2 of"):
        read_columns(str(tmp_path / "t.jsonl"))
    with pytest.raises(UsageError, match=r"has no column 'prize'. Did you mean 'price'"):
        require_column("t", "prize", ["price", "size"])
    for cell in ("many", "", None, float("inf"), [1]):
        with pytest.raises(DataError, match=r"Row 2 of t has .* in the column 'a'"):
            finite_numbers("t", "a", [1, cell])
