"""A user's table as columns, and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.data.readers import plain_text, read_rows

KINDS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
DIABETES = "diabetes"


def kind_of(path: Path) -> str | None:
    """Return the kind of a table's file, such as "csv" for prices.csv.gz; None where it is none.

    >>> kind_of(Path("prices.csv.gz")), kind_of(Path("prices.txt"))
    ('csv', None)
    """
    return KINDS.get(Path(path.stem).suffix if path.suffix == ".gz" else path.suffix)


def read_columns(source: str, kind: str | None = None) -> dict[str, list[Any]]:
    """Return the cells of a table by column, in the table's order; an absent cell is None.

    Args:
        source: a .csv, .parquet or .jsonl file (also .gz), or "diabetes", scikit-learn's built-in table.
        kind: "csv", "parquet" or "jsonl", where the file's name does not tell.

    Raises:
        UsageError: a kind of file that is not read.
        DataError: the file or one of its rows cannot be read.
    """
    if source == DIABETES:
        from sklearn.datasets import load_diabetes

        found = load_diabetes()
        features = {name: found.data[:, i].tolist() for i, name in enumerate(found.feature_names)}
        return {**features, "target": found.target.tolist()}
    kind = kind or kind_of(Path(source))
    if kind is None:
        raise UsageError(f"The table {source} is none of {', '.join(KINDS)}, and not {DIABETES!r}.")
    rows = read_rows(Path(source), kind)
    for row in rows:
        if row.values is None:
            raise DataError(f"Row {row.line} of {source} is {row.fault}. Mend it, or take it out.")
    names = dict.fromkeys(name for row in rows for name in row.values or ())
    return {name: [(row.values or {}).get(name) for row in rows] for name in names}


def require_column(source: str, name: str, known: Iterable[str]) -> None:
    """Raise a UsageError unless `name` is among the columns `known` of the table `source`."""
    if name not in known:
        raise UsageError(f"The table {source} has no column {name!r}. {nearest(name, known)}")


def number(cell: Any) -> float:
    """Return a cell as a number; nan where it is none."""
    try:
        return float(plain_text(cell))
    except (TypeError, ValueError):
        return float("nan")


def finite_numbers(source: str, name: str, cells: Sequence[Any]) -> np.ndarray:
    """Return the cells of a column as float64.

    Raises:
        DataError: a cell that is no finite number; names row and column.
    """
    values = np.array([number(cell) for cell in cells])
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise DataError(
            f"Row {wrong[0] + 1} of {source} has {cells[wrong[0]]!r} in the column {name!r}, which is no "
            "finite number. Fill it in, take the row out, or name other columns."
        )
    return values
