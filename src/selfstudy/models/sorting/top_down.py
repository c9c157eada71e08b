"""The classical algorithms on arrays with broken cells: a controller moves the cells.

A move is refused when the cell to be moved is frozen (the left one of Bubble's pair, the one that Insertion
inserts, the least one that Selection found), and in immovable mode when either is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selfstudy.core.errors import MachineError, UsageError, nearest
from selfstudy.core.files import read_json, write_json
from selfstudy.data.arrays import MODES, Arrays, require_numbers
from selfstudy.models.sorting import kernels
from selfstudy.models.sorting.traces import Counts, Trace

ALGORITHMS = ("bubble", "insertion", "selection")  # by their number in `kernels`
CONFIG = "config.json"


class TopDown:
    """A classical sorting algorithm.

    Args:
        algorithm: "bubble", "insertion" or "selection".
    """

    def __init__(self, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise UsageError(f"Unknown algorithm {algorithm!r}. {nearest(algorithm, ALGORITHMS)}")
        self.algorithm = algorithm

    @property
    def name(self) -> str:
        """The specification that makes this model."""
        return f"top-down-{self.algorithm}"

    def sort(self, arrays: Arrays) -> list[Trace]:
        """Return one trace for each array."""
        rows = zip(arrays.values, arrays.frozen, strict=True)
        return [traditional(self.algorithm, values, frozen, arrays.mode) for values, frozen in rows]

    def copy(self) -> TopDown:
        """Return an equal model."""
        return TopDown(self.algorithm)

    def save(self, folder: Path) -> None:
        """Write which algorithm it is."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / CONFIG, {"algorithm": self.algorithm})

    @classmethod
    def load(cls, folder: Path) -> TopDown:
        """Read what `save` wrote."""
        settings = read_json(Path(folder) / CONFIG)
        if "algorithm" not in settings:
            raise MachineError(f"{folder} holds no classical algorithm: its {CONFIG} names none.")
        return cls(settings["algorithm"])


def traditional(kind: str, values: np.ndarray, frozen: np.ndarray, mode: str = "movable") -> Trace:
    """Sort one array by a classical algorithm, as far as its broken cells allow.

    >>> trace = traditional("selection", np.array([2.0, 3.0, 1.0]), np.array([False, False, True]))
    >>> trace.final.tolist(), trace.outcome
    ([2.0, 3.0, 1.0], 'stuck')

    Args:
        kind: "bubble", "insertion" or "selection".
        values: [n].
        frozen: [n] bool.
        mode: "movable" or "immovable".

    Raises:
        UsageError: an unknown kind or mode.
        DataError: values that are not finite numbers.
    """
    for name, known in ((kind, ALGORITHMS), (mode, MODES)):
        if name not in known:
            raise UsageError(f"Unknown word {name!r}. {nearest(name, known)}")
    require_numbers(values)
    arguments = (ALGORITHMS.index(kind), kernels.ranks(values), frozen, mode == "movable")
    # Once to count the swaps, once to write them down: there is no close bound to make room by.
    counts = kernels.sort_top_down(*arguments, np.empty((0, 2), np.int32))
    swaps = np.empty((counts[kernels.SWAPS], 2), np.int32)
    kernels.sort_top_down(*arguments, swaps)
    return Trace(values=values, frozen=frozen, swaps=swaps, counts=Counts(*counts.tolist()))


def bubble() -> TopDown:
    """Return bubble sort."""
    return TopDown("bubble")


def insertion() -> TopDown:
    """Return insertion sort."""
    return TopDown("insertion")


def selection() -> TopDown:
    """Return selection sort."""
    return TopDown("selection")
