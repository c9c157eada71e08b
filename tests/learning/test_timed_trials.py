"""The timed loop on a clock that the test winds, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.submissions import SUBMISSIONS
from selfstudy.learning.timed_trials import Limits, Price, Trial, calibrated_price, run_trial
from selfstudy.learning.workloads import TensorWorkload
from selfstudy.search.quasi_random import Space

LOOK, UPDATE, PREPARE, SELECT = 1000.0, 3.0, 0.5, 0.25  # seconds that each takes on the clock of the tests


class WoundClock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Counting:
    """A submission that adds 1 to a weight and winds the clock; `during` is called in each update."""

    clock: WoundClock
    during: Callable[[Any, nn.Module, Any], None] = lambda workload, model, progress: None
    name: str = "counting"
    space: Space = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)

    def get_batch_size(self, workload_name: str, standard: int) -> int:
        return standard

    def init_optimizer_state(self, workload: Any, model: nn.Module, settings: Any) -> Any:
        return torch.optim.SGD(model.parameters())

    def data_selection(self, queue: Any, state: Any, progress: Any) -> Any:
        self.clock.time += SELECT
        return queue.next()

    def update_params(
        self, workload: Any, model: Any, batch: Any, settings: Any, state: Any, progress: Any
    ) -> None:
        self.clock.time += UPDATE
        self.seen.append((progress.step, round(progress.spent, 9), len(progress.looks)))
        with torch.no_grad():
            model.bias += 1
        self.during(workload, model, progress)

    def prepare_for_eval(self, workload: Any, model: nn.Module, settings: Any, state: Any) -> nn.Module:
        self.clock.time += PREPARE
        return model


def counting_workload(clock: WoundClock, **changed: Any) -> TensorWorkload:
    """A workload whose metric is the steps taken; evaluating takes its time."""

    def measure(model: nn.Module, split: str) -> float:
        clock.time += LOOK
        return float(model.bias.detach()[0]) + (0.5 if split == "test" else 0.0)  # type: ignore[operator]

    def network(key: int) -> nn.Module:
        made = nn.Linear(1, 1)
        nn.init.zeros_(made.bias)
        return made

    given: dict[str, Any] = {
        "name": "count",
        "inputs": torch.zeros(8, 1),
        "targets": torch.zeros(8, dtype=torch.long),
        "network": network,
        "measure": measure,
        "better": "higher",
        "target": 5.0,
        "batch": 4,
        "step_hint": 10,
    }
    return TensorWorkload(**{**given, **changed})


def trial(tmp_path: Path, limits: Limits, during: Any = None, price: Price = Price(), **changed: Any) -> Any:  # noqa: B008
    clock = WoundClock()
    submission = Counting(clock, during or (lambda workload, model, progress: None))
    with Run(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", {}) as run:
        made = counting_workload(clock, **changed)
        return run_trial(run, made, submission, {}, limits, price=price, now=clock), submission


def test_only_evaluations_are_off_the_wall_clock(tmp_path: Path) -> None:
    """Oracle: seconds of selection, update and preparation added by hand; a period of two steps."""
    done, _ = trial(tmp_path, Limits(100.0, 2 * (UPDATE + SELECT), "wall"))
    step, seconds = UPDATE + SELECT, [look["wall"] for look in done.log["looks"]]
    assert seconds[0] == pytest.approx(2 * step + PREPARE)
    # After a look at 7.0 the next is due at 13.5: two further steps end at 13.5 exactly.
    assert seconds[1] == pytest.approx(4 * step + 2 * PREPARE)
    assert [look["test"] for look in done.log["looks"]] == [2.5, 4.5, 6.5]


def test_the_cost_clock_does_not_see_the_wall(tmp_path: Path) -> None:
    """Oracle: price by hand: steps by their price, and preparations by theirs."""
    done, _ = trial(tmp_path, Limits(30.0, 4.0, "cost"), price=Price(step=2.0, prepare=0.5))
    # Due at 4: step 2 costs 4.5 with its preparation; due at 8.5: step 4 is at 8.5, then 9.0.
    assert [look["cost"] for look in done.log["looks"]] == [4.5, 9.0, 13.5]
    assert [look["step"] for look in done.log["looks"]] == [2, 4, 6]


def test_crossing_is_at_the_first_evaluation_that_meets_the_target(tmp_path: Path) -> None:
    """Oracle: the metric is the steps; 5 are reached between the looks at 3 and at 6."""
    done, _ = trial(tmp_path, Limits(20.0, 3.0))
    assert [(look["step"], look["validation"]) for look in done.log["looks"]] == [(3, 3.0), (6, 6.0)]
    further, _ = trial(tmp_path, Limits(20.0, 3.0, stop_at_target=False))
    assert [look["step"] for look in further.log["looks"]] == [3, 6, 9, 12, 15, 18]
    lower, _ = trial(tmp_path, Limits(20.0, 3.0), better="lower", target=2.0)
    assert len(lower.log["looks"]) == 6  # it only rises


def test_nothing_is_evaluated_after_the_runtime(tmp_path: Path) -> None:
    """Oracle: the last step ends at 9.75, and preparing it ends at 10.25, after the 10 that there are."""
    done, submission = trial(tmp_path, Limits(10.0, 3 * (UPDATE + SELECT), "wall"), target=1e9)
    assert done.log["looks"] == []
    assert [step for step, _, _ in submission.seen] == [0, 1, 2]
    assert submission.seen[1] == (1, 0.325, 0)


def test_weights_that_are_not_finite_end_a_trial(tmp_path: Path) -> None:
    """Oracle: the reason, and no evaluation of such weights."""

    def spoil(workload: Any, model: nn.Module, progress: Any) -> None:
        if progress.step == 4:
            nn.init.constant_(model.weight, math.nan)  # type: ignore[arg-type]

    done, _ = trial(tmp_path, Limits(20.0, 3.0), spoil, target=1e9)
    assert done.log["failed"] == "weights are not finite after 6 steps"
    assert len(done.log["looks"]) == 1


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_metric_that_is_no_number_ends_a_trial(figure: float, tmp_path: Path) -> None:
    """Oracle: the reason, and the evaluations before, alone; finite weights may give such a loss."""
    figures = iter([1.0, 1.5, figure])
    done, _ = trial(tmp_path, Limits(20.0, 3.0), target=1e9, measure=lambda model, split: next(figures))
    assert done.log["failed"] == f"the validation metric is {figure} after 6 steps"
    assert [look["validation"] for look in done.log["looks"]] == [1.0]


def test_reading_the_name_is_worth_a_warning(tmp_path: Path) -> None:
    """Oracle: the warning, and that everything else is read silently."""
    with pytest.warns(UserWarning, match="'counting' reads the name"):
        trial(tmp_path, Limits(2.0, 1.0), lambda workload, model, progress: workload.name)
    trial(tmp_path, Limits(2.0, 1.0), lambda workload, model, progress: workload.batch)


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: the error's kind and the figures it names."""
    with pytest.raises(UsageError, match="not longer than the runtime"):
        trial(tmp_path, Limits(2.0, 3.0))
    with pytest.raises(UsageError, match="clock 'sun'"):
        trial(tmp_path, Limits(2.0, 1.0, "sun"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="'lower' or 'higher'"):
        trial(tmp_path, Limits(2.0, 1.0), better="best")
    with pytest.raises(DataError, match="no validation metric"):
        trial(tmp_path, Limits(2.0, 1.0), measure=lambda model, split: None)


def test_calibration(tmp_path: Path) -> None:
    """Oracle: what the wound clock says of a step; a double batch costs twice a standard one."""
    clock = WoundClock()
    with Run(tmp_path / "run", {}) as run:
        price = calibrated_price(run, counting_workload(clock), Counting(clock), {}, now=clock)
        assert price == (UPDATE + SELECT, PREPARE)


def test_an_update_is_torchs(tmp_path: Path) -> None:
    """Oracle: AdamW written out in plain torch with the same batches, rates and decay."""
    images, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
    made = TensorWorkload(
        name="w",
        inputs=images,
        targets=labels,
        network=lambda key: nn.Sequential(nn.Linear(6, 3)),
        measure=lambda model, split: 1.0,
        target=0.0,
        batch=8,
        step_hint=6,
    )
    start = nn.Sequential(nn.Linear(6, 3))
    made = replace(made, network=lambda key: _copy(start))
    submission = SUBMISSIONS["adamw"]
    settings = {**submission.fixed, "label_smoothing": 0.1, "warmup": 0.5}
    with Run(tmp_path / "run", {}) as run:
        done = run_trial(run, made, submission, settings, Limits(6.0, 6.0))
        plain = _copy(start)
        optimizer = torch.optim.AdamW(
            [
                {"params": [plain[0].weight], "weight_decay": 1e-2},
                {"params": [plain[0].bias], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.999),
        )
        for step in range(6):
            batch = made.examples(run, "trial", step, 8)
            share = (step + 1) / 3 if step < 3 else (1 + math.cos(math.pi * (step - 3) / 3)) / 2
            for group in optimizer.param_groups:
                group["lr"] = 5e-3 * share
            loss = nn.functional.cross_entropy(plain(batch.inputs), batch.targets, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.allclose(done.model[0].weight, plain[0].weight, atol=1e-6)


def test_a_trial_comes_back_from_its_folder(tmp_path: Path) -> None:
    """Oracle: the log and the weights that were written."""
    import selfstudy

    model = selfstudy.model("mlp?channels=1&size=8&hidden=4")
    Trial({"looks": []}, model).save(tmp_path)
    back = Trial.load(tmp_path)
    assert back.log == {"looks": []}
    assert torch.equal(next(back.model.parameters()), next(model.parameters()))


def _copy(module: nn.Module) -> Any:
    import copy

    return copy.deepcopy(module)
