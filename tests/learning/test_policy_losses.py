"""Losses of policy gradients: numbers by hand, closed forms over an enumerable policy, gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.learning.policy_losses import clipped_loss, kl_estimate, sequence_log_ratio, token_weights

LOGITS = st.lists(st.floats(-2, 2), min_size=5, max_size=5)


def one(ratio: float, advantage: float, **bounds: float) -> float:
    return float(clipped_loss(torch.tensor([[ratio]]), torch.tensor([[advantage]]), **bounds))


@pytest.mark.parametrize(
    ("ratio", "advantage", "bounds", "loss"),
    [
        (1.5, 1.0, {}, -1.2),
        (0.5, 1.0, {}, -0.5),
        (1.5, -1.0, {}, 1.5),
        (0.5, -1.0, {}, 0.8),
        (10.0, 1.0, {"low": 0.2, "high": 0.3}, -1.3),
        (10.0, -1.0, {"dual": 3.0}, 3.0),
        (10.0, -2.0, {"dual": 3.0}, 6.0),
        (2.0, -1.0, {"dual": 3.0}, 2.0),
        (10.0, 1.0, {"dual": 3.0}, -1.2),
    ],
)
def test_clipping(ratio: float, advantage: float, bounds: dict[str, float], loss: float) -> None:
    """Oracle: by hand, for both signs of the advantage on both sides of the range."""
    assert one(ratio, advantage, **bounds) == pytest.approx(loss)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"), [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True)]
)
def test_what_is_clipped_has_no_gradient(ratio: float, advantage: float, moves: bool) -> None:
    """Oracle: beyond the range in the direction of the advantage the gradient is 0, else -A."""
    at = torch.tensor([[ratio]], requires_grad=True)
    clipped_loss(at, torch.tensor([[advantage]])).sum().backward()
    assert at.grad is not None and float(at.grad) == (-advantage if moves else 0.0)


@given(LOGITS, LOGITS)
def test_distances_over_an_enumerable_policy(policy: list[float], reference: list[float]) -> None:
    """Oracle: the exact KL by summing over all tokens: k1 and k3 are unbiased, k3 is never negative."""
    p, q = torch.tensor(policy).log_softmax(0), torch.tensor(reference).log_softmax(0)
    exact = float((p.exp() * (p - q)).sum())
    for kind in ("k1", "k3"):
        assert float((p.exp() * kl_estimate(p, q, kind)).sum()) == pytest.approx(exact, abs=1e-5)
    assert (kl_estimate(p, q, "k3") >= -1e-6).all() and float(kl_estimate(p, p, "k3").abs().max()) == 0
    assert kl_estimate(p, q, "k2").tolist() == pytest.approx(((p - q) ** 2 / 2).tolist(), abs=1e-6)


def test_k3_pulls_towards_the_reference() -> None:
    """Oracle: a token likelier than under the reference has a positive gradient in its log-probability."""
    logp = torch.tensor([-0.5, -3.0], requires_grad=True)
    kl_estimate(logp, torch.tensor([-1.0, -1.0])).sum().backward()
    assert logp.grad is not None and logp.grad[0] > 0 > logp.grad[1]


def test_ratio_of_whole_answers() -> None:
    """Oracle: the geometric mean of the ratios of the tokens that count, by hand."""
    log_ratio = torch.tensor([[0.4, 0.2, 9.0], [0.3, 0.0, -0.6]])
    counted = torch.tensor([[True, True, False], [True, True, True]])
    found = sequence_log_ratio(log_ratio, counted)
    assert found[0, :2].tolist() == pytest.approx([0.3, 0.3])
    assert found[1].tolist() == pytest.approx([-0.1] * 3)


def test_weights_of_tokens() -> None:
    """Oracle: by hand for answers of 1 and 3 tokens, of at most 4."""
    lengths = torch.tensor([1, 3])
    assert token_weights(lengths, "tokens", 4).tolist() == [0.25, 0.25]
    assert token_weights(lengths, "sequences", 4).tolist() == pytest.approx([1 / 2, 1 / 6])
    assert token_weights(lengths, "length", 4).tolist() == [0.125, 0.125]
