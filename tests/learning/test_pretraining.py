"""The loop of pre-training: rates, batches, groups of weights, precision, and what it does on collapse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.pretraining import Losses, Pretraining, epoch_indices, figures, pretrain, trial

OpenRun = Callable[..., Run]
INPUTS = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
PLAN: dict[str, Any] = {"epochs": 4, "batch": 4, "learning_rate": 0.05}


def network() -> nn.Linear:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(INPUTS[:2])
        module.bias.zero_()
    return module


def run_loop(
    run: Run, module: nn.Module, *, collapse_at: int | None = None, stop_at: int | None = None, **plan: Any
) -> dict[str, Any]:
    """Pull features towards 1; from the step `collapse_at` on, all weights are 0 after a step."""

    def losses(step: int, at: np.ndarray) -> Losses:
        if step == stop_at:
            raise KeyboardInterrupt
        return {"loss": (module(INPUTS[at]) - 1).square().mean(), "step_seen": torch.tensor(step)}

    def after_step(step: int) -> None:
        if collapse_at is not None and step >= collapse_at:
            for weight in module.parameters():
                weight.data.zero_()

    def watched() -> torch.Tensor:
        with torch.no_grad():
            return module(INPUTS)

    settings = Pretraining(**{**PLAN, **plan})
    modules = {"module": module}
    return pretrain(
        run, modules, losses, samples=16, settings=settings, watched=watched, after_step=after_step
    )


# Rates.


@given(batch=st.integers(2, 300), rising=st.integers(1, 10))
def test_rates_of_the_paper(batch: int, rising: int) -> None:
    """Oracle: 0 at the first step, B / 256 times the rate after the warm-up, 0.001 of that at the end; rising
    before and falling after."""
    plan = Pretraining(
        epochs=rising + 20, batch=batch, learning_rate=0.2, warmup_epochs=rising, batch_scaling=True
    )
    samples = 5 * batch
    rates = [plan.rate(step, samples) for step in range(plan.steps(samples) + 1)]
    peak = 0.2 * batch / 256
    assert rates[0] == 0 and rates[5 * rising] == pytest.approx(peak)
    assert rates[-1] == pytest.approx(0.001 * peak)
    assert rates[5 * rising :] == sorted(rates[5 * rising :], reverse=True)
    assert rates[: 5 * rising + 1] == sorted(rates[: 5 * rising + 1])


def test_two_groups_of_weights() -> None:
    """Oracle: the authors' 0.2 for matrices and 0.0048 for vectors, which are not decayed."""
    plan = Pretraining(optimizer="lars", learning_rate=0.2, vector_rate=0.024, weight_decay=1e-6)
    matrices, vectors = plan.optimizer_of([network()]).param_groups
    assert [weight.ndim for group in (matrices, vectors) for weight in group["params"]] == [2, 1]
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (1e-6, 0.0)
    assert 0.2 * matrices["rate_share"] == 0.2 and 0.2 * vectors["rate_share"] == pytest.approx(0.0048)


@pytest.mark.parametrize("vector_rate", [0.0, 0.5, 1.0])
def test_vectors_move_by_their_share(vector_rate: float, open_run: OpenRun) -> None:
    """Oracle: one step of SGD from a known gradient."""
    module = network()
    start = [weight.detach().clone() for weight in module.parameters()]
    (module(INPUTS[epoch_indices(open_run("a"), "pretrain", 0, 16, 4)]) - 1).square().mean().backward()
    gradients = [weight.grad.clone() for weight in module.parameters()]
    module.zero_grad()
    run_loop(
        open_run("b"), module, epochs=0.25, optimizer="heavy-ball", vector_rate=vector_rate, weight_decay=0.0
    )
    for weight, before, gradient, share in zip(
        module.parameters(), start, gradients, (1, vector_rate), strict=True
    ):
        assert torch.allclose(weight.detach(), before - 0.05 * share * gradient, atol=1e-6)


def test_clipped_gradients(open_run: OpenRun) -> None:
    """Oracle: one step of SGD is as long as the rate times the largest norm."""
    module = network()
    start = torch.cat([weight.detach().flatten().clone() for weight in module.parameters()])
    run_loop(open_run(), module, epochs=0.25, optimizer="heavy-ball", clip=0.01, weight_decay=0.0)
    moved = torch.cat([weight.detach().flatten() for weight in module.parameters()]) - start
    assert moved.norm().item() == pytest.approx(0.05 * 0.01, rel=1e-3)


# Batches.


def test_each_pass_sees_every_input_once(open_run: OpenRun) -> None:
    """Oracle: sets; what does not fill a batch is left out, and passes have orders of their own."""
    run = open_run()
    passes = [[epoch_indices(run, "x", 4 * k + i, 18, 4) for i in range(4)] for k in range(2)]
    for batches in passes:
        assert len(set(np.concatenate(batches))) == 16
    assert not np.array_equal(np.concatenate(passes[0]), np.concatenate(passes[1]))
    assert np.array_equal(epoch_indices(run, "x", 5, 18, 4), passes[1][1])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "heavy-ball", "lars", "lion"])
