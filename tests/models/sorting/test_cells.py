from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.app.saving import load, save
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.random import derive
from selfstudy.data.arrays import Arrays, draw_arrays
from selfstudy.models.sorting.cells import Cells, sort_mixed
from selfstudy.models.sorting.one_array import POLICIES
from selfstudy.models.sorting.policies import PLAIN


def some(count: int = 6, **options) -> Arrays:
    return draw_arrays(derive(np.array(3, np.uint64), np.arange(count)), 24, **options)


def swaps(traces) -> list:
    return [trace.swaps.tolist() for trace in traces]


def test_an_array_alone_and_among_others() -> None:
    """Oracle: equality, whatever the batch and the threads."""
    cells = Cells("insertion", seed=9)
    together = swaps(cells.sort(some(6, broken=2), threads=2))
    assert together == swaps(cells.sort(some(6, broken=2), threads=1))
    assert together[:2] == swaps(cells.sort(some(2, broken=2)))
    assert together != swaps(Cells("insertion", seed=10).sort(some(6, broken=2)))


def test_the_control_moves_as_one_policy_and_keeps_its_labels() -> None:
    """Oracle: the run without labels."""
    arrays, cells = some(), Cells("bubble", seed=1)
    labels = arrays.labels()
    control = sort_mixed(cells, arrays, ["bubble"], labels=labels)
    assert swaps(control) == swaps(cells.sort(arrays))
    assert [trace.types.tolist() for trace in control] == labels.tolist()
    mixed = sort_mixed(cells, arrays, ["bubble", "selection"], labels=labels)
    assert swaps(mixed) != swaps(control) and all(trace.outcome == "sorted" for trace in mixed)


def test_a_callable_for_a_policy() -> None:
    """Oracle: the compiled cells, also in a mixture and with a direction for each cell."""
    arrays = some(3, broken=3, mode="immovable")
    for name in POLICIES:
        own = Cells(lambda view, name=name: PLAIN[name](view), seed=2)
        assert swaps(own.sort(arrays)) == swaps(Cells(name, seed=2).sort(arrays))
    labels, cells = arrays.labels(), Cells("bubble", scheduler="uniform", max_steps=300)
    falling = labels == 1
    plain = sort_mixed(cells, arrays, [PLAIN["bubble"], "selection"], labels=labels, falling=falling)
    assert swaps(plain) == swaps(
        sort_mixed(cells, arrays, ["bubble", "selection"], labels=labels, falling=falling)
    )


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Oracle: the same swaps; a callable is refused, another folder too."""
    cells = Cells("selection", scheduler="uniform", seed=2**64 - 1)
    save(cells, tmp_path / "model")
    for other in (load(tmp_path), cells.copy()):
        assert other.name == cells.name and swaps(other.sort(some())) == swaps(cells.sort(some()))
    with pytest.raises(UsageError, match="Python code"):
        Cells(PLAIN["bubble"]).save(tmp_path / "other")
    (tmp_path / "config.json").write_text('{"algorithm": "bubble"}')
    with pytest.raises(MachineError, match="no cells"):
        Cells.load(tmp_path)
    with pytest.raises(UsageError, match="insertion"):
        Cells("insert")
