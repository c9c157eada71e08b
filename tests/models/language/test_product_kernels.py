"""Products of compiled loops against NumPy's in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.models.language import product_kernels
from selfstudy.models.language.product_kernels import COLUMNS, DEPTH, ROWS

quick = settings(max_examples=15, deadline=None, derandomize=True)


def panels(columns: int, depth: int) -> np.ndarray:
    """Filled with what must not show."""
    return np.full((-(-columns // COLUMNS), depth, COLUMNS), np.nan, dtype=np.float32)


@pytest.mark.parametrize("depth", [1, 31, DEPTH, DEPTH + 5])
@pytest.mark.parametrize("add", [False, True])
@given(rows=st.integers(0, 3 * ROWS + 1), columns=st.integers(1, 2 * COLUMNS + 1), seed=st.integers(0, 99))
@quick
def test_products(rows: int, depth: int, columns: int, add: bool, seed: int) -> None:
    """Oracle: float64, of rows and of columns, with each way of arranging; zeros beyond the columns."""
    rng = np.random.default_rng(seed)
    given, matrix = rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))
    there = rng.standard_normal((rows, len(panels(columns, 1)) * COLUMNS))
    exact = add * there
    exact[:, :columns] += given @ matrix
    ours, turned = panels(columns, depth), panels(columns, depth)
    product_kernels.arrange(matrix.astype(np.float32), ours)
    product_kernels.arrange_turned(np.ascontiguousarray(matrix.T.astype(np.float32)), turned)
    assert (ours == turned).all()
    for multiply, first in (
        (product_kernels.multiply, given),
        (product_kernels.multiply_turned, np.ascontiguousarray(given.T)),
    ):
        out = there.astype(np.float32)
        multiply(first.astype(np.float32), ours, out, add)
        np.testing.assert_allclose(out, exact, atol=2e-6 * depth + 1e-5)
