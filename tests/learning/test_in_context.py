"""Training in context: the step itself, what is kept along the way, resuming, and divergence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.learning.in_context import ContextTraining, Trajectory, train_in_context
from selfstudy.models.in_context.linear_attention import LinearSelfAttention

TASK = "in-context-regression?dimensions=3&context=4"
SETTINGS = ContextTraining(steps=6, batch=16, learning_rate=0.01, snapshots=3)


def start(**fields) -> LinearSelfAttention:
    return LinearSelfAttention(**{"dimensions": 3, "scale": 0.3, **fields})


def train(folder: Path, model=None, settings: ContextTraining = SETTINGS, **options) -> Trajectory:
    with Run(folder, {}, **options) as run:
        return train_in_context(model or start(), selfstudy.task(TASK).batch, settings, 4, run)


def test_two_steps_by_hand(tmp_path: Path) -> None:
    """Oracle: torch's own Adam on the named batches, with the gradient of half the squared error, clipped."""
    settings = ContextTraining(
        steps=2, batch=8, learning_rate=0.02, clip=0.05, schedule="cosine", betas=(0.9, 0.98)
    )
    path = train(tmp_path / "run", settings=settings)
    model, task = start(), selfstudy.task(TASK)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    with Run(tmp_path / "other", {}) as run:
        for step, rate in enumerate((0.02, 0.01)):
            batch = task.batch(8, run.rng("train", "batch", step))
            optimizer.param_groups[0]["lr"] = rate
            loss = 0.5 * ((model(*batch[:2]) - batch.answer) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optimizer.step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(path.model.state_dict()[name], weight, rtol=1e-5, atol=1e-7)


def test_the_path_is_kept(tmp_path: Path) -> None:
    """Oracle: the first weights at step 0, the model at the last; saved and read back it is the same."""
    path = train(tmp_path / "run")
    assert list(path.snapshots) == [0, 2, 4, 6]
    assert torch.equal(path.at(0).query, start().query) and torch.equal(path.at(6).query, path.model.query)
    path.save(tmp_path / "saved")
    again = Trajectory.load(tmp_path / "saved")
    assert list(again.snapshots) == [0, 2, 4, 6]
    assert torch.equal(again.at(2).value, path.at(2).value)


def test_the_given_model_stays(tmp_path: Path) -> None:
    """Oracle: its weights before."""
    model = start()
    path = train(tmp_path / "run", model)
    assert torch.equal(model.query, start().query) and not torch.equal(path.model.query, model.query)


class Killed(Exception):
    pass


def test_resumed(tmp_path: Path) -> None:
    """Oracle: the uninterrupted run, bit for bit, its snapshots too."""
    whole = train(tmp_path / "whole")
    task = selfstudy.task(TASK)
    calls = []

    def draw(size, rng):
        calls.append(size)
        if len(calls) == 5:
            raise Killed
        return task.batch(size, rng)

    with pytest.raises(Killed), Run(tmp_path / "cut", {}, checkpoint_steps=2) as run:
        train_in_context(start(), draw, SETTINGS, 4, run)
    with Run(tmp_path / "cut", {}, checkpoint_steps=2) as run:
        path = train_in_context(start(), draw, SETTINGS, 4, run)
    assert len(calls) == 5 + 2  # from the checkpoint after step 4
    for step, weights in whole.snapshots.items():
        assert all(torch.equal(path.snapshots[step][name], weight) for name, weight in weights.items())


def test_a_budget_ends_it(tmp_path: Path) -> None:
    """Oracle: 40 samples are two steps of 16; a second session with no budget left changes nothing."""
    path = train(tmp_path / "run", budget=Budget(samples=40), checkpoint_steps=1)
    assert max(path.snapshots) == 2
    again = train(tmp_path / "run", budget=Budget(samples=40), checkpoint_steps=1)
    assert again.done == 2 and torch.equal(again.at(2).query, path.model.query)
    assert torch.equal(again.at(0).query, start().query)
    with Run(tmp_path / "flops", {}) as run:
        train_in_context(start(layers=2), selfstudy.task(TASK).batch, SETTINGS, 4, run)
        # 64 weights used twice, 5 tokens, 16 problems, 6 steps
        assert run.meter.snapshot()["flops"] == 6 * 128 * 5 * 16 * 6


def test_divergence_is_named(tmp_path: Path) -> None:
    """Oracle: a model that overflows: the step, and the way out, are in the message."""
    wild = start(layers=8, scale=400.0, clip=math.inf)
    with pytest.raises(UsageError, match=r"At step 0 .*clip=10"):
        train(tmp_path / "run", wild)


@pytest.mark.parametrize(
    "field",
    [
        {"steps": 0},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"clip": 0.0},
        {"snapshots": 0},
        {"betas": (0.9, 1.0)},
    ],
)
def test_refused(field) -> None:
    """Oracle: each out of range; the message names it."""
    with pytest.raises(UsageError, match=next(iter(field)).replace("_", "-")):
        ContextTraining(**{"steps": 1, "batch": 1, "learning_rate": 0.1, **field}).check()
