"""Temperatures of each input: the identities of the dual, fixed points, bounds, and the state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.checkpoint import load_state, save_state
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.temperatures import (
    UNVISITED,
    IndividualTemperatures,
    TemperatureLearning,
    weigh,
)

seeds = st.integers(0, 2**32 - 1)


def cosines(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 2 * drawn - 1


def unvisited(rows: int) -> torch.Tensor:
    return torch.full((rows,), UNVISITED, dtype=torch.float64)


def state(samples: int = 8, first: float = 0.2, **fields: Any) -> IndividualTemperatures:
    return IndividualTemperatures(samples, first, TemperatureLearning(**fields))


def paper_step(
    h: torch.Tensor, tau: float, s: float, b: float, gamma: float, rho: float, *, guarded: bool, visited: bool
) -> tuple[torch.Tensor, float, float, float]:
    """One row as the paper's code has it: (weights / n, s', b', d), with or without its running maximum b."""
    top = max(b, float((h / tau).max())) if guarded else 0.0
    terms = torch.exp(h / tau - top)
    g = float(terms.mean())
    new = (1 - gamma) * s * math.exp((b if guarded else 0.0) - top) + gamma * g if visited else g
    weights = terms / new / len(h)
    return weights, new, top, math.log(new) + top + rho - float((weights * h / tau).sum())


@settings(max_examples=50, deadline=None)
@given(seed=seeds, tau=st.floats(0.05, 2), rho=st.floats(0.01, 2), shift=st.floats(-1, 1))
def test_the_gradient_is_rho_less_the_divergence(seed: int, tau: float, rho: float, shift: float) -> None:
    """Oracle: d = rho - KL(weights || uniform) where the average is the batch's own, shifted or not."""
    h = cosines(3, 9, seed=seed)
    counted = torch.ones_like(h, dtype=torch.bool)
    taus = torch.full((3,), tau, dtype=torch.float64)
    log_mean = torch.zeros(3, dtype=torch.float64)
    for values in (h, h - shift):
        found = weigh(values, counted, taus, log_mean, new_mean=1.0, rho=rho)
        weights = torch.softmax(h / tau, 1)
        divergence = (weights * (weights * 9).log()).sum(1)
        assert torch.allclose(found.weights, weights, atol=1e-9)
        assert torch.allclose(found.gradient, rho - divergence, atol=1e-6)
        assert torch.allclose(found.divergence, divergence, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, tau=st.floats(0.1, 1.0), gamma=st.floats(0.1, 1.0))
def test_against_the_code_of_the_paper(seed: int, tau: float, gamma: float) -> None:
    """Oracle: a plain second implementation, with and without its guard, over three steps: to 1e-9."""
    for guarded in (False, True):
        s, b, log_mean = 0.0, 0.0, unvisited(1)
        for step in range(3):
            h = cosines(1, 7, seed=seed + step)
            weights, s, b, d = paper_step(h[0], tau, s, b, gamma, 0.3, guarded=guarded, visited=bool(step))
            taus = torch.tensor([tau], dtype=torch.float64)
            found = weigh(h, torch.ones_like(h, dtype=torch.bool), taus, log_mean, new_mean=gamma, rho=0.3)
            log_mean = found.log_mean
            assert torch.allclose(found.weights[0], weights, rtol=1e-9)
            assert float(found.gradient) == pytest.approx(d, abs=1e-9)
            assert float(log_mean) == pytest.approx(math.log(s) + b, abs=1e-9)


def test_tiny_temperatures_stay_finite() -> None:
    """Oracle: at 0.005 exp(2 / tau) is past float32's largest number; the weights still sum to 1."""
    h = cosines(4, 6).float() * 2
    found = weigh(
        h,
        torch.ones_like(h, dtype=torch.bool),
        torch.full((4,), 0.005),
        unvisited(4).float(),
        new_mean=0.8,
        rho=6.0,
    )
    assert not torch.isfinite(torch.exp(h / 0.005)).all()
    assert all(torch.isfinite(part).all() for part in found)
    assert torch.allclose(found.weights.sum(1), torch.ones(4), atol=1e-5)


