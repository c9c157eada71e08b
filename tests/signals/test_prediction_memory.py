"""The memory of predictions: rows of sum 1, places, precision, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.signals.prediction_memory import PredictionMemory, numbered


def rows(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes) * 0.3, count)).float()


@given(
    st.integers(0, 1000),
    st.integers(2, 12),
    st.integers(0, 12),
    st.sampled_from(["float32", "float16"]),
)
def test_rows_sum_to_one(seed: int, classes: int, top: int, precision: str) -> None:
    """Oracle: the law that rows are distributions, however much is kept and how precisely."""
    memory = PredictionMemory(6, classes, top=min(top, classes), precision=precision)  # type: ignore[arg-type]
    memory.write(np.array([4, 1]), rows(2, classes, seed))
    read = memory.read(np.arange(6))
    assert torch.allclose(read.sum(1), torch.ones(6), atol=1e-6) and bool((read >= 0).all())
    assert memory.known.tolist() == [False, True, False, False, True, False]


def test_what_is_written_is_read() -> None:
    """Oracle: what was written, to the rounding of each precision; the row of the last equal place."""
    said = rows(3, 5)
    for precision, off in (("float32", 1e-7), ("float16", 1e-3)):
        memory = PredictionMemory(4, 5, precision=precision)  # type: ignore[arg-type]
        memory.write(np.array([3, 0, 3]), said)
        assert torch.allclose(memory.read(np.array([0, 3])), said[[1, 2]], atol=off)
    assert torch.equal(memory.read(np.array([1])), torch.full((1, 5), 0.2))


def test_the_largest_and_the_rest() -> None:
    """Oracle: by hand: 0.6 and 0.3 stay, the other 0.1 is shared by two; all kept is the row itself."""
    memory = PredictionMemory(2, 4, top=2)
    memory.write(np.array([1]), torch.tensor([[0.03, 0.6, 0.07, 0.3]]))
    assert torch.allclose(memory.read(np.array([1])), torch.tensor([[0.05, 0.6, 0.05, 0.3]]))
    whole = PredictionMemory(2, 4, top=4)
    whole.write(np.array([1]), rows(1, 4))
    assert torch.allclose(whole.read(np.array([1])), rows(1, 4), atol=1e-6)


def test_bounds_and_sizes() -> None:
    """Oracle: the message says how many rows there are; sizes that cannot be are refused."""
    memory = PredictionMemory(3, 4)
    for wrong in ([3], [-1]):
        with pytest.raises(DataError, match="has 3 rows, 0 to 2"):
            memory.read(np.array(wrong))
    with pytest.raises(DataError, match="whole numbers"):
        memory.read(np.array([0.0]))
    with pytest.raises(DataError, match=r"shape \(2, 3\)"):
        memory.write(np.array([0, 1]), rows(2, 3))
    for sizes in ({"count": 0, "classes": 4}, {"count": 3, "classes": 1}):
        with pytest.raises(UsageError, match="cannot be"):
            PredictionMemory(**sizes)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="top 5"):
        PredictionMemory(3, 4, top=5)
    with pytest.raises(UsageError, match="'float8'"):
        PredictionMemory(3, 4, precision="float8")  # type: ignore[arg-type]


def test_a_checkpoint_of_other_data() -> None:
    """Oracle: rows come back bit by bit; another number of rows, or another form, is refused."""
    memory = PredictionMemory(3, 4, top=2)
    memory.write(np.array([2]), rows(1, 4))
    again = PredictionMemory(3, 4, top=2)
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.read(np.arange(3)), memory.read(np.arange(3)))
    with pytest.raises(DataError, match="memory has 3 rows, and the data now have 5"):
        PredictionMemory(5, 4, top=2).load_state_dict(memory.state_dict())
    with pytest.raises(DataError, match="kept as"):
        PredictionMemory(3, 4).load_state_dict(memory.state_dict())


def test_ids() -> None:
    """Oracle: places by hand; an id that is missing or comes twice is named."""
    assert numbered(["b", "a"]) == {"b": 0, "a": 1}
    with pytest.raises(DataError, match="'a' is that of item 0 and of item 2"):
        numbered(["a", "b", "a"])
    with pytest.raises(DataError, match="Item 1 has no id"):
        numbered(["a", None])
