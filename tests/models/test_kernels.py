"""Kernels and their spectrum: definitions, the exact decomposition, Nystrom's, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from selfstudy.core.errors import DataError, UsageError
from selfstudy.models.kernels import median_gamma, named_kernel, require_room, spectrum, symmetric

ROWS = np.random.default_rng(0).normal(size=(30, 3))


def test_kernels_are_what_they_say() -> None:
    """Oracle: scikit-learn's Gaussian kernel, inner products, and the median over pairs written out."""
    assert np.allclose(named_kernel("rbf", 0.3)(ROWS, ROWS[:5]), rbf_kernel(ROWS, ROWS[:5], 0.3))
    assert np.allclose(named_kernel("linear")(ROWS, ROWS[:5]), ROWS @ ROWS[:5].T)
    pairs = [((ROWS[i] - ROWS[j]) ** 2).sum() for i in range(30) for j in range(i)]
    assert median_gamma(ROWS) == pytest.approx(1 / np.median(pairs))
    assert median_gamma(np.ones((4, 2))) == 1
    line = np.arange(3000.0)[:, None]  # sorted; the median of |a - b| is 1 - 1/sqrt(2) of its length
    assert median_gamma(line) == pytest.approx(1 / (3000 * (1 - 0.5**0.5)) ** 2, rel=0.1)


@pytest.mark.parametrize("name", ["rbf", "linear"])
def test_the_exact_spectrum(name: str) -> None:
    """Oracle: K from its parts; eigenvalues at least 0 although K of the linear kernel is singular."""
    kernel = named_kernel(name, 0.3)
    found = spectrum(kernel, ROWS)
    rebuilt = found.vectors @ np.diag(found.values) @ found.vectors.T
    assert np.allclose(rebuilt, kernel(ROWS, ROWS)) and bool((found.values >= 0).all())
    assert np.allclose(kernel(ROWS[:4], found.anchors) @ found.onto, kernel(ROWS[:4], ROWS) @ found.vectors)


def test_nystroms_spectrum() -> None:
    """Oracle: K[:, a] K[a, a]^-1 K[a, :] of the same rows a; exact where the rank of K is reached."""
    kernel = named_kernel("rbf", 0.3)
    found = spectrum(kernel, ROWS, 8)
    assert found.anchors.shape == (8, 3)
    across, inner = kernel(ROWS, found.anchors), kernel(found.anchors, found.anchors)
    rebuilt = found.vectors @ np.diag(found.values) @ found.vectors.T
    assert np.allclose(rebuilt, across @ np.linalg.solve(inner, across.T))
    assert np.allclose(found.vectors.T @ found.vectors, np.eye(len(found.values)))
    fresh = np.random.default_rng(1).normal(size=(4, 3))
    wanted = kernel(fresh, found.anchors) @ np.linalg.solve(inner, across.T) @ found.vectors
    assert np.allclose(kernel(fresh, found.anchors) @ found.onto, wanted)
    line = spectrum(named_kernel("linear"), ROWS, 6)
    assert len(line.values) == 3  # the rank of three columns
    assert np.allclose(line.vectors @ np.diag(line.values) @ line.vectors.T, ROWS @ ROWS.T)


def test_what_is_refused() -> None:
    """Oracle: memory, symmetry, values and names; each message says what to do."""
    kernel = named_kernel("rbf")
    with pytest.raises(DataError, match="Give a rank for Nystrom"):
        spectrum(kernel, ROWS, most_bytes=1000)
    assert len(spectrum(kernel, ROWS, 5, most_bytes=1000).values) == 5
    require_room(20_000)
    for rank in (0, 30_000):  # as many rows as there are stand for themselves
        with pytest.raises(DataError, match=r"20,500 rows and its eigenvectors take 6\.3 GiB"):
            require_room(20_500, rank)
    with pytest.warns(UserWarning, match=r"not symmetric, by 1\.0e-03"):
        assert symmetric(np.array([[1.0, 0.5], [0.501, 1.0]]))[0, 1] == pytest.approx(0.5005)
    for matrix in (np.ones((2, 3)), np.array([[np.nan]])):
        with pytest.raises(DataError, match="square and finite"):
            symmetric(matrix)
    with pytest.raises(UsageError, match="Did you mean 'rbf'"):
        named_kernel("rbg")
    with pytest.raises(UsageError, match="gamma is -1"):
        named_kernel("rbf", -1)
