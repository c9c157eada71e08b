"""The columns of a table as an encoder reads them: fitted on training rows, saved with it as JSON."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError, nearest
from selfstudy.data.mixed_tables import Table, numbers, texts
from selfstudy.data.splits import text_key

UNKNOWN, ABSENT, FIRST = 0, 1, 2  # codes of a category never seen, of a gap, and of the first category
MOST_CATEGORIES = 1000  # a column with more is hashed into as many
LOWEST, HIGHEST = -0.5, 1.5  # of scaled numbers: rows beyond the training range are cut off here


class Rows(NamedTuple):
    """N rows as numbers and codes."""

    numbers: torch.Tensor  # [N, D_n] float32: 0 is the lowest of the training rows, 1 the highest
    codes: torch.Tensor  # [N, D_c] int64

    def at(self, places: Any) -> Rows:
        """Return the rows at these places."""
        return Rows(self.numbers[places], self.codes[places])


@dataclass(frozen=True, kw_only=True)
class NumericColumn:
    """A column of numbers; `gaps` says that a second column tells where it was missing."""

    name: str
    low: float
    high: float
    median: float
    gaps: bool


@dataclass(frozen=True, kw_only=True)
class CategoricalColumn:
    """A column of categories, or of the hashes of so many that they have no code each."""

    name: str
    categories: tuple[str, ...]
    buckets: int = 0

    @property
    def cardinality(self) -> int:
        """Number of codes, that of a category never seen and that of a gap among them."""
        return FIRST + (self.buckets or len(self.categories))

    def codes(self, cells: np.ndarray, where: str) -> np.ndarray:
        """Return the codes of cells: [N], int64."""
        known = {category: FIRST + place for place, category in enumerate(self.categories)}
        found = texts(cells, where)
        if self.buckets:
            known = {text: FIRST + int(text_key(text), 16) % self.buckets for text in set(found) if text}
        return np.array([ABSENT if text is None else known.get(text, UNKNOWN) for text in found])


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """D columns: the numeric ones, each with one that tells its gaps if it has any, then the categorical."""

    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]

    @classmethod
    def fitted(cls, table: Table) -> Self:
        """Learn ranges, medians and categories from the rows of `table`.

        A constant or empty column is left out, and one of more than `MOST_CATEGORIES` categories hashed;
        both with a warning.

        Raises:
            DataError: no column is left, or cells that cannot be read.
        """
        numeric, categorical, dropped = [], [], []
        for name in table.cells:
            column = _fitted(table, name)
            if column is None:
                dropped.append(name)
            elif isinstance(column, NumericColumn):
                numeric.append(column)
            else:
                categorical.append(column)
        if not numeric and not categorical:
            raise DataError(
                f"All {len(table.cells)} columns of {table.name} are constant or empty in its {len(table)} "
                "training rows, so there is nothing to learn from them."
            )
        if dropped:
            warnings.warn(
                f"Columns of {table.name} that are constant or empty in the training rows are left out: "
                f"{', '.join(dropped)}.",
                stacklevel=2,
            )
        return cls(numeric=tuple(numeric), categorical=tuple(categorical))

    @property
    def numeric_names(self) -> list[str]:
        """Names of the D_n columns of numbers, in order."""
        return [
            name
            for column in self.numeric
            for name in (column.name, f"{column.name} is missing")[: 1 + column.gaps]
        ]

    @property
    def names(self) -> list[str]:
        """Names of all D columns, in order."""
        return [*self.numeric_names, *(column.name for column in self.categorical)]

    @property
    def sources(self) -> list[str]:
        """Names of the table's columns that are read."""
        return [*(column.name for column in self.numeric), *(column.name for column in self.categorical)]

    @property
    def cardinalities(self) -> list[int]:
        """Codes of each categorical column."""
        return [column.cardinality for column in self.categorical]

    def __len__(self) -> int:
        return len(self.names)

    def require(self, table: Table) -> None:
        """Raise a DataError for a column that `table` lacks; it may have others."""
        for name in self.sources:
            if name not in table.cells:
                raise DataError(
                    f"{table.name} has no column {name!r}, which this encoder reads. "
                    f"{nearest(name, table.cells)}"
                )

    def rows(self, table: Table) -> Rows:
        """Return the rows of a table as numbers and codes.

        A missing number becomes the median of the training rows; a category that they do not have, `UNKNOWN`.

        Raises:
            DataError: a column that is missing, or cells that are no finite numbers; names the rows.
        """
        self.require(table)
        scaled: list[np.ndarray] = []
        for column in self.numeric:
            values = numbers(table.cells[column.name], _where(table, column.name))
            gaps = np.isnan(values)
            if gaps.any() and not column.gaps:
                warnings.warn(
                    f"The column {column.name!r} of {table.name} has {gaps.sum()} missing numbers, and had "
                    f"none in the training rows: their median {column.median:g} is put in.",
                    stacklevel=2,
                )
            filled = np.where(gaps, column.median, values)
            scaled.append(np.clip((filled - column.low) / (column.high - column.low), LOWEST, HIGHEST))
            if column.gaps:
                scaled.append(gaps.astype(np.float64))
        codes = [
            column.codes(table.cells[column.name], _where(table, column.name)) for column in self.categorical
        ]
        return Rows(
            torch.from_numpy(_stacked(scaled, len(table), np.float32)),
            torch.from_numpy(_stacked(codes, len(table), np.int64)),
        )

    def one_hot(self, rows: Rows) -> torch.Tensor:
        """Return rows as raw features: [N, D_n + sum of cardinalities], float32."""
        hot = [
            torch.nn.functional.one_hot(rows.codes[:, place], count).float()
            for place, count in enumerate(self.cardinalities)
        ]
        return torch.cat([rows.numbers, *hot], 1)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(
            numeric=tuple(NumericColumn(**column) for column in found["numeric"]),
            categorical=tuple(
                CategoricalColumn(**{**column, "categories": tuple(column["categories"])})
                for column in found["categorical"]
            ),
        )


def _fitted(table: Table, name: str) -> NumericColumn | CategoricalColumn | None:
    """Return a column as its cells are; None where all are alike."""
    cells = table.cells[name]
    if table.is_numeric(name):
        values = numbers(cells, _where(table, name))
        known = values[~np.isnan(values)]
        if len(np.unique(known)) > 1:
            return NumericColumn(
                name=name,
                low=float(known.min()),
                high=float(known.max()),
                median=float(np.median(known)),
                gaps=len(known) < len(values),
            )
    counts = Counter(texts(cells, _where(table, name)))
    if len(counts) < 2:
        return None
    categories = tuple(sorted(text for text in counts if text is not None))
    if len(categories) <= MOST_CATEGORIES:
        return CategoricalColumn(name=name, categories=categories)
    warnings.warn(
        f"The column {name!r} of {table.name} has {len(categories)} categories; they are hashed into "
        f"{MOST_CATEGORIES}. Leave it out if it is a name or a number of the row.",
        stacklevel=2,
    )
    return CategoricalColumn(name=name, categories=(), buckets=MOST_CATEGORIES)


def _where(table: Table, column: str) -> str:
    return f"the column {column!r} of {table.name}"


def _stacked(columns: list[np.ndarray], count: int, kind: type) -> np.ndarray:
    return np.stack(columns, 1).astype(kind) if columns else np.zeros((count, 0), kind)
