from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.models.sorting.one_array import SelfSortingArray
from selfstudy.models.sorting.traces import Trace


def test_by_hand() -> None:
    """Oracle: two swaps written down by hand: 2 3 1 -> 2 1 3 -> 1 2 3."""
    trace = Trace(
        values=np.array([2.0, 3.0, 1.0]),
        frozen=np.zeros(3, bool),
        swaps=np.array([[2, 1], [1, 0]], np.int32),
        counts=None,  # type: ignore[arg-type]
        types=np.array([0, 1, 0], np.int8),
    )
    assert trace.errors().tolist() == [1, 1, 0]
    assert np.allclose(trace.sortedness(), [200 / 3, 200 / 3, 100])
    assert np.allclose(trace.aggregation(), [0, 1 / 3, 1 / 3])
    assert np.allclose(trace.aggregation([1, 1, 0]), [1 / 3, 0, 1 / 3])
    assert trace.cells_at(1).tolist() == [0, 2, 1] and trace.final.tolist() == [1, 2, 3]
    assert trace.outcome == "sorted"
    with pytest.raises(UsageError, match="2 swaps"):
        trace.cells_at(3)


def test_one_type_is_all_together() -> None:
    """Oracle: (n - 1) / n at all times."""
    trace = SelfSortingArray(np.random.default_rng(0).permutation(20)).run()
    assert set(trace.aggregation().tolist()) == {19 / 20}


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Oracle: equality of every field."""
    trace = SelfSortingArray(
        [3, 1, 2, 0], ["bubble", "selection"] * 2, frozen=[1], direction="decreasing"
    ).run()
    trace.save(tmp_path / "trace.npz")
    again = Trace.load(tmp_path / "trace.npz")
    for name in ("values", "frozen", "swaps", "types"):
        assert np.array_equal(getattr(again, name), getattr(trace, name))
    assert (again.counts, again.truncated, again.falling) == (trace.counts, trace.truncated, trace.falling)
    assert again.outcome == trace.outcome
