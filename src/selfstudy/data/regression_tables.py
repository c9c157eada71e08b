"""Tables as a source of regression problems: numeric columns, rows split by hash, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.readers import plain_text
from selfstudy.data.regression import Rows
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.data.tables import DIABETES, finite_numbers, number, read_columns, require_column


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
    values = read_columns(source)
    for name in [*columns, *([target] if target else [])]:
        require_column(source, name, values)
    features = list(columns) or [
        name for name in values if name != target and not (source == DIABETES and name == "target")
    ]
    if target in features:
        raise UsageError(f"The column {target!r} is the target and cannot be a feature too.")
    if not columns:
        features = [name for name in features if _is_numeric(values[name])]
    if not features:
        raise DataError(f"The table {source} has no numeric column that could be a feature.")
    x = np.stack([finite_numbers(source, name, values[name]) for name in features], 1)
    y = finite_numbers(source, target, values[target]) if target else None
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


def _is_numeric(cells: Sequence[Any]) -> bool:
    """Tell whether the first cell that is not empty is a number; a fault further down is an error."""
    filled = (cell for cell in cells if not isinstance(cell, str | int | float | None) or plain_text(cell))
    first = next(filled, None)
    return first is not None and not np.isnan(number(first))
