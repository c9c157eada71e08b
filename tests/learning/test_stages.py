"""One stage of training: its losses, its rates, when it stops, and that it can be killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import DataError, Stopped, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.stages import LOSSES, Stage, StageTraining, train_stage


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def network(outputs: int, inputs: int = 3) -> nn.Module:
    made = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, outputs))
    draw = torch.Generator().manual_seed(0)
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=draw) * 0.5
    return made


def inputs(count: int = 40, width: int = 3) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1))


def test_losses_in_numbers() -> None:
    """Oracle: the formulas, in NumPy; tokens whose target is nothing do not count."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(4, 3))
    soft = random.dirichlet(np.ones(3), size=4)
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    found = LOSSES["classes"](torch.from_numpy(scores), torch.from_numpy(soft))
    assert np.isclose(found.item(), -(soft * logs).sum(1).mean())
    values = random.normal(size=(4, 3))
    found = LOSSES["numbers"](torch.from_numpy(scores), torch.from_numpy(values))
    assert np.isclose(found.item(), ((scores - values) ** 2).mean())
    tags = np.zeros((2, 3, 3))
    tags[0, 0, 1] = tags[1, 1, 2] = 1
    tagged = random.normal(size=(2, 3, 3))
    logs = tagged - np.log(np.exp(tagged).sum(2, keepdims=True))
    found = LOSSES["tags"](torch.from_numpy(tagged), torch.from_numpy(tags))
    assert np.isclose(found.item(), -(logs[0, 0, 1] + logs[1, 1, 2]) / 2)
    hard = torch.tensor([0, 2, 1, 1])
    one_hot = functional.one_hot(hard, 3).double()
    assert torch.allclose(
        LOSSES["classes"](torch.from_numpy(scores), one_hot),
        functional.cross_entropy(torch.from_numpy(scores), hard),
    )


def trained(folder: Path, loss: str, targets: torch.Tensor, outputs: int, **fields: float) -> list[float]:
    values, made = inputs(), network(outputs)
    shape: Callable[[torch.Tensor], torch.Tensor] = (
        (lambda found: found.view(-1, 2, outputs // 2)) if loss == "tags" else (lambda found: found)
    )
    plan = StageTraining(**{"steps": 60, "batch": 20, "learning_rate": 1e-2, **fields})  # type: ignore[arg-type]
    stage = Stage("one", "one", np.arange(40), targets, plan, loss=loss)
    with Run(folder, {}) as run:
        train_stage(run, made, lambda at: shape(made(values[torch.from_numpy(at)])), stage)
        return [line["loss"] for line in run.metrics()]


def test_classes_numbers_and_tags_are_learnt(tmp_path: Path) -> None:
    """Oracle: targets that a linear map gives, so that each loss must fall by half."""
    values = inputs()
    classes = functional.one_hot((values[:, 0] > 0).long(), 2).float()
    tags = torch.stack([classes, functional.one_hot((values[:, 1] > 0).long(), 2).float()], 1)
    tags[:10, 1] = 0  # texts of one token
    for loss, targets, outputs in (
        ("classes", classes, 2),
        ("numbers", values[:, :1] * 2, 1),
        ("tags", tags, 4),
    ):
        losses = trained(tmp_path / loss, loss, targets, outputs)
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5]), loss


def test_an_unknown_loss_is_refused(tmp_path: Path) -> None:
    """Oracle: the name of the loss, and those that there are; before any step."""
    with pytest.raises(UsageError, match="no loss 'ranks' of a stage: take classes, numbers, tags"):
        trained(tmp_path, "ranks", torch.zeros(40, 1), 1)


