"""Shaped ratios: closed forms of f and its slope, gamma over the steps, and whom it concerns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.learning.policy_gradient import PolicyGradient, Tokens
from selfstudy.learning.policy_losses import clipped_loss
from selfstudy.learning.ratio_shaping import LEAST_GAMMA, Gamma, RatioShaping, shaped, shaped_ratio


def test_f_and_its_slope() -> None:
    """Oracle: closed forms: f(0.1) = 1/2 and f'(0.1) = gamma / (rho + gamma)^2 = 2.5 for gamma = 0.1."""
    rho = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    f = shaped_ratio(rho, "constant", 0.1)
    f.backward()
    assert f.item() == pytest.approx(0.5, abs=1e-12)
    assert rho.grad.item() == pytest.approx(2.5, abs=1e-12)


@given(st.floats(0.001, 50), st.floats(0.01, 3), st.sampled_from(["constant", "power"]))
def test_slopes_by_differences(rho: float, gamma: float, kind: str) -> None:
    """Oracle: central differences in double precision."""
    x = torch.tensor([rho, rho * (1 + 1e-6), rho * (1 - 1e-6)], dtype=torch.float64, requires_grad=True)
    f = shaped_ratio(x, kind, gamma)
    (slope,) = torch.autograd.grad(f[0], x)
    assert slope[0].item() == pytest.approx(((f[1] - f[2]) / (2e-6 * rho)).item(), rel=1e-4)


def test_a_power_of_a_vanished_ratio_has_no_infinite_slope() -> None:
    """Oracle: finite values at 0."""
    rho = torch.zeros(1, requires_grad=True)
    shaped_ratio(rho, "power", 0.5).sum().backward()
    assert torch.isfinite(rho.grad).all()


def test_equal_ratios_have_f_one_half() -> None:
    """Oracle: the quantile of equal numbers is that number, and c / (c + c) = 1/2."""
    for ratio in (0.01, 1.0, 7.0):
        gamma = Gamma(RatioShaping())
        gamma.look(np.full(100, ratio))
        assert shaped_ratio(torch.tensor(ratio), "percentile", gamma.value).item() == pytest.approx(0.5)


def test_gamma_over_the_steps() -> None:
    """Oracle: by hand: a quantile, the running mean where there are few, a floor, and the same restored."""
    gamma = Gamma(RatioShaping(quantile=0.9))
    gamma.look(np.full(31, 5.0))
    assert gamma.value == 5.0  # few, and nothing before
    gamma.look(np.linspace(0, 1, 101))
    assert gamma.value == pytest.approx(0.9)
    gamma.look(np.full(32, 1.9))
    assert gamma.value == pytest.approx(1.9)
    gamma.look(np.full(31, 50.0))
    assert gamma.value == pytest.approx(0.9 * 0.9 + 0.1 * 1.9)
    again = Gamma(RatioShaping())
    again.load_state_dict(gamma.state_dict())
    for one in (gamma, again):
        one.look(np.full(3, 7.0))
    assert again.state_dict() == gamma.state_dict()
    gamma.look(np.zeros(40))
    assert gamma.value == LEAST_GAMMA
    gamma.look(np.zeros(0))
    assert gamma.value == LEAST_GAMMA


@pytest.mark.parametrize("kind", ["constant", "power", "clip"])
def test_other_kinds_keep_their_gamma(kind: str) -> None:
    """Oracle: the setting."""
    gamma = Gamma(RatioShaping(kind=kind, gamma=0.3))
    gamma.look(np.full(100, 9.0))
    assert gamma.value == 0.3


def tokens(elsewhere: list[bool]) -> Tokens:
    ratio = torch.tensor([[0.05, 1.0, 3.0], [0.05, 1.0, 3.0]], requires_grad=True)
    where = torch.tensor([[one] for one in elsewhere])
    return Tokens(ratio, torch.tensor([[1.5], [-0.5]]), torch.ones(2, 3, dtype=torch.bool), where)


def test_the_loss_by_where_answers_were_drawn() -> None:
    """Oracle: the clipped loss for what was drawn here, -f(rho) A for the rest, each by its own formula."""
    settings, shaping = PolicyGradient(), RatioShaping(kind="constant", gamma=0.2)
    given_ = tokens([False, True])
    loss = shaped(settings, shaping, Gamma(shaping))(given_)
    clipped = clipped_loss(given_.ratio, given_.advantages)
    assert torch.equal(loss[0], clipped[0])
    rho = given_.ratio.detach()[1]
    assert torch.allclose(loss[1], 0.5 * rho / (rho + 0.2))
    loss.sum().backward()
    slope = given_.ratio.grad
    assert slope[0].tolist() == [-1.5, -1.5, 0.0]  # clipped above 1.2
    assert torch.allclose(slope[1], 0.5 * 0.2 / (rho + 0.2) ** 2)


def test_clipping_for_comparison() -> None:
    """Oracle: the clipped loss, wherever answers were drawn; it has no slope far from 1."""
    given_ = tokens([True, True])
    shaping = RatioShaping(kind="clip")
    loss = shaped(PolicyGradient(), shaping, Gamma(shaping))(given_)
    assert torch.equal(loss, clipped_loss(given_.ratio, given_.advantages))


@pytest.mark.parametrize("field", [{"quantile": 0.0}, {"quantile": 1.0}, {"gamma": 0.0}])
def test_refused(field: dict[str, float]) -> None:
    """Oracle: an error that names the field."""
    with pytest.raises(UsageError, match=next(iter(field))):
        RatioShaping(**field).validate()
