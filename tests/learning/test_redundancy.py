"""Losses of redundancy reduction: closed forms, invariances, gradients, shares, and low precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.learning.distributed import processes
from selfstudy.learning.redundancy import (
    EPSILON,
    barlow_loss,
    barlow_terms,
    correlation_of,
    cross_correlation,
    off_diagonal,
    standardised,
)

from .two_processes import in_two_processes

WEIGHT = 0.005
seeds = st.integers(0, 2**32 - 1)


def embeddings(rows: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def two_views(rows: int = 12, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    first = embeddings(rows, width, seed)
    return first, first + 0.5 * embeddings(rows, width, seed + 1)


def loss_of(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return barlow_loss(cross_correlation(first, second), WEIGHT)


def plain_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Equations 1 and 2 of the paper, one pair of columns at a time."""
    total = torch.zeros((), dtype=first.dtype)
    for i in range(first.shape[1]):
        for j in range(first.shape[1]):
            a, b = first[:, i] - first[:, i].mean(), second[:, j] - second[:, j].mean()
            products = (a * b).mean()
            c = products / ((a.square().mean() + EPSILON) * (b.square().mean() + EPSILON)).sqrt()
            total = total + ((c - 1) ** 2 if i == j else WEIGHT * c**2)
    return total


@settings(max_examples=20, deadline=None)
@given(seed=seeds, rows=st.integers(2, 9), width=st.integers(1, 5))
def test_the_loss_by_hand(seed: int, rows: int, width: int) -> None:
    """Oracle: a plain second implementation by pairs of columns, value and gradients to 1e-10."""
    pairs = []
    for loss in (loss_of, plain_loss):
        first, second = (view.requires_grad_() for view in two_views(rows, width, seed % 2**31))
        value = loss(first, second)
        pairs.append((value, *torch.autograd.grad(value, (first, second))))
    for found, by_hand in zip(*pairs, strict=True):
        assert torch.allclose(found, by_hand, rtol=1e-8, atol=1e-10)


def test_whitened_columns_cost_nothing() -> None:
    """Oracle: columns of a Hadamard matrix are orthogonal with mean 0 and variance 1, so C is I."""
    hadamard = torch.ones(1, 1)
    for _ in range(4):
        hadamard = torch.cat((torch.cat((hadamard, hadamard), 1), torch.cat((hadamard, -hadamard), 1)))
    white = hadamard[:, 1:]  # the first is constant
    assert loss_of(white, white) < 1e-6


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_identical_views(seed: int) -> None:
    """Oracle: C_ii = var / (var + eps) with the biased variance, which leaves the redundancy."""
    view = embeddings(9, 4, seed % 2**31)
    correlation = cross_correlation(view, view)
    variance = view.var(0, correction=0)
    assert torch.allclose(correlation.diagonal(), variance / (variance + EPSILON), rtol=1e-9)
    invariance, redundancy = barlow_terms(correlation)
    assert invariance < 1e-6
    outside = correlation[~torch.eye(4, dtype=torch.bool)]
    assert redundancy.item() == pytest.approx(outside.square().sum().item(), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, scale=st.floats(1, 50), shift=st.floats(-20, 20), column=st.integers(0, 4))
def test_scale_and_shift_of_columns(seed: int, scale: float, shift: float, column: int) -> None:
    """Oracle: correlations do not see them but for eps; a negative scale turns the sign of that row of C."""
    first, second = two_views(16, 5, seed % 2**31)
    moved = loss_of(first * scale + shift, second)
    assert moved.item() == pytest.approx(loss_of(first, second).item(), abs=1e-4)
    turned = torch.ones(5, dtype=torch.float64)
    turned[column] = -1
    flipped = cross_correlation(first * turned, second)
    assert torch.allclose(flipped, turned[:, None] * cross_correlation(first, second), atol=1e-12)


def test_order_of_the_batch() -> None:
    """Oracle: a mean over the batch has no order; pairs that do not belong together are uncorrelated, with a
    deviation of 1 / sqrt(B) for each of the C_ii."""
    first, second = two_views(2000, 8)
    order = torch.from_numpy(np.random.default_rng(0).permutation(2000))
    together = loss_of(first[order], second[order])
    assert torch.allclose(together, loss_of(first, second), rtol=1e-9)
    apart = cross_correlation(first, second[order]).diagonal()
    assert apart.abs().max() < 4 / 2000**0.5 and cross_correlation(first, second).diagonal().min() > 0.8


def test_swapped_views() -> None:
    """Oracle: C(b, a) is the transpose of C(a, b), with the same loss."""
    first, second = two_views()
    assert torch.allclose(cross_correlation(second, first), cross_correlation(first, second).T)
    assert torch.allclose(loss_of(second, first), loss_of(first, second))


def test_equal_columns() -> None:
    """Oracle: uncorrelated columns, one of them twice: C_12 = C_21 = 1 adds 2 lambda."""
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    twice = torch.cat((hadamard, hadamard[:, :1]), 1)
    correlation = cross_correlation(twice, twice)
    assert correlation[0, 3].item() == pytest.approx(1, abs=1e-4)
    assert (loss_of(twice, twice) - loss_of(hadamard, hadamard)).item() == pytest.approx(2 * WEIGHT, rel=1e-3)


