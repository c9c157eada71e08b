"""Monitors of collapse: closed forms and limits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.evaluation.collapse import alignment, effective_rank, least_variance, uniformity


def normal(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def orthonormal(count: int, width: int) -> torch.Tensor:
    """Return centred columns that are orthonormal."""
    drawn = normal(count, width).double()
    return torch.linalg.qr(drawn - drawn.mean(0)).Q


def test_the_rank_of_known_singular_values() -> None:
    """Oracle: exp of the entropy of the shares, by hand: equal ones give their number, one alone gives 1."""
    columns = orthonormal(50, 4)
    assert effective_rank(columns) == pytest.approx(4)
    assert effective_rank(columns + 100.0) == pytest.approx(4), "centred"
    assert effective_rank(columns[:, :1] @ torch.ones(1, 9, dtype=torch.float64)) == pytest.approx(1)
    sizes = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    assert effective_rank(columns * sizes) == pytest.approx(math.exp(1.5 * math.log(2)))
    assert effective_rank(torch.full((10, 3), 0.1)) == 0


@settings(max_examples=25, deadline=None)
@given(count=st.integers(3, 30), width=st.integers(1, 8), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_laws_of_the_rank(count: int, width: int, scale: float, seed: int) -> None:
    """Oracle: from 1 to min(N - 1, d); turning and scaling all features leaves it."""
    features = normal(count, width, seed).double()
    rank = effective_rank(features)
    assert 1 - 1e-9 <= rank <= min(count - 1, width) + 1e-9
    turn = torch.linalg.qr(normal(width, width, seed + 1).double()).Q
    assert effective_rank(scale * features @ turn) == pytest.approx(rank)


def test_the_least_variance() -> None:
    """Oracle: by hand."""
    assert least_variance(torch.tensor([[0.0, 1.0], [2.0, 1.5]])) == pytest.approx(0.0625)
    assert least_variance(torch.tensor([[0.0, 1.0], [2.0, 1.0]])) == 0


def test_uniformity() -> None:
    """Oracle: two poles are 2 apart; all alike give 0; evenly on a circle, the Bessel function I_0."""
    poles = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
    assert uniformity(poles) == pytest.approx(-8)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert uniformity(torch.ones(1, 3)) == 0
    angles = torch.arange(400) * 2 * math.pi / 400
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    # The mean of exp(-2 (2 - 2 cos a)) over the circle, but for the pairs of a point with itself.
    expected = (400 * math.exp(-4) * float(torch.special.i0(torch.tensor(4.0))) - 1) / 399
    assert uniformity(circle) == pytest.approx(math.log(expected), abs=1e-6)


def test_alignment() -> None:
    """Oracle: by hand; lengths do not matter; it is 2 - 2 cos of the angle."""
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert alignment(first, 5 * first) == pytest.approx(0)
    assert alignment(first, -first) == pytest.approx(4)
    turned = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert alignment(first, turned) == pytest.approx((2 - math.sqrt(2)) / 2)


def test_collapse_is_seen_by_all() -> None:
    """Oracle: features with a tenth, a hundredth, ... of their spread about one point: all monitors fall."""
    features = normal(200, 8)
    found = [
        (effective_rank(part), -uniformity(part), least_variance(part))
        for part in (features * torch.tensor([1.0] + [share] * 7) + 3 for share in (1.0, 0.1, 0.01))
    ]
    for before, after in itertools.pairwise(found):
        assert all(late < early for early, late in zip(before, after, strict=True))
