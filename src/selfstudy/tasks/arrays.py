"""Arrays to be sorted although some of their cells are broken (Zhang et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, stream_key
from selfstudy.data.arrays import Arrays, draw_arrays, read_column
from selfstudy.evaluation.scores import Metric
from selfstudy.models.sorting.traces import TRUNCATED
from selfstudy.tasks.sampled import SampledTask

ERROR = Metric(name="monotonicity error", lower_is_better=True)


class ArraysTask(SampledTask):
    """Arrays with broken cells; a model is judged by the neighbours that are out of order when it has ended.

    Attributes:
        length: cells of an array.
        broken, mode: the damage.

    Args:
        name: the specification that makes this task again.
        length: cells of an array; 0 and 1 are sorted from the start.
        arrays: test arrays.
        frozen: broken cells in each.
        mode: "movable" or "immovable".
        duplicates: different values, each equally often; 0 for all different.
        width: of a lattice, or 0.
        column: values to draw from instead, finite numbers.
        seed: names the test arrays.

    Raises:
        UsageError: sizes or damage that cannot be.
        DataError: a column that is too short.
    """

    def __init__(
        self,
        name: str,
        *,
        length: int = 100,
        arrays: int = 100,
        frozen: int = 3,
        mode: str = "movable",
        duplicates: int = 0,
        width: int = 0,
        column: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        if arrays < 1:
            raise UsageError(f"The task needs test arrays: arrays={arrays} must be at least 1.")
        super().__init__(name, ERROR, arrays)
        self.length, self.broken, self.mode, self.seed = length, frozen, mode, seed
        self._drawn: dict[str, Any] = {"column": column, "levels": duplicates, "width": width}
        self._arrays(np.zeros(0, np.uint64))  # says at once what is wrong with the fields

    def batch(self, size: int, rng: np.random.Generator, *, levels: int | None = None) -> Arrays:
        """Return `size` arrays of the task's kind and damage; array i does not depend on `size`.

        Args:
            size: number of arrays.
            rng: names them.
            levels: other duplicates than the task's.
        """
        return self._arrays(rng.integers(2**64, size=size, dtype=np.uint64), levels)

    def held_out(self, count: int, *, levels: int | None = None) -> Arrays:
        """Return the first `count` arrays of the validation stream."""
        return self._arrays(self._keys("validation", count), levels)

    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return the final monotonicity error of each of `count` arrays.

        Raises:
            UsageError: the model sorts no arrays, or a run was cut off.
        """
        require_sorter(model)
        traces = model.sort(self._arrays(self._keys(split, count)))
        cut = sum(trace.outcome == TRUNCATED for trace in traces)
        if cut:
            raise UsageError(
                f"{cut} of {count} runs were cut off by the limit on activations, so their errors say "
                "nothing. Give a larger max_steps."
            )
        return [float(trace.errors()[-1]) for trace in traces]

    def _keys(self, split: str, count: int) -> np.ndarray:
        return derive(np.array(stream_key("arrays", self.seed, split), np.uint64), np.arange(count))

    def _arrays(self, keys: np.ndarray, levels: int | None = None) -> Arrays:
        more = self._drawn if levels is None else {**self._drawn, "levels": levels, "column": None}
        return draw_arrays(keys, self.length, broken=self.broken, mode=self.mode, **more)


def require_sorter(model: Any) -> None:
    """Raise `UsageError` unless `model` sorts arrays."""
    if not hasattr(model, "sort"):
        raise UsageError(
            f"The model {getattr(model, 'name', type(model).__name__)!r} sorts no arrays. Take "
            "top-down-bubble, top-down-insertion or top-down-selection, or an object with sort(arrays) that "
            "returns traces."
        )


def arrays(
    *,
    length: int = 100,
    arrays: int = 100,
    frozen: int = 3,
    mode: str = "movable",
    duplicates: int = 0,
    width: int = 0,
    values: str = "",
    column: str = "",
    seed: int = 0,
) -> ArraysTask:
    """Return the task; `values` is a table and `column` its column, other fields are as in `ArraysTask`.

    Raises:
        UsageError: a table without a column or a column without a table, or duplicates of table values.
    """
    if bool(values) != bool(column) or (values and duplicates):
        raise UsageError(
            f"Values of a table need both fields: values={values!r} and column={column!r}, and no "
            "duplicates, for a table's rows have their own ties."
        )
    name = (
        f"arrays?length={length}&arrays={arrays}&frozen={frozen}&mode={mode}&duplicates={duplicates}"
        f"&width={width}"
        + (f"&values={quote(values)}&column={quote(column)}" if values else "")
        + f"&seed={seed}"
    )
    return ArraysTask(
        name,
        length=length,
        arrays=arrays,
        frozen=frozen,
        mode=mode,
        duplicates=duplicates,
        width=width,
        column=read_column(values, column) if values else None,
        seed=seed,
    )
