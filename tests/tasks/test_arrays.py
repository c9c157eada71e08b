from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.sorting.cells import Cells


def test_the_figure_is_the_final_error() -> None:
    """Oracle: traces of the arrays that a model is handed; the first items do not depend on the limit."""
    task, cells, seen = selfstudy.task("arrays?length=12&arrays=9&frozen=2"), Cells("bubble"), []
    spy = SimpleNamespace(sort=lambda arrays: seen.append(arrays) or cells.sort(arrays))
    whole = task.evaluate(spy).values
    assert list(whole) == [float((np.diff(trace.final) < 0).sum()) for trace in cells.sort(seen[0])]
    assert seen[0].broken == 2 and seen[0].values.shape == (9, 12)
    assert task.evaluate(spy, limit=4).values == whole[:4]
    task.evaluate(spy, split="validation")
    assert not np.array_equal(seen[0].values, seen[2].values)
    assert task.metric.lower_is_better


def test_training_arrays_are_named_by_their_stream() -> None:
    """Oracle: equality, and that a larger batch starts with the smaller one."""
    task = selfstudy.task("arrays?length=12&duplicates=3")
    small, large = (task.batch(n, np.random.default_rng(4)) for n in (3, 8))
    assert np.array_equal(small.values, large.values[:3]) and set(small.values.ravel()) == {0, 1, 2}
    levels = task.batch(3, np.random.default_rng(4), levels=6).values
    assert set(levels.ravel()) == set(range(6)) and np.array_equal(levels // 2, small.values)
    assert np.array_equal(task.held_out(2).values, task.held_out(5).values[:2])


def test_rows_of_a_table(tmp_path: Path) -> None:
    """Oracle: the column's values; the name makes the same task again, whatever is in the path."""
    path = tmp_path / "my & scores.csv"
    path.write_text("x\n" + "\n".join(map(str, [5, 1, 1, 9, 7])) + "\n")
    task = selfstudy.tasks.arrays.arrays(values=str(path), column="x", length=5, arrays=4, frozen=0)
    again = selfstudy.task(task.name)
    for one in (task, again):
        assert (np.sort(one.held_out(3).values, axis=1) == [1, 1, 5, 7, 9]).all()
    assert task.evaluate(Cells("bubble")).values == (0, 0, 0, 0)
    with pytest.raises(DataError, match="5 rows"):
        selfstudy.tasks.arrays.arrays(values=str(path), column="x")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("arrays=0", "arrays=0"),
        ("frozen=101", "101 frozen"),
        ("mode=fixed", "movable"),
        ("duplicates=101", "duplicates"),
        ("width=7", "width"),
        ("column=x", "column='x'"),
        ("values=diabetes", "values='diabetes'"),
        ("values=diabetes&column=target&duplicates=2", "duplicates"),
    ],
)
def test_bad_fields(fields: str, words: str) -> None:
    """Oracle: what the message must name, when the task is made."""
    with pytest.raises(UsageError, match=words):
        selfstudy.task(f"arrays?{fields}")


def test_models_that_do_not_fit() -> None:
    """Oracle: another kind of model; cells that are cut off."""
    task = selfstudy.task("arrays?length=10&arrays=3")
    with pytest.raises(UsageError, match="top-down-bubble"):
        task.evaluate(SimpleNamespace(name="linear-attention"))
    with pytest.raises(UsageError, match="3 of 3 runs were cut off"):
        task.evaluate(Cells("bubble", max_steps=1))


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_sort(length: int) -> None:
    """Oracle: no neighbours, no errors."""
    task = selfstudy.task(f"arrays?length={length}&arrays=3&frozen=0")
    for model in (Cells("insertion"), selfstudy.model("top-down-selection")):
        assert task.evaluate(model).values == (0, 0, 0)
