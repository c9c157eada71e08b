"""Contrast of nodes: closed forms, and exact gradients without a matrix kept."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.learning import node_contrast as module
from selfstudy.learning.node_contrast import log_sums, node_contrast


def unit(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return functional.normalize(drawn, dim=1).requires_grad_()


def plain(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Both directions as written in the paper."""
    similar = torch.exp(first @ second.T / temperature)
    of_rows = -torch.log(similar.diagonal() / similar.sum(1))
    of_columns = -torch.log(similar.diagonal() / similar.sum(0))
    return (of_rows + of_columns).mean() / 2


@pytest.mark.parametrize("temperature", [0.1, 0.4, 2.0])
@pytest.mark.parametrize("nodes", [1, 2, 7])
def test_orthonormal_embeddings(nodes: int, temperature: float) -> None:
    """Oracle: a closed form, log(1 + (N - 1) exp(-1 / tau))."""
    same = torch.eye(nodes, dtype=torch.float64)
    expected = math.log(1 + (nodes - 1) * math.exp(-1 / temperature))
    assert node_contrast(same, same, temperature).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("block", [1, 3, 8, 256])
def test_blocks_give_the_plain_loss_and_gradient(
    keep: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a plain second implementation, in value and in both gradients, to 1e-10."""
    monkeypatch.setattr(module, "BLOCK", block)
    one, two = unit(8, 5, 0), unit(8, 5, 1)
    node_contrast(one, two, 0.3, keep=keep).backward()
    again, other = unit(8, 5, 0), unit(8, 5, 1)
    expected = plain(again, other, 0.3)
    expected.backward()
    assert node_contrast(one, two, 0.3, keep=keep).item() == pytest.approx(expected.item(), abs=1e-12)
    for found, wanted in ((one, again), (two, other)):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("keep", [True, False])
def test_gradients_by_finite_differences(keep: bool) -> None:
    """Oracle: torch's numerical gradients, for another number of rows than of columns."""
    one, two = unit(4, 3, 0), unit(6, 3, 1)
    assert torch.autograd.gradcheck(lambda u, v: log_sums(u, v, 0.5, keep=keep), (one, two))


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 12), width=st.integers(1, 6), seed=st.integers(0, 99), keep=st.booleans())
def test_nodes_may_come_in_any_order(rows: int, width: int, seed: int, keep: bool) -> None:
    """Oracle: an invariance, and that the two views may change places."""
    one, two = unit(rows, width, seed), unit(rows, width, seed + 100)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    loss = node_contrast(one, two, 0.4, keep=keep).item()
    assert node_contrast(one[order], two[order], 0.4).item() == pytest.approx(loss, abs=1e-12)
    assert node_contrast(two, one, 0.4).item() == pytest.approx(loss, abs=1e-12)


def test_anchors_are_without_bias() -> None:
    """Oracle: the mean over every single anchor is the loss of all, in value and gradient."""
    one, two = unit(6, 4, 0), unit(6, 4, 1)
    losses = [node_contrast(one, two, 0.4, anchors=torch.tensor([at])) for at in range(6)]
    mean = torch.stack(losses).mean()
    whole = node_contrast(one, two, 0.4)
    assert mean.item() == pytest.approx(whole.item(), abs=1e-12)
    for view in (one, two):
        (by_anchor,), (of_all,) = (
            torch.autograd.grad(loss, view, retain_graph=True) for loss in (mean, whole)
        )
        torch.testing.assert_close(by_anchor, of_all, rtol=0, atol=1e-12)


def test_low_temperatures_and_half_precision() -> None:
    """Oracle: opposite embeddings at the least temperature give 2 / tau; bfloat16 is widened."""
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    least = module.LEAST_TEMPERATURE
    found = node_contrast(one, -one, least)
    assert float(found) == pytest.approx(2 / least, rel=1e-5)
    assert node_contrast(one.bfloat16(), one.bfloat16(), 0.4).dtype == torch.float32
    for keep in (True, False):
        one, two = unit(9, 4, 0, torch.float32), unit(9, 4, 1, torch.float32)
        outside = node_contrast(one, two, 0.4, keep=keep)
        with torch.autocast("cpu", torch.bfloat16):
            inside = node_contrast(one, two, 0.4, keep=keep)
            (gradient,) = torch.autograd.grad(inside, one)
        assert inside.item() == outside.item(), "within autocast it computes as without"
        assert torch.equal(gradient, torch.autograd.grad(outside, one)[0])
    with pytest.raises(UsageError, match=r"temperature is 0\.01; it must be at least 0\.03"):
        node_contrast(one, two, 0.01)
