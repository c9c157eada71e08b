"""Arrays to be sorted: permutations, duplicates or rows of a table's column, with cells that break.

Each array is a function of its own key, so it is the same alone and among others. Damage is nested: the cells
that are broken among three are among those broken of four, which pairs the settings of a comparison.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import derive, uniforms
from selfstudy.data.tables import finite_numbers, read_columns, require_column

MODES = ("movable", "immovable")
_VALUES, _BREAKS, _SCHEDULE, _LABELS = range(4)  # the streams of an array


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """B arrays of n cells; a cell is known by its first position."""

    values: np.ndarray
    """[B, n] float64."""
    breaks: np.ndarray
    """[B, n] when each cell breaks: 0 for the first one."""
    keys: np.ndarray
    """[B] uint64, of the arrays' streams."""
    broken: int = 0
    """Frozen cells in each array: they never act."""
    mode: str = "movable"
    """Whether others may swap with frozen cells: "movable" or "immovable"."""
    width: int = 0
    """Of a lattice in reading order; 0 for a line."""

    @property
    def frozen(self) -> np.ndarray:
        """[B, n] which cells are frozen."""
        return self.breaks < self.broken

    @property
    def schedules(self) -> np.ndarray:
        """[B] uint64 keys of the streams that decide which cell acts when."""
        return derive(self.keys, _SCHEDULE)

    def damaged(self, broken: int, mode: str) -> Arrays:
        """Return the same arrays with so many frozen cells.

        Raises:
            UsageError: more than there are cells, or no such mode.
        """
        require_damage(broken, mode, self.values.shape[1])
        return dataclasses.replace(self, broken=broken, mode=mode)

    def labels(self, share: float = 0.5) -> np.ndarray:
        """Return labels 0 and 1 at random, [B, n] int8: `share` of the cells of each array are 0."""
        n = self.values.shape[1]
        return (_permutations(self.keys, _LABELS, n) >= round(share * n)).astype(np.int8)


def require_damage(broken: int, mode: str, length: int) -> None:
    """Raise `UsageError` unless arrays of `length` cells can have this damage."""
    if not 0 <= broken <= length:
        raise UsageError(
            f"An array of {length} cells cannot have {broken} frozen ones. Give frozen within 0 to {length}."
        )
    if mode not in MODES:
        raise UsageError(f"Unknown mode {mode!r} of frozen cells. {nearest(mode, MODES)}")


def draw_arrays(
    keys: np.ndarray,
    length: int,
    *,
    levels: int = 0,
    column: np.ndarray | None = None,
    broken: int = 0,
    mode: str = "movable",
    width: int = 0,
) -> Arrays:
    """Return one array for each key.

    >>> draw_arrays(np.arange(2, dtype=np.uint64), 4, levels=2).values.tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0]]

    Args:
        keys: [B] uint64.
        length: n, cells of an array.
        levels: different values, each about as often; 0 for a permutation of 0 .. n-1.
        column: values to take from instead: a random `length` of its rows in a random order.
        broken: frozen cells.
        mode: "movable" or "immovable".
        width: of a lattice, or 0.

    Raises:
        UsageError: sizes or damage that cannot be.
        DataError: the column has fewer rows than an array, or a value that is not finite.
    """
    if length < 0 or levels < 0 or levels > length:
        raise UsageError(
            f"Arrays of length={length} with duplicates={levels} different values cannot be made: give a "
            "length of 0 or more, and from 1 to length different values, or 0 for all different."
        )
    require_damage(broken, mode, length)
    require_width(width, length)
    keys = np.asarray(keys, dtype=np.uint64)
    if column is None:
        values = _permutations(keys, _VALUES, length)
        values = values * levels // length if levels else values
    else:
        if len(column) < length:
            raise DataError(
                f"The column has {len(column)} rows, fewer than an array's length={length}. "
                f"Give length={len(column)} or less, or a longer table."
            )
        require_numbers(column)
        values = column[_permutations(keys, _VALUES, len(column))[:, :length]]
    return Arrays(
        values=values.astype(np.float64),
        breaks=_permutations(keys, _BREAKS, length),
        keys=keys,
        broken=broken,
        mode=mode,
        width=width,
    )


def require_width(width: int, length: int) -> None:
    """Raise `UsageError` unless `length` cells fill whole rows of a lattice of `width`."""
    if width < 0 or (width and length % width):
        raise UsageError(
            f"A lattice of width={width} cannot hold {length} cells: give a divisor of that, or 0."
        )


def require_numbers(values: np.ndarray) -> None:
    """Raise `DataError` where a value is no finite number."""
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise DataError(
            f"Value {wrong[0] + 1} of {len(values)} is {values[wrong[0]]}, which is no finite number. "
            "Fill it in, or take it out."
        )


def read_column(source: str, name: str) -> np.ndarray:
    """Return a column of a user's table, float64.

    Args:
        source: a .csv, .parquet or .jsonl file (also .gz), or "diabetes", scikit-learn's built-in table.
        name: of the column.

    Raises:
        UsageError: no such column, or a kind of file that is not read.
        DataError: a row that cannot be read or a cell that is no finite number.
    """
    columns = read_columns(source)
    require_column(source, name, columns)
    return finite_numbers(source, name, columns[name])


def _permutations(keys: np.ndarray, stream: int, n: int) -> np.ndarray:
    """Return a random permutation of 0 .. n-1 for each key, [B, n]."""
    return np.argsort(uniforms(derive(keys, stream)[:, None], np.arange(n)), axis=1)