def test_equal_negatives_let_the_temperature_fall() -> None:
    """Oracle: KL is 0, so d = rho; a first visit lowers tau by eta beta rho, later ones to the least."""
    made = state(first=0.2, rho=0.5, rate=0.03, new_gradient=0.5)
    equal, counted, ids = torch.full((2, 3, 6), 0.4), torch.ones(2, 3, 6, dtype=torch.bool), torch.arange(3)
    found = made.weigh(equal, counted, ids)
    assert torch.allclose(found.divergence, torch.zeros(2, 3), atol=1e-6)
    assert torch.allclose(made.tau[:3], torch.full((3,), 0.2 - 0.03 * 0.5 * 0.5), atol=1e-7)
    assert torch.equal(made.tau[3:], torch.full((5,), 0.2))
    for _ in range(100):
        made.weigh(equal, counted, ids)
    assert torch.equal(made.tau[:3], torch.full((3,), 0.05))


@pytest.mark.parametrize("rho", [0.2, 1.0, 3.0])
def test_the_divergence_comes_to_rho(rho: float) -> None:
    """Oracle: the fixed point of steps 5 and 6 with one dominating negative among 200: KL = rho."""
    h = 0.05 * cosines(1, 1, 200)
    h[..., 0] = 0.9
    counted = torch.ones_like(h, dtype=torch.bool)
    made = state(1, 0.3, rho=rho, least=1e-3, rate=0.02, new_mean=1.0).double()
    for _ in range(800):
        found = made.weigh(h, counted, torch.tensor([0]))
    assert 1e-3 < float(made.tau) < 1.0
    assert float(found.divergence) == pytest.approx(rho, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, rate=st.floats(0.01, 10), rho=st.floats(0.01, 1.5))
def test_temperatures_stay_within_their_bounds(seed: int, rate: float, rho: float) -> None:
    """Oracle: a law: least <= tau <= greatest, after steps of any size."""
    made = state(first=0.1, rate=rate, rho=rho, least=0.07, greatest=0.6)
    for step in range(4):
        h = cosines(2, 4, 5, seed=seed + step).float()
        made.weigh(h, torch.ones(2, 4, 5, dtype=torch.bool), torch.tensor([1, 3, 5, 7]))
        assert float(made.tau.min()) >= torch.tensor(0.07) and float(made.tau.max()) <= torch.tensor(0.6)


def test_one_step_of_the_state_by_hand() -> None:
    """Oracle: equations 3 to 6 written out for one input of two views, at its second visit."""
    gamma, beta, eta, rho = 0.8, 0.5, 0.1, 0.3
    made = state(2, 0.2, new_mean=gamma, new_gradient=beta, rate=eta, rho=rho).double()
    counted = torch.ones(2, 1, 5, dtype=torch.bool)
    s, u, tau = 0.0, 0.0, 0.2
    for visit in range(2):
        h = cosines(2, 1, 5, seed=visit)
        made.weigh(h, counted, torch.tensor([1]))
        terms = torch.exp(h[:, 0] / tau)  # [2, 5]
        g = terms.mean(1)
        both = g if visit == 0 else (1 - gamma) * s + gamma * g
        d = both.log() + rho - (terms / both[:, None] * h[:, 0] / tau).mean(1)
        s = float(both.mean())
        u = (1 - beta) * u + beta * float(d.mean().clamp(-3, 3))
        tau = tau - eta * u
        assert float(made.log_mean[1]) == pytest.approx(math.log(s), abs=1e-7)
        assert float(made.momentum[1]) == pytest.approx(u, abs=1e-6)
        assert float(made.tau[1]) == pytest.approx(tau, abs=1e-7)
    assert made.visited.tolist() == [False, True] and float(made.tau[0]) == pytest.approx(0.2)


def test_gradients_are_clamped() -> None:
    """Oracle: d is near -6 here, so u = -beta clamp after one step."""
    made = state(1, 0.05, rho=0.1, clamp=3.0)
    h = torch.zeros(1, 1, 1000)
    h[..., 0] = 1.0
    assert float(made.weigh(h, torch.ones_like(h, dtype=torch.bool), torch.tensor([0])).gradient) < -5
    assert float(made.momentum) == pytest.approx(-1.5)


