"""What happened while an array sorted itself: its swaps, from which everything else follows by replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.files import write_whole
from selfstudy.models.sorting import kernels

SORTED, STUCK, TRUNCATED = "sorted", "stuck", "truncated"


class Counts(NamedTuple):
    """The work that a run took."""

    activations: int
    """Times that a cell had its turn; of a classical algorithm, passes through the body of its loops."""
    comparisons: int
    """Looks at another cell's value. What Insertion needs to know about order on its left is not counted."""
    wishes: int
    """Activations in which a cell wanted to swap."""
    swaps: int
    """Swaps that took place; the other wishes met an immovable cell."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One run of one array; cells are known by their first position."""

    values: np.ndarray
    """[n] by cell."""
    frozen: np.ndarray
    """[n] which cells never act."""
    swaps: np.ndarray
    """[S, 2] int32, pairs of positions in the order of the swaps; the first is that of the acting cell."""
    counts: Counts
    types: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))
    """[n] labels by cell; empty for one type."""
    truncated: bool = False
    """Whether the run was cut off while something could still change. Its errors say nothing."""
    falling: bool = False
    """Whether order is decreasing order, because all cells sort that way."""

    @property
    def final(self) -> np.ndarray:
        """[n] the values by position at the end."""
        return self.values[self.cells_at(len(self.swaps))]

    @property
    def outcome(self) -> str:
        """SORTED, STUCK (no cell can act and there is disorder, or all cells are frozen) or TRUNCATED."""
        if self.truncated:
            return TRUNCATED
        n = len(self.values)
        return STUCK if n > 1 and (self.frozen.all() or self.errors()[-1] > 0) else SORTED

    def cells_at(self, step: int) -> np.ndarray:
        """Return the cell at each position after the first `step` swaps, [n]."""
        if not 0 <= step <= len(self.swaps):
            raise UsageError(f"There are {len(self.swaps)} swaps in this trace, so no state after {step}.")
        return kernels.replay(len(self.values), self.swaps[:step])

    def errors(self) -> np.ndarray:
        """Return the number of neighbours out of order before and after each swap, [S + 1]."""
        ranks = kernels.ranks(-self.values if self.falling else self.values)
        return kernels.pairs_over_time(ranks, self.swaps, False)

    def sortedness(self) -> np.ndarray:
        """Return the share of cells that are in order with their left neighbour, in percent, [S + 1]."""
        n = len(self.values)
        return 100.0 * (n - self.errors()) / n if n else np.full(1, 100.0)

    def aggregation(self, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the share of cells whose right neighbour has their label, [S + 1]; the last cell has none.

        Args:
            labels: [n] by cell; the cells' types where none are given.
        """
        n = len(self.values)
        labels = self.types if labels is None else np.asarray(labels)
        labels = labels if len(labels) else np.zeros(n, np.int8)
        return kernels.pairs_over_time(labels.astype(np.int32), self.swaps, True) / max(n, 1)

    def save(self, path: Path) -> None:
        """Write the trace to a .npz file."""
        content = {
            name: getattr(self, name)
            for name in ("values", "frozen", "swaps", "types", "truncated", "falling")
        }

        def write(temporary: Path) -> None:
            with open(temporary, "wb") as file:
                np.savez_compressed(file, counts=np.array(self.counts), **content)

        write_whole(Path(path), write)

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        return cls(
            values=content["values"],
            frozen=content["frozen"],
            swaps=content["swaps"],
            types=content["types"],
            counts=Counts(*content["counts"].tolist()),
            truncated=bool(content["truncated"]),
            falling=bool(content["falling"]),
        )
