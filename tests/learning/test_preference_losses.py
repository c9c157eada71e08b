"""Losses on pairs: closed forms, gradients, and where they are least."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.learning.preference_losses import log_ratio_margin, preference_loss, squared_loss

FINITE = st.floats(-20, 20)


def test_dpo_closed_form_and_gradient() -> None:
    """Oracle: log(1 + exp(-beta m)); derivative by the chosen log-probability -beta sigmoid(-beta m)."""
    policy = torch.tensor([[-1.0, -2.0], [-3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-1.5, -2.0], [-2.0, -4.0]], dtype=torch.float64)
    margin = np.array([(-1 + 1.5) - (-3 + 2), (-2 + 2) - (-1 + 4)])
    loss = preference_loss(log_ratio_margin(*policy, *reference), torch.ones(2), beta=0.3)
    np.testing.assert_allclose(loss.detach().numpy(), np.log1p(np.exp(-0.3 * margin)))
    loss.sum().backward()
    slope = 0.3 / (1 + np.exp(0.3 * margin))
    np.testing.assert_allclose(policy.grad.numpy(), [-slope, slope])


@given(st.lists(FINITE, min_size=1, max_size=5), st.floats(0.01, 5))
def test_hard_targets_are_dpo(margins: list[float], beta: float) -> None:
    """Oracle: -log sigmoid(beta m), bit for bit, also in its gradient."""
    ours, theirs = (torch.tensor(margins, requires_grad=True) for _ in range(2))
    loss = preference_loss(ours, torch.ones(len(margins)), beta)
    plain = -torch.nn.functional.logsigmoid(beta * theirs)
    assert torch.equal(loss, plain)
    loss.sum().backward()
    plain.sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@given(FINITE, FINITE, st.floats(0.05, 2))
def test_soft_loss_is_least_at_the_difference_of_rewards(first: float, second: float, eta: float) -> None:
    """Oracle: the gradient at beta * margin = r1 - r2 is 0, and any other margin costs more."""
    gap = torch.tensor(first / 20 - second / 20, dtype=torch.float64)
    margin = (gap / eta).requires_grad_(True)
    loss = preference_loss(margin, torch.sigmoid(gap), eta)
    loss.backward()
    assert abs(float(margin.grad)) < 1e-12
    for step in (-0.5, 0.5):
        assert preference_loss(margin.detach() + step, torch.sigmoid(gap), eta) > loss


@given(FINITE, st.floats(0, 1))
def test_swapped_pairs(margin: float, target: float) -> None:
    """Oracle: the loss of (y, y') with z is that of (y', y) with 1 - z."""
    m, z = torch.tensor(margin, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)
    assert float(preference_loss(m, z)) == pytest.approx(float(preference_loss(-m, 1 - z)))
    assert float(squared_loss(m, z)) == pytest.approx(float(squared_loss(-m, -z)))


@given(st.tuples(FINITE, FINITE, FINITE, FINITE))
def test_swapping_chosen_and_rejected_flips_the_margin(logs: tuple[float, float, float, float]) -> None:
    """Oracle: the margin is antisymmetric in its two completions."""
    a, b, c, d = (torch.tensor(one, dtype=torch.float64) for one in logs)
    assert float(log_ratio_margin(a, b, c, d)) == pytest.approx(-float(log_ratio_margin(b, a, d, c)))


def test_squared_loss_gradient() -> None:
    """Oracle: 2 beta (beta m - target), by hand."""
    margin = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
    squared_loss(margin, torch.tensor([1.0, 0.0], dtype=torch.float64), 0.5).sum().backward()
    np.testing.assert_allclose(margin.grad.numpy(), [2 * 0.5 * (1.5 - 1), 2 * 0.5 * (-0.5)])
