"""Which columns of a row are shown and which are to be predicted, drawn for whole batches.

How many is drawn once for a batch, so that tensors stay rectangular; which ones, for each row by its own key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, uniforms

_SIZES = 0  # the stream of a step's sizes; that of its rows is 1


class Masks(NamedTuple):
    """Places of columns, int64."""

    context: np.ndarray  # [B, n_ctx], no column twice
    targets: np.ndarray  # [M, B, n_tgt], none of the context and, within one mask, none twice


@dataclass(frozen=True, kw_only=True)
class ColumnMasks:
    """What share of the columns is shown, and what share each mask hides to be predicted."""

    context: tuple[float, float] = (0.2, 0.5)
    """Share of the columns that the encoder sees, from and to (the authors: 0.14 to 0.37 for one table)."""
    target: tuple[float, float] = (0.15, 0.5)
    """Share of the columns that one mask asks for, from and to (the authors: 0.16 to 0.62 for one table)."""
    targets: int = 4
    """M, masks for each context; they may overlap one another, never the context."""

    def validate(self) -> None:
        """Raise a UsageError for shares that no table could have."""
        for name, (low, high) in (("context", self.context), ("target", self.target)):
            if not 0 < low < high <= 1:
                raise UsageError(
                    f"ColumnMasks.{name} is {low},{high}: give two shares from above 0 to 1, the smaller "
                    "first."
                )
        if self.context[0] + self.target[0] > 1:
            raise UsageError(
                f"The least shares of context {self.context[0]} and target {self.target[0]} are more than "
                "all columns together: lower one of them."
            )
        if self.targets < 1:
            raise UsageError(f"ColumnMasks.targets is {self.targets}; it must be at least 1.")

    def require(self, columns: int) -> None:
        """Raise a UsageError where a table of D columns has too few to show one and ask for one.

        Args:
            columns: D.
        """
        if min(_rounded(columns * self.context[0]), _rounded(columns * self.target[0])) >= 1:
            return
        least = math.floor(500 / columns + 1) / 1000
        if columns < 2:
            raise UsageError(
                f"The table has {columns} column that varies. Masks show one and ask for another: give two "
                "or more."
            )
        raise UsageError(
            f"Of the table's {columns} columns, shares of {self.context[0]} for context and "
            f"{self.target[0]} for target are none. The smallest shares that give one column are {least:.3f}."
        )

    def sizes(self, columns: int, key: int) -> tuple[int, int]:
        """Return n_ctx and n_tgt of one batch; drawn until both fit into the D columns.

        Args:
            columns: D.
            key: of the batch.
        """
        attempt = 0
        while True:
            drawn = uniforms(derive(key, _SIZES), np.array([2 * attempt, 2 * attempt + 1]))
            sizes = [
                _between(columns, shares, draw)
                for shares, draw in zip((self.context, self.target), drawn.tolist(), strict=True)
            ]
            if sum(sizes) <= columns:
                return sizes[0], sizes[1]
            attempt += 1

    def __call__(self, columns: int, key: int, ids: np.ndarray) -> Masks:
        """Return the masks of one batch.

        Args:
            columns: D, for which `require` must hold.
            key: of the batch, as `run.key("masks", step)`.
            ids: [B], which rows; the columns of a row depend on its own id, not on the batch it is in.
        """
        shown, asked = self.sizes(columns, key)
        keys = derive(derive(key, 1), ids)
        order = _orders(derive(keys, 0), columns)
        context, rest = order[:, :shown], order[:, shown:]
        chosen = [_orders(derive(keys, 1 + mask), columns - shown)[:, :asked] for mask in range(self.targets)]
        return Masks(context, np.stack([np.take_along_axis(rest, places, 1) for places in chosen]))


def _orders(keys: np.ndarray, count: int) -> np.ndarray:
    """Return a random order of 0 .. count-1 for each key: [B, count]."""
    return np.argsort(uniforms(keys[:, None], np.arange(count)), axis=1)


def _between(columns: int, shares: tuple[float, float], draw: float) -> int:
    low, high = (_rounded(columns * share) for share in shares)
    return low + _rounded(draw * (high - low))


def _rounded(value: float) -> int:
    """Round to the nearest, halves down: then two shares of at most 1 in sum never round to more than D."""
    return math.ceil(value - 0.5 - 1e-9)
