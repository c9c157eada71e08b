from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive
from selfstudy.data.arrays import draw_arrays
from selfstudy.evaluation.sorting import (
    aggregation,
    displacement,
    expected_aggregation,
    inversions,
    label_permutation_test,
    monotonicity_error,
    resampled,
    sortedness,
    summarise,
)
from selfstudy.models.sorting.cells import Cells, sort_mixed
from selfstudy.models.sorting.one_array import SelfSortingArray

KEYS = derive(np.array(8, np.uint64), np.arange(400))


@given(st.lists(st.integers(0, 5), max_size=12))
def test_measures_against_loops(values: list[int]) -> None:
    """Oracle: double loops; ranks by sorting (value, position)."""
    n = len(values)
    errors = sum(values[i] < values[i - 1] for i in range(1, n))
    assert monotonicity_error(values) == errors
    assert sortedness(values) == pytest.approx(100 * (n - errors) / n if n else 100)
    ranks = {i: rank for rank, i in enumerate(sorted(range(n), key=lambda i: (values[i], i)))}
    assert displacement(values) == sum(abs(i - ranks[i]) for i in range(n))
    assert inversions(values) == sum(values[i] > values[j] for j in range(n) for i in range(j))


def test_aggregation_of_random_labels() -> None:
    """Oracle: the closed form, (n/2 - 1) / n at 50 to 50; three standard errors (false alarms 0.3 %)."""
    assert expected_aggregation(100, 50) == (50 - 1) / 100
    arrays = draw_arrays(KEYS, 30)
    for share in (0.5, 0.2):
        labels = arrays.labels(share)
        found = (labels[:, 1:] == labels[:, :-1]).sum(1) / 30
        error = found.std(ddof=1) / len(found) ** 0.5
        assert abs(found.mean() - expected_aggregation(30, round(share * 30))) < 3 * error


def test_aggregation_of_a_trace() -> None:
    """Oracle: the series itself; the first and the last state are in the curve."""
    trace = SelfSortingArray([3, 2, 1, 0], ["bubble", "selection"] * 2).run()
    series, found = trace.aggregation(), aggregation(trace)
    assert (found.start, found.peak, found.end) == (series[0], series.max(), series[-1])
    assert len(found.curve) == 101 and (found.curve[0], found.curve[-1]) == (series[0], series[-1])
    assert resampled(np.array([7.0])).tolist() == [7.0] * 101


def test_the_label_test() -> None:
    """Oracle: under random labels of one policy p is uniform; a trace that gathers types has a small one.

    40 p-values: the mean is 0.5 with a standard error of 0.046; five of them (false alarms 6e-7).
    """
    arrays, cells = draw_arrays(KEYS[:40], 20), Cells("bubble")
    control = sort_mixed(cells, arrays, ["bubble"], labels=arrays.labels())
    chances = [label_permutation_test(trace, draws=39, seed=i).p for i, trace in enumerate(control)]
    assert abs(np.mean(chances) - 0.5) < 5 * (1 / 12 / 40) ** 0.5
    gathering = SelfSortingArray([0, 2, 1, 3] * 5, ["bubble", "bubble", "selection", "selection"] * 5).run()
    found = label_permutation_test(gathering, draws=99)
    assert found.peak > found.chance and found.p < 0.2
    with pytest.raises(UsageError, match="types"):
        from selfstudy.models.sorting.top_down import traditional

        label_permutation_test(traditional("bubble", np.arange(3.0), np.zeros(3, bool)))


def test_cut_off_runs_have_no_figures() -> None:
    """Oracle: by hand: three runs, one of them cut off, one stuck."""
    runs = [
        SelfSortingArray([2, 1, 0]).run(),
        SelfSortingArray([2, 1, 0]).run(1),
        SelfSortingArray([2, 1, 0], frozen=[1], mode="immovable").run(),
    ]
    found = summarise(runs)
    assert found["outcomes"] == {"sorted": 1, "stuck": 1, "truncated": 1} and found["kept"] == [0, 2]
    assert found["errors"] == [0, 2] and found["displacements"] == [0, 4] and found["swaps"] == [3, 0]
