"""Nearest neighbours: against brute force, against faiss, and with duplicates."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import MissingExtra, UsageError
from selfstudy.signals import neighbours
from selfstudy.signals.neighbours import nearest, nearest_others


def drawn(count: int, width: int, seed: int = 0, away: float = 0.0) -> torch.Tensor:
    values = np.random.default_rng(seed).normal(size=(count, width)) + away
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("space", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 100, 1 << 25])
def test_against_brute_force(space: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: distances written out in float64 and sorted, for blocks of one row, of several, of all."""
    monkeypatch.setattr(neighbours, "BLOCK", block)
    known, queries = drawn(60, 7, 1, away=3.0), drawn(23, 7, 2, away=3.0)
    found = nearest(known, queries, 9, space=space)  # type: ignore[arg-type]
    a, b = known.double().numpy(), queries.double().numpy()
    if space == "cosine":
        a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (a, b))
    distances = np.linalg.norm(b[:, None] - a[None], axis=2)
    assert np.array_equal(found.places.numpy(), distances.argsort(1)[:, :9])
    assert np.allclose(found.distances.numpy(), np.sort(distances, 1)[:, :9], atol=1e-3)


@given(st.integers(0, 2**31), st.integers(2, 30), st.integers(1, 12), st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_others_are_never_the_item_itself(seed: int, count: int, wanted: int, levels: int) -> None:
    """Oracle: a law, with many equal items: each row has `wanted` different others, in order of distance,
    of equal distances the lower place first."""
    wanted = min(wanted, count - 1)
    items = torch.from_numpy(np.random.default_rng(seed).integers(0, levels, (count, 2)).astype(np.float32))
    found = nearest_others(items, wanted)
    rows = found.places.tolist()
    assert all(place not in row and len(set(row)) == wanted for place, row in enumerate(rows))
    for row, distances in zip(rows, found.distances.tolist(), strict=True):
        assert list(zip(distances, row, strict=True)) == sorted(zip(distances, row, strict=True))


def test_duplicates_are_neighbours() -> None:
    """Oracle: by hand. Two equal items are each other's nearest, not their own."""
    items = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 0.0], [5.0, 1.0]])
    found = nearest_others(items, 1)
    assert found.places[:, 0].tolist() == [2, 3, 0, 1]
    assert found.distances[:, 0].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_digits_far_from_the_origin() -> None:
    """Oracle: moving all vectors by the same amount changes no neighbour; products of raw float32 vectors
    would lose these differences."""
    items = (drawn(50, 3, 4) * 64).round() / 64  # moving these loses nothing
    moved = items + 4096
    assert torch.equal(nearest_others(items, 5).places, nearest_others(moved, 5).places)


@pytest.mark.parametrize("space", ["euclidean", "cosine"])
def test_faiss_gives_the_same(space: str) -> None:
    """Oracle: the blocks of torch."""
    pytest.importorskip("faiss")
    known, queries = drawn(500, 16, 5), drawn(40, 16, 6)
    for one, other in (
        (nearest(known, queries, 10, space=space), nearest(known, queries, 10, space=space, backend="faiss")),  # type: ignore[arg-type]
        (nearest_others(known, 14), nearest_others(known, 14, backend="faiss")),
    ):
        assert torch.equal(one.places, other.places)
        assert torch.allclose(one.distances, other.distances, atol=1e-4)


def test_what_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: named errors for too many neighbours, and for faiss where it is not installed."""
    items = drawn(4, 2)
    for count in (0, 5):
        with pytest.raises(UsageError, match=f"{count} nearest neighbours are asked for among 4 items"):
            nearest(items, items, count)
    with pytest.raises(UsageError, match="among 3 others"):
        nearest_others(items, 4)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"selfstudy\[search\]"):
        nearest(items, items, 1, backend="faiss")
