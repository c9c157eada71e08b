"""Tables as a source of regression problems: numeric columns, rows split by hash, standardised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.readers import plain_text, read_rows
from selfstudy.data.regression import Rows
from selfstudy.data.splits import SPLITS, split_of

KINDS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl"}
DIABETES = "diabetes"


class Table(NamedTuple):
    """A table ready for sampling."""

    columns: list[str]
    """Names of the features."""
    splits: dict[str, Rows]
    """Standardised rows of "train", "validation" and "test"; equal rows are in one split."""


def read_table(source: str, target: str = "", columns: Sequence[str] = ()) -> Table:
    """Read a table of numbers.

    Args:
        source: a .csv, .parquet or .jsonl file (also .gz), or "diabetes", scikit-learn's built-in set.
        target: column of the answers; empty if there is none.
        columns: feature columns; all numeric ones but the target where empty.

    Raises:
        UsageError: a column that is not there, or a kind of file that is not read.
        DataError: rows that cannot be read, cells that are not finite numbers, or an empty split.
    """
    names, values = _diabetes() if source == DIABETES else _file(source)
    for name in [*columns, *([target] if target else [])]:
        if name not in names:
            raise UsageError(f"The table {source} has no column {name!r}. Its columns: {', '.join(names)}.")
    features = list(columns) or [
        name for name in names if name != target and not (source == DIABETES and name == "target")
    ]
    if target in features:
        raise UsageError(f"The column {target!r} is the target and cannot be a feature too.")
    if not columns:
        features = [name for name in features if _is_numeric(values[name])]
    if not features:
        raise DataError(f"The table {source} has no numeric column that could be a feature.")
    x = np.stack([_numbers(source, name, values[name]) for name in features], 1)
    y = _numbers(source, target, values[target]) if target else None
    places = np.array([split_of(",".join(map(repr, row))) for row in x.tolist()])
    train = places == "train"
    if not all((places == split).any() for split in SPLITS):
        raise DataError(
            f"The table {source} has {len(x)} rows, too few for rows of training, validation and test (70, "
            "10 and 20 %). Give a larger table."
        )
    x = _standardised(x, train)
    y = _standardised(y[:, None], train)[:, 0] if y is not None else None
    splits = {split: Rows(x[places == split], None if y is None else y[places == split]) for split in SPLITS}
    return Table(features, splits)


def _standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and deviation 1 over the training rows; constant ones become 0."""
    deviation = x[train].std(0)
    return (x - x[train].mean(0)) / np.where(deviation > 0, deviation, 1.0)


def _diabetes() -> tuple[list[str], dict[str, Sequence[Any]]]:
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    values = {name: found.data[:, i].tolist() for i, name in enumerate(found.feature_names)}
    return [*values, "target"], {**values, "target": found.target.tolist()}


def _file(source: str) -> tuple[list[str], dict[str, Sequence[Any]]]:
    path = Path(source)
    kind = KINDS.get(Path(path.stem).suffix if path.suffix == ".gz" else path.suffix)
    if kind is None:
        raise UsageError(f"The table {source} is none of {', '.join(KINDS)}, and not 'diabetes'.")
    rows = read_rows(path, kind)
    for row in rows:
        if row.values is None:
            raise DataError(f"Row {row.line} of {source} is {row.fault}. Mend it, or take it out.")
    names = list(rows[0].values or {})
    return names, {name: [(row.values or {}).get(name) for row in rows] for name in names}


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Tell whether the first cell that is not empty is a number; a fault further down is an error."""
    for cell in cells:
        if isinstance(cell, str | int | float | None):
            text = plain_text(cell)
            if text:
                return _number(text) is not None
        else:
            return False
    return False


def _numbers(source: str, name: str, cells: Sequence[Any]) -> np.ndarray:
    numbers = []
    for i, cell in enumerate(cells, 1):
        number = _number(cell) if isinstance(cell, str | int | float) else None
        if number is None or not math.isfinite(number):
            raise DataError(
                f"Row {i} of {source} has {cell!r} in the column {name!r}, which is no finite number. Fill "
                "it in, take the row out, or name other columns."
            )
        numbers.append(number)
    return np.array(numbers)


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
