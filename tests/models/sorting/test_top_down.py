from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import selfstudy
from selfstudy.app.saving import load, save
from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.core.random import derive
from selfstudy.data.arrays import draw_arrays
from selfstudy.evaluation.sorting import inversions
from selfstudy.models.sorting.top_down import ALGORITHMS, TopDown, traditional


def plainly(kind: str, values: list[int], frozen: list[bool], movable: bool) -> tuple[list[int], int]:
    """The three algorithms on a list of (value, frozen), with refused swaps."""
    cells, n, swaps = list(zip(values, frozen, strict=True)), len(values), 0

    def swapped(mover: int, other: int) -> bool:
        nonlocal swaps
        if cells[mover][1] or (cells[other][1] and not movable):
            return False
        cells[mover], cells[other] = cells[other], cells[mover]
        swaps += 1
        return True

    if kind == "bubble":
        for end in range(n - 1, -1, -1):
            for i in range(end):
                if cells[i][0] > cells[i + 1][0]:
                    swapped(i, i + 1)
    elif kind == "insertion":
        for i in range(n):
            while i > 0 and cells[i][0] < cells[i - 1][0] and swapped(i, i - 1):
                i -= 1
    else:
        for i in range(n):
            least = min(range(i, n), key=lambda j: cells[j][0])
            if least != i:
                swapped(least, i)
    return [value for value, _ in cells], swaps


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(ALGORITHMS),
    cells=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=14),
    movable=st.booleans(),
)
def test_against_plain_lists(kind: str, cells: list[tuple[int, bool]], movable: bool) -> None:
    """Oracle: the plain second implementation above: final values, swaps, replay."""
    values, frozen = [value for value, _ in cells], [broken for _, broken in cells]
    trace = traditional(
        kind, np.array(values, float), np.array(frozen, bool), "movable" if movable else "immovable"
    )
    expected, swaps = plainly(kind, values, frozen, movable)
    assert trace.final.tolist() == expected and trace.counts.swaps == len(trace.swaps) == swaps


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_without_damage(kind: str) -> None:
    """Oracle: sorted(); inversions for swaps of neighbours; at most n - 1 swaps of Selection."""
    values = np.random.default_rng(0).permutation(60).astype(float)
    trace = traditional(kind, values, np.zeros(60, bool))
    assert trace.final.tolist() == sorted(values) and trace.outcome == "sorted"
    if kind == "selection":
        assert trace.counts.swaps <= 59 and trace.counts.comparisons == 60 * 59 / 2
    else:
        assert trace.counts.swaps == inversions(values)


def test_as_a_model(tmp_path: Path) -> None:
    """Oracle: equality after saving, copying, and making it by its name."""
    arrays = draw_arrays(derive(np.array(1, np.uint64), np.arange(3)), 20, broken=2)
    for kind in ALGORITHMS:
        model = selfstudy.model(f"top-down-{kind}")
        save(model, tmp_path / kind / "model")
        for other in (load(tmp_path / kind), model.copy(), selfstudy.model(model.name)):
            assert [t.final.tolist() for t in other.sort(arrays)] == [
                t.final.tolist() for t in model.sort(arrays)
            ]


def test_bad_input(tmp_path: Path) -> None:
    """Oracle: the kind of error and what it names."""
    with pytest.raises(UsageError, match="bubble"):
        TopDown("bubbel")
    with pytest.raises(UsageError, match="selection"):
        traditional("select", np.zeros(2), np.zeros(2, bool))
    with pytest.raises(UsageError, match="immovable"):
        traditional("bubble", np.zeros(2), np.zeros(2, bool), "immobile")
    with pytest.raises(DataError, match="Value 1"):
        traditional("bubble", np.array([np.nan, 1.0]), np.zeros(2, bool))
    (tmp_path / "config.json").write_text('{"policy": "bubble"}')
    with pytest.raises(MachineError, match="no classical algorithm"):
        TopDown.load(tmp_path)
