"""One array whose cells sort themselves: each follows its own policy, some are broken (Zhang et al. 2024).

A cell that has its turn looks around and may swap; one activation is atomic. The policies:

    bubble      a neighbour at random; swap if the two are out of order
    insertion   swap with the left neighbour if it is larger, once all on the left is in order
    selection   remember an ideal position, from 0; swap with its occupant if that is larger, else look one on

Frozen cells never act. In movable mode others may swap with them, in immovable mode such a swap is refused,
and a selection cell passes over an immovable occupant. `policies` has the same rules in Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.data.arrays import MODES, require_numbers, require_width
from selfstudy.models.sorting import kernels
from selfstudy.models.sorting.policies import PLAIN, Policy, simulate_policies
from selfstudy.models.sorting.traces import Counts, Trace

POLICIES = ("bubble", "insertion", "selection")  # by their number in `kernels`
SCHEDULERS = ("rounds", "uniform")
DIRECTIONS = ("increasing", "decreasing")
_CHUNK = 1 << 18  # most swaps that are collected before they are put aside


def most_activations(n: int) -> int:
    """Return where a run of n cells is cut off unless told otherwise: Insertion needs about n^3 / 4."""
    return 2 * n**3 + 1000


class SelfSortingArray:
    """One array of cells.

    >>> trace = SelfSortingArray([3, 1, 2], "bubble").run()
    >>> trace.final.tolist(), trace.counts.swaps, trace.outcome
    ([1.0, 2.0, 3.0], 2, 'sorted')

    Args:
        values: [n], by position; equal ones may occur.
        types: a policy for all cells or one for each: "bubble", "insertion", "selection" or a callable of
            your own (`policies.Policy`).
        frozen: positions of the cells that never act.
        mode: "movable" or "immovable": whether others may swap with frozen cells.
        direction: "increasing" or "decreasing" order, for all cells or for each. Cells that disagree may
            never settle.
        scheduler: "rounds": each cell once a round in a fresh random order; "uniform": a random cell.
        width: of a lattice in reading order, where bubble cells look above and below too; 0 for a line.
        seed: names the stream of the schedule and the coins.

    Raises:
        UsageError: an unknown word, or a frozen position that is none.
        DataError: values that are not finite numbers.
    """

    def __init__(
        self,
        values: Sequence[float] | np.ndarray,
        types: str | Policy | Sequence[str | Policy] = "bubble",
        *,
        frozen: Iterable[int] = (),
        mode: str = "movable",
        direction: str | Sequence[str] = "increasing",
        scheduler: str = "rounds",
        width: int = 0,
        seed: int = 0,
    ) -> None:
        self.values = _numbers(values)
        n = len(self.values)
        self.types = [known_word("type", name, POLICIES) for name in _for_each(types, n, "types")]
        directions = [
            known_word("direction", name, DIRECTIONS) for name in _for_each(direction, n, "direction")
        ]
        self.falling = np.array([name == "decreasing" for name in directions], bool)
        self.frozen = _frozen(frozen, n)
        self.movable = known_word("mode", mode, MODES) == "movable"
        self.uniform = known_word("scheduler", scheduler, SCHEDULERS) == "uniform"
        require_width(width, n)
        self.width, self.seed = width, seed

    def run(self, max_steps: int | None = None) -> Trace:
        """Let the cells act until none can change anything.

        Args:
            max_steps: activations after which the run is cut off and flagged; None is `most_activations(n)`.
        """
        most = most_activations(len(self.values)) if max_steps is None else max_steps
        settings: dict[str, Any] = {
            "movable": self.movable,
            "uniform": self.uniform,
            "width": self.width,
            "key": self.seed % 2**64,
            "most": most,
        }
        names = list(dict.fromkeys(self.types))
        labels = np.array([names.index(name) for name in self.types], np.int8)
        if all(isinstance(name, str) for name in names):
            kinds = np.array([POLICIES.index(name) for name in self.types], np.int8)
            return run_cells(self.values, kinds, self.falling, self.frozen, types=labels, **settings)
        policies = [PLAIN[name] if isinstance(name, str) else name for name in self.types]
        swaps, counts, cut = simulate_policies(
            policies, self.values.tolist(), self.falling.tolist(), self.frozen.tolist(), **settings
        )
        return Trace(
            values=self.values,
            frozen=self.frozen,
            swaps=swaps,
            counts=Counts(*counts),
            types=labels,
            truncated=cut,
            falling=bool(self.falling.all()) and len(self.values) > 0,
        )


def run_cells(
    values: np.ndarray,
    kinds: np.ndarray,
    falling: np.ndarray,
    frozen: np.ndarray,
    *,
    types: np.ndarray,
    movable: bool,
    uniform: bool,
    width: int,
    key: int,
    most: int,
) -> Trace:
    """Run one array of cells with the paper's policies; arguments by cell as in `kernels.CELL`."""
    n = len(values)
    cells = np.zeros(n, kernels.CELL)
    cells["value"], cells["place"] = kernels.ranks(values), np.arange(n)
    cells["kind"], cells["falling"], cells["frozen"] = kinds, falling, frozen
    state = (cells, np.arange(n), np.arange(n), np.ones(2, np.int64), np.zeros(2, np.int64))
    counts, chunks, ended = np.zeros(4, np.int64), [], n < 2
    while not ended and counts[kernels.ACTIVATIONS] < most:
        swaps = np.empty((min(n * n // 2, _CHUNK), 2), np.int32)
        done, ended = kernels.act(*state, counts, swaps, movable, uniform, width, np.uint64(key), most)
        chunks.append(swaps[:done].copy())
    return Trace(
        values=values,
        frozen=frozen,
        swaps=np.concatenate(chunks) if chunks else np.zeros((0, 2), np.int32),
        counts=Counts(*counts.tolist()),
        types=types,
        truncated=not ended,
        falling=n > 0 and bool(np.all(falling)),
    )


def _numbers(values: Any) -> np.ndarray:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise DataError("Values to be sorted must be numbers, one a cell.") from None
    if array.ndim != 1:
        raise DataError(f"An array of cells is a row of numbers, not an array of shape {array.shape}.")
    require_numbers(array)
    return array


def _frozen(positions: Iterable[int], n: int) -> np.ndarray:
    places = [int(place) for place in positions]
    if len(places) > n or any(not 0 <= place < n for place in places):
        raise UsageError(
            f"frozen holds {len(places)} positions ({', '.join(map(str, places[:5]))}...), but the array has "
            f"{n} cells. Give different positions from 0 to {n - 1}."
        )
    mask = np.zeros(n, bool)
    mask[places] = True
    return mask


def _for_each(given: Any, n: int, what: str) -> list[Any]:
    if isinstance(given, str) or callable(given):
        return [given] * n
    found = list(given)
    if len(found) != n:
        raise UsageError(f"{what} has {len(found)} entries for {n} cells. Give one a cell, or one for all.")
    return found


def known_word(what: str, name: Any, known: Sequence[str]) -> Any:
    """Return `name` if it is known; a callable passes for a policy.

    Raises:
        UsageError: it is not.
    """
    if callable(name) and known is POLICIES:
        return name
    if name not in known:
        raise UsageError(f"Unknown {what} {name!r}. {nearest(str(name), known)}")
    return name