def test_it_learns(optimizer: str, open_run: OpenRun) -> None:
    """Oracle: the loss falls by a tenth at least; all steps are logged and told."""
    run, module = open_run(), network()
    rate = 2.0 if optimizer == "lars" else 0.05
    found = run_loop(run, module, epochs=20, optimizer=optimizer, learning_rate=rate)
    logged = run.metrics()
    assert found == {"steps": 80, "collapsed_at": None}
    assert [line["step_seen"] for line in logged] == list(range(80))
    assert np.mean([line["loss"] for line in logged[-8:]]) < 0.9 * np.mean(
        [line["loss"] for line in logged[:8]]
    )
    assert not module.training


def test_networks_in_bfloat16(open_run: OpenRun) -> None:
    """Oracle: outputs of layers are in bfloat16 within the losses, weights stay in float32."""
    module, seen = network(), []
    module.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    run_loop(open_run(), module, precision="bf16")
    assert torch.bfloat16 in seen and module.weight.dtype == torch.float32


def test_a_trial_is_a_step(open_run: OpenRun) -> None:
    """Oracle: the weights move at each call, by as many steps as `pretrain` takes."""
    module = network()
    step, count = trial(
        {"module": module},
        lambda step, at: {"loss": module(INPUTS[at]).square().mean()},
        samples=16,
        settings=Pretraining(**PLAN),
    )
    for _ in range(2):
        before = module.weight.detach().clone()
        step()
        assert not torch.equal(module.weight, before)
    assert count == run_loop(open_run(), network())["steps"] == 16


def test_a_resumed_loop_without_budget_tells_its_steps(open_run: OpenRun) -> None:
    """Oracle: 8 steps of 4 inputs are done and the budget has 32 samples, so that none is left."""
    with pytest.raises(KeyboardInterrupt):
        run_loop(open_run(), network(), stop_at=8)
    assert run_loop(open_run(budget=Budget(samples=32)), network())["steps"] == 8


# Collapse.


@pytest.mark.parametrize("collapse_at", [6, 15])
def test_collapse_stops_and_the_healthy_weights_come_back(collapse_at: int, open_run: OpenRun) -> None:
    """Oracle: passes have 4 steps, so that a collapse at step 6 is seen at 8, and at 15 after the last; what
    comes back is what an undisturbed loop has at the look before."""
    seen = 4 * (collapse_at // 4 + 1)
    run, module = open_run("collapsing"), network()
    found = run.stage("encoder", lambda: run_loop(run, module, collapse_at=collapse_at))
    assert found == {"steps": seen, "collapsed_at": seen}
    assert figures(run, "encoder")["collapsed_at"] == seen
    healthy = network()
    with pytest.raises(KeyboardInterrupt):
        run_loop(open_run("healthy"), healthy, stop_at=seen - 4)
    assert torch.equal(module.weight, healthy.weight)


@pytest.mark.parametrize("stop_at", [5, 7])
def test_collapse_after_a_resume(stop_at: int, open_run: OpenRun) -> None:
    """Oracle: the loop that was not interrupted, weight by weight and line by line."""
    whole, run = network(), open_run("whole")
    expected = run_loop(run, whole, collapse_at=6), run.metrics()
    with pytest.raises(KeyboardInterrupt):
        run_loop(open_run("cut"), network(), collapse_at=6, stop_at=stop_at)
    module, run = network(), open_run("cut")
    found = run_loop(run, module, collapse_at=6), run.metrics()
    assert found[0] == expected[0] and torch.equal(module.weight, whole.weight)
    for line, other in zip(found[1], expected[1], strict=True):
        assert {**line, "seconds": 0} == {**other, "seconds": 0}


def test_the_share_that_counts_as_collapsed(open_run: OpenRun) -> None:
    """Oracle: features that shrink to about a tenth have collapsed at a share of one half, not of 1 %."""
    results = []
    for share in (0.5, 0.01):
        module = network()

        def watched(module: nn.Linear = module) -> torch.Tensor:
            return module(INPUTS).detach()

        found = pretrain(
            open_run(f"at-{share}"),
            {"module": module},
            lambda step, at, module=module: {"loss": module(INPUTS[at]).square().mean()},
            samples=16,
            settings=Pretraining(epochs=20, batch=4, learning_rate=0.05),
            watched=watched,
            collapsed=share,
        )
        results.append(found["collapsed_at"])
    assert results[0] is not None and results[0] < 80 and results[1] is None


# Bad input.


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch": 1}, "batch"),
        ({"learning_rate": 0.0}, "learning-rate"),
        ({"warmup_epochs": 20.0}, "warmup_epochs"),
        ({"last_rate": 1.5}, "last_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"vector_rate": 2.0}, "vector_rate"),
        ({"clip": -1.0}, "clip"),
    ],
)
def test_refused_settings(fields: dict[str, Any], said: str) -> None:
    """Oracle: the message names the field."""
    with pytest.raises(UsageError, match=said):
        Pretraining(**fields).validate()


def test_fewer_inputs_than_a_batch() -> None:
    """Oracle: both numbers are in the message."""
    with pytest.raises(DataError, match=r"20 unlabelled inputs.*batch of 256"):
        Pretraining().steps(20)


def test_a_loss_that_is_not_finite(open_run: OpenRun) -> None:
    """Oracle: it is named before any weight moves."""
    module = network()
    start = module.weight.detach().clone()
    with pytest.raises(DataError, match="loss is nan"):
        pretrain(
            open_run(),
            {"module": module},
            lambda step, at: {"loss": module(INPUTS[at]).mean() * torch.nan},
            samples=16,
            settings=Pretraining(**PLAN),
            watched=lambda: INPUTS,
        )
    assert torch.equal(module.weight, start)