def test_evaluation_leaves_the_state_alone() -> None:
    """Oracle: the bytes of the state before."""
    made = state()
    h, counted, ids = cosines(2, 4, 5).float(), torch.ones(2, 4, 5, dtype=torch.bool), torch.arange(4)
    made.weigh(h, counted, ids)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = made.eval().weigh(-h, counted, ids)
    assert all(torch.equal(made.state_dict()[name], value) for name, value in before.items())
    assert torch.isfinite(found.weights).all()
    made.train().weigh(-h, counted, ids)
    assert not torch.equal(made.tau, before["tau"])


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Oracle: the state that was not saved and loaded."""
    made, counted = state(), torch.ones(2, 4, 5, dtype=torch.bool)
    made.weigh(cosines(2, 4, 5).float(), counted, torch.arange(4))
    save_state(tmp_path / "checkpoint", {"temperatures": made}, {})
    made.save(tmp_path / "saved")
    other = state()
    load_state(tmp_path / "checkpoint", {"temperatures": other})
    loaded = IndividualTemperatures.load(tmp_path / "saved")
    assert not loaded.training and loaded.settings == made.settings
    for again in (other, loaded.train()):
        again.weigh(cosines(2, 4, 5, seed=1).float(), counted, torch.tensor([2, 0, 5, 7]))
    made.weigh(cosines(2, 4, 5, seed=1).float(), counted, torch.tensor([2, 0, 5, 7]))
    for name, value in made.state_dict().items():
        assert torch.equal(other.state_dict()[name], value) and torch.equal(loaded.state_dict()[name], value)


def test_other_data_are_refused_and_more_taken_where_allowed() -> None:
    """Oracle: the message names both numbers; the rows of the old are kept and the new begin anew."""
    made = state(4)
    made.weigh(cosines(2, 2, 5).float(), torch.ones(2, 2, 5, dtype=torch.bool), torch.arange(2))
    for samples in (3, 6):
        with pytest.raises(DataError, match=f"those of 4 training inputs; the data have {samples}"):
            state(samples).load_state_dict(made.state_dict())
    grown = IndividualTemperatures(6, 0.3, TemperatureLearning(), allow_new=True)
    grown.load_state_dict(made.state_dict())
    assert torch.equal(grown.tau[:4], made.tau) and torch.equal(grown.tau[4:], torch.full((2,), 0.3))
    assert grown.visited.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("ids", "word"),
    [
        ([0, 8], "8 is no place among 8"),
        ([-1, 2], "-1 is no place among 8"),
        ([3, 5, 3], "3 is twice"),
        ([0.0, 1.0], "whole numbers"),
        ([[0, 1]], "whole numbers"),
    ],
)
def test_ids_that_are_none(ids: Any, word: str) -> None:
    """Oracle: the message, and a state that was not touched."""
    made = state(8)
    with pytest.raises(DataError, match=word):
        made.weigh(torch.zeros(2, 2, 5), torch.ones(2, 2, 5, dtype=torch.bool), torch.tensor(ids))
    assert not made.visited.any()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"least": 0.0}, "least"),
        ({"least": 0.5, "greatest": 0.1}, "greatest"),
        ({"rho": 0.0}, "rho"),
        ({"rho": math.log(6)}, "log 6 = 1.79"),
        ({"new_mean": 0.0}, "new_mean"),
        ({"new_gradient": 1.5}, "new_gradient"),
        ({"rate": -0.1}, "rate"),
        ({"clamp": 0.0}, "clamp"),
    ],
)
def test_settings_that_cannot_be_right(fields: dict[str, float], word: str) -> None:
    """Oracle: the message; rho just below the bound is taken."""
    with pytest.raises(UsageError, match=word):
        TemperatureLearning(**fields).validate(6)
    TemperatureLearning(rho=math.log(6) - 1e-6).validate(6)
