"""Tables of numbers, words and gaps, as a user brings them: a file, a data frame, a dictionary of columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.data.readers import plain_text
from selfstudy.data.tables import read_columns

ABSENT = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "<na>"})  # a cell's text, in small letters


@dataclass(frozen=True)
class Table:
    """Rows as columns of cells, without labels.

    Attributes:
        name: of the table, for messages.
        cells: by column: [N] cells, texts or numbers; what is missing is None, nan, or a text of `ABSENT`.
        numeric: columns to be read as numbers whatever they look like.
        categorical: columns to be read as categories whatever they look like.
    """

    name: str
    cells: dict[str, np.ndarray]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()))) if self.cells else 0

    def only(self, at: np.ndarray | slice) -> Table:
        """Return the table of the rows at these places."""
        return replace(self, cells={name: cells[at] for name, cells in self.cells.items()})

    def without(self, *columns: str) -> Table:
        """Return the table without these columns."""
        kept = {name: cells for name, cells in self.cells.items() if name not in columns}
        return replace(self, cells=kept)

    def is_numeric(self, column: str) -> bool:
        """Tell whether a column is one of numbers: as was said, else whether all its filled cells are."""
        if column in self.numeric or column in self.categorical:
            return column in self.numeric
        return looks_numeric(self.cells[column])


def table_of(rows: Any, name: str = "the input", *, kind: str | None = None) -> Table:
    """Return rows as a table.

    Args:
        rows: a `Table`, a data frame, a dictionary of columns, or a .csv, .parquet or .jsonl file.
        name: of the rows, for messages; a file has its own.
        kind: of the file, where its name does not tell.

    Raises:
        DataError: none of these, no row, or columns of different length.
    """
    if isinstance(rows, Table):
        return rows
    if isinstance(rows, str | Path):
        columns: Mapping[str, Any] = read_columns(str(Path(rows).expanduser()), kind)
        name = str(rows)
    elif isinstance(rows, Mapping):
        columns = rows
    elif hasattr(rows, "columns") and hasattr(rows, "__getitem__"):
        columns = {column: rows[column] for column in rows.columns}
    else:
        raise DataError(
            f"Rows are given as {type(rows).__name__}. Give a data frame, a dictionary of columns, or the "
            "path of a .csv, .parquet or .jsonl file."
        )
    cells = {str(column): _array(values) for column, values in columns.items()}
    lengths = {len(column) for column in cells.values()}
    if len(lengths) != 1 or 0 in lengths:
        found = ", ".join(f"{column}: {len(values)}" for column, values in cells.items())
        raise DataError(
            f"The columns of {name} must have the same number of rows, at least one; they have "
            f"{found or 'none'}."
        )
    return Table(name, cells)


def chosen_kinds(table: Table, numeric: Sequence[str], categorical: Sequence[str]) -> Table:
    """Return the table with kinds of columns as the user says.

    Raises:
        UsageError: a column that is not there, or named as both.
    """
    for column in (*numeric, *categorical):
        if column not in table.cells:
            raise UsageError(
                f"The table {table.name} has no column {column!r}. {nearest(column, table.cells)}"
            )
    for column in set(numeric) & set(categorical):
        raise UsageError(f"The column {column!r} is given as numeric and as categorical: name it once.")
    return replace(table, numeric=tuple(numeric), categorical=tuple(categorical))


def looks_numeric(cells: np.ndarray) -> bool:
    """Tell whether some cell is filled, and all that are filled are numbers."""
    if cells.dtype.kind in "iuf":
        return cells.dtype.kind != "f" or bool((~np.isnan(cells)).any())
    filled = [text for text in texts(cells) if text is not None]
    return bool(filled) and not any(map(_is_bool, cells)) and all(map(_is_number, filled))


def texts(cells: np.ndarray, where: str = "the column") -> list[str | None]:
    """Return cells as texts, and None for what is missing.

    Raises:
        DataError: a cell that is neither text nor number; names its row.
    """
    found: list[str | None] = []
    for row, cell in enumerate(cells.tolist()):
        try:
            text = plain_text(cell)
        except TypeError as error:
            raise DataError(
                f"Row {row + 1} of {where} is not a single value: {error}. Make it one, or leave "
                "the column out."
            ) from None
        found.append(None if text.lower() in ABSENT else text)
    return found


def numbers(cells: np.ndarray, where: str) -> np.ndarray:
    """Return cells as numbers, float64, and nan for what is missing.

    Args:
        cells: [N].
        where: column and table, for messages.

    Raises:
        DataError: cells that are no number, or infinite; names their rows.
    """
    if cells.dtype.kind in "iuf":
        values, wrong = cells.astype(np.float64), np.isinf(cells)
    else:
        read = texts(cells, where)
        values = np.array([math.nan if text is None else _number(text) for text in read])
        wrong = np.isinf(values) | (np.isnan(values) & np.array([text is not None for text in read]))
    if wrong.any():
        rows = np.flatnonzero(wrong)
        named = ", ".join(str(row + 1) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        raise DataError(
            f"{len(rows)} cells of {where} are no finite numbers: rows {named} (row {rows[0] + 1} has "
            f"{cells[rows[0]]!s}). Mend them, leave them empty, or read the column as categories."
        )
    return values


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = values if isinstance(values, np.ndarray) else None
    if array is None or array.dtype.kind not in "iuf":
        items = list(values)
        array = np.empty(len(items), dtype=object)
        array[:] = [item.item() if isinstance(item, np.generic) else _plain(item) for item in items]
    return array


def _plain(item: Any) -> Any:
    """Return None for the missing values of data frames, which are objects of their own."""
    return None if type(item).__name__ in ("NAType", "NaTType") else item


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_number(text: str) -> bool:
    return not math.isnan(_number(text))


def _is_bool(cell: Any) -> bool:
    return isinstance(cell, bool)