@pytest.mark.parametrize("row_normalise", [False, True])
def test_gradient(row_normalise: bool) -> None:
    """Oracle: finite differences in float64, D = 5, B = 7."""

    def loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return barlow_loss(cross_correlation(first, second, row_normalise=row_normalise), WEIGHT)

    assert torch.autograd.gradcheck(loss, [view.requires_grad_() for view in two_views(7, 5)])


def test_constant_embedding() -> None:
    """Oracle: C = 0, so the loss is D; the gradient goes through eps alone and is finite."""
    first = torch.full((8, 6), 3.0, requires_grad=True)
    loss = loss_of(first, torch.full((8, 6), -1.0))
    loss.backward()
    assert loss.item() == 6 and torch.isfinite(first.grad).all()


def test_unit_rows() -> None:
    """Oracle: with row_normalise the length of a row does not matter; without it does."""
    first, second = two_views()
    lengths = torch.linspace(0.5, 3, len(first), dtype=torch.float64)[:, None]
    unit = cross_correlation(first, second, row_normalise=True)
    assert torch.allclose(cross_correlation(first * lengths, second, row_normalise=True), unit)
    assert not torch.allclose(
        cross_correlation(first * lengths, second), cross_correlation(first, second), atol=1e-3
    )
    by_hand = cross_correlation(functional.normalize(first, dim=1), functional.normalize(second, dim=1))
    assert torch.allclose(unit, by_hand)


def test_off_diagonal() -> None:
    """Oracle: the mean over the entries themselves; one column has none."""
    correlation = cross_correlation(*two_views())
    outside = correlation[~torch.eye(5, dtype=torch.bool)].abs().mean()
    assert torch.allclose(off_diagonal(correlation), outside)
    assert off_diagonal(torch.ones(1, 1)) == 0


@pytest.mark.parametrize("rows", [8, 256])
def test_bfloat16_networks(rows: int) -> None:
    """Oracle: the loss in float64 of the same rounded embeddings; within autocast only their rounding is
    left, and a large mean does not cost the variance its digits."""
    first, second = ((view.float() * 3 + 5).bfloat16() for view in two_views(rows, 32))
    with torch.autocast("cpu", torch.bfloat16):
        correlation = cross_correlation(first, second)
        loss = barlow_loss(correlation, WEIGHT)
    assert correlation.dtype == loss.dtype == torch.float32
    exact = loss_of(first.double(), second.double())
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


def test_gradients_in_bfloat16_are_finite() -> None:
    """Oracle: dead, tiny and huge columns in bfloat16 have finite gradients."""
    first = torch.cat(
        (torch.zeros(8, 1), 1e-20 * torch.ones(8, 1), 1e18 * embeddings(8, 1).float()), 1
    ).bfloat16()
    first.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(first, embeddings(8, 3, 1).bfloat16())
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(first.grad).all()


@pytest.mark.parametrize(("first", "second"), [((1, 4), (1, 4)), ((4, 3), (4, 2)), ((4, 3), (3, 3))])
def test_refused(first: tuple[int, int], second: tuple[int, int]) -> None:
    """Oracle: the message has both shapes."""
    with pytest.raises(DataError, match="two inputs or more") as said:
        cross_correlation(torch.zeros(first), torch.zeros(second))
    assert str(first) in str(said.value) and str(second) in str(said.value)


# Two processes.


def network() -> torch.nn.Linear:
    weights = torch.nn.Linear(6, 5).double()
    with torch.no_grad():
        weights.weight.copy_(embeddings(5, 6, 7))
        weights.bias.zero_()
    return weights


def shares(rank: int) -> dict[str, torch.Tensor]:
    """What one of two processes computes of the loss of 12 inputs, trained through accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    weights = network()
    prepared = accelerator.prepare(weights)
    first, second = (prepared(view.chunk(2)[rank]) for view in two_views(12, 6))
    loss = loss_of(first, second)
    accelerator.backward(loss)
    return {
        "processes": torch.tensor([processes(), accelerator.num_processes]),
        "standardised": standardised(first),
        "correlation": cross_correlation(first, second),
        "loss": loss,
        "gradient": weights.weight.grad,
    }


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Oracle: standardised columns, C, loss and the gradient of the weights in one process, to 1e-6."""
    both = in_two_processes(shares, tmp_path)
    weights = network()
    first, second = (weights(view) for view in two_views(12, 6))
    correlation, loss = cross_correlation(first, second), loss_of(first, second)
    loss.backward()
    for found in both:
        assert found["processes"].tolist() == [2, 2]
        assert torch.allclose(found["correlation"], correlation, atol=1e-12)
        assert torch.allclose(found["loss"], loss, atol=1e-12)
        assert torch.allclose(found["gradient"], weights.weight.grad, atol=1e-6, rtol=0)
    assert torch.allclose(torch.cat([found["standardised"] for found in both]), standardised(first))


def test_shards_add_up() -> None:
    """Oracle: the sum over shards of u^T v / B with the statistics of all is C."""
    first, second = two_views(12, 5)
    u, v = standardised(first), standardised(second)
    parts = [a.T @ b / 12 for a, b in zip(u.chunk(3), v.chunk(3), strict=True)]
    assert torch.allclose(sum(parts), cross_correlation(first, second))
    assert torch.allclose(correlation_of(u, v), cross_correlation(first, second))