def test_rates() -> None:
    """Oracle: constant; up over a tenth of the steps and linearly down to 0."""
    assert {StageTraining(steps=10).rate(step) for step in range(10)} == {1e-3}
    linear = StageTraining(steps=20, learning_rate=1.0, schedule="linear")
    rates = [linear.rate(step) for step in range(20)]
    assert rates[:3] == [0.5, 1.0, 1.0] and np.allclose(np.diff(rates[2:]), -1 / 18)
    with pytest.raises(UsageError, match="steps -1"):
        StageTraining(steps=-1).validate()


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    """Oracle: figures made up here; the fifth look, after step 4 of 10, is the latest of the best."""
    made, values = network(2), inputs()
    targets = functional.one_hot((values[:, 0] > 0).long(), 2).float()
    figures, kept = iter([0.1, 0.5, 0.9, 0.3, 0.9, *[0.2] * 7]), []

    def quality() -> float:
        kept.append({name: value.clone() for name, value in made.state_dict().items()})
        return next(figures)

    stage = Stage("one", "one", np.arange(40), targets, StageTraining(steps=10, batch=20))
    with Run(tmp_path, {}) as run:
        found = train_stage(run, made, lambda at: made(values[torch.from_numpy(at)]), stage, quality=quality)
    assert found == {"steps": 10, "kept_at": 4, "accuracy": 0.9} and len(kept) == 11
    assert all(torch.equal(value, kept[4][name]) for name, value in made.state_dict().items())


def test_stopped_and_gone_on_with(tmp_path: Path) -> None:
    """Oracle: the run that was not stopped, to the bit: dropout, order, optimiser, and best weights, which
    are of a step before the stop."""
    values = inputs()
    targets = functional.one_hot((values[:, 0] > 0).long(), 2).float()
    stage = Stage("one", "one", np.arange(40), targets, StageTraining(steps=12, batch=20, learning_rate=1e-2))

    def fit(folder: Path, stop: int | None) -> nn.Module:
        made = network(2)

        def scores(at: np.ndarray) -> torch.Tensor:
            if stop is not None and run.meter.snapshot()["samples"] == 20 * (stop + 1):
                raise Stopped("now")
            return made(values[torch.from_numpy(at)])

        def quality() -> float:
            return 1.0 if run.meter.snapshot()["samples"] == 20 * 4 else 0.5

        with Run(folder, {}, checkpoint_steps=1) as run:
            assert train_stage(run, made, scores, stage, quality=quality)["kept_at"] == 4
        return made

    whole = fit(tmp_path / "whole", None)
    with pytest.raises(Stopped):
        fit(tmp_path / "stopped", 7)
    again = fit(tmp_path / "stopped", None)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_dropout_is_drawn_anew_in_each_step(tmp_path: Path) -> None:
    """Oracle: what dropout leaves of the same inputs, and what torch's own generator gives afterwards."""
    seen: list[torch.Tensor] = []
    made = nn.Linear(8, 2)

    def scores(at: np.ndarray) -> torch.Tensor:
        seen.append(functional.dropout(torch.ones(4, 8), 0.5, training=True))
        return made(torch.ones(len(at), 8))

    stage = Stage("one", "one", np.arange(4), torch.ones(4, 2) / 2, StageTraining(steps=3, batch=4))
    before = torch.get_rng_state()
    with Run(tmp_path, {}) as run:
        train_stage(run, made, scores, stage)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    """Oracle: an input that is infinite."""
    made = network(2)
    stage = Stage("bad", "bad", np.arange(4), torch.ones(4, 2) / 2, StageTraining(steps=2))
    with Run(tmp_path, {}) as run, pytest.raises(DataError, match="stage 'bad' is nan at step 0"):
        train_stage(run, made, lambda at: made(torch.full((len(at), 3), torch.inf)), stage)


def test_another_loss_beside(tmp_path: Path) -> None:
    """Oracle: with no weight on the first loss (targets of zero) the second alone moves the network."""
    values = inputs()

    def fit(folder: Path, weight: float) -> torch.Tensor:
        made = nn.Linear(3, 2)
        nn.init.ones_(made.weight)
        stage = Stage(
            "one", "one", np.arange(40), torch.zeros(40, 2), StageTraining(steps=3, weight_decay=0.0)
        )
        with Run(folder, {}) as run:
            train_stage(
                run,
                made,
                lambda at: made(values[torch.from_numpy(at)]),
                stage,
                beside=lambda step, at: weight * made.weight.square().sum(),
            )
        return made.weight.detach()

    assert torch.equal(fit(tmp_path / "none", 0.0), torch.ones(2, 3))
    assert (fit(tmp_path / "some", 1.0) < 1).all()
