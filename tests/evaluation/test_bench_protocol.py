"""The protocol on a workload whose outcome is known: plans, targets, the trial that is chosen."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.bench_protocol import (
    Protocol,
    calibrated_prices,
    chosen_trial,
    planned_trials,
    run_field,
    set_target,
    with_target,
)
from selfstudy.learning.submissions import SUBMISSIONS, submissions_by_name
from selfstudy.learning.timed_trials import Price, Trial
from selfstudy.learning.workloads import TensorWorkload
from selfstudy.search.quasi_random import halton_points

FIELD = [SUBMISSIONS["nesterov"], SUBMISSIONS["adamw"]]


def blobs(**changed: Any) -> TensorWorkload:
    """Two clouds of points, and the error of a linear network on them; "test" is off by 0.01."""
    drawn = torch.randn(80, 4, generator=torch.Generator().manual_seed(1))
    labels = (drawn[:, 0] + drawn[:, 1] > 0).long()

    def measure(model: nn.Module, split: str) -> float:
        wrong = float((model(drawn).argmax(1) != labels).float().mean())
        return wrong + (0.01 if split == "test" else 0.0)

    def network(key: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            return nn.Sequential(nn.Linear(4, 2))

    given: dict[str, Any] = {
        "name": "blobs",
        "inputs": drawn,
        "targets": labels,
        "network": network,
        "measure": measure,
        "target": 0.1,
        "batch": 16,
        "step_hint": 12,
    }
    return TensorWorkload(**{**given, **changed})


def test_one_pool_is_dealt_to_the_studies() -> None:
    """Oracle: Halton's points for all trials together, in another order, the same for every call; of one cube
    for all submissions."""
    plans = planned_trials(Protocol(studies=3, trials=4), FIELD[0], 7)
    assert [(plan.study, plan.trial) for plan in plans] == [(s, t) for s in range(3) for t in range(4)]
    points = halton_points(FIELD[0].space, 12, 7)
    dealt = [points.index(plan.settings) for plan in plans]
    assert sorted(dealt) == list(range(12)) != dealt
    assert plans == planned_trials(Protocol(studies=3, trials=4), FIELD[0], 7)
    others = planned_trials(Protocol(studies=3, trials=4), FIELD[1], 7)
    rates = [
        [float(plan.settings["learning_rate"]) / float(one.fixed["learning_rate"]) for plan in each]
        for one, each in zip(FIELD, (plans, others), strict=True)
    ]
    assert rates[0] == pytest.approx(rates[1])


def test_self_tuning_has_one_trial_a_study_and_more_time() -> None:
    """Oracle: the rule: no settings, and 1.5 times the runtime."""
    protocol = Protocol(ruleset="self-tuning", studies=3, runtime=1.0)
    assert [(p.study, p.trial, p.settings) for p in planned_trials(protocol, FIELD[0], 0)] == [
        (0, 0, {}),
        (1, 0, {}),
        (2, 0, {}),
    ]
    assert protocol.limits(blobs()).max_runtime == 18.0
    assert Protocol(runtime=1.0).limits(blobs(), 2.0).max_runtime == 24.0
    assert Protocol(looks=4).limits(blobs(), 2.0).eval_period == 6.0


def test_a_field_in_a_run(tmp_path: Path) -> None:
    """Oracle: the plans, and the same logs but for the wall clock when the run goes on."""
    protocol = Protocol(studies=2, trials=2, looks=4)

    def logs() -> list[dict[str, Any]]:
        with Run(tmp_path / "run", {}) as run:
            return run_field(run, blobs(), FIELD, protocol, {"nesterov": Price(1.0), "adamw": Price(2.0)})

    first = logs()
    assert [(log["submission"], log["study"], log["trial"]) for log in first[:4]] == [
        ("nesterov", s, t) for s in range(2) for t in range(2)
    ]
    assert {log["looks"][-1]["cost"] / log["looks"][-1]["step"] for log in first[4:]} == {2.0}
    assert logs() == first


def test_targets_are_medians_of_the_best(tmp_path: Path) -> None:
    """Oracle: the median and the worst test figure written out; the best settings of all that were tried."""
    with Run(tmp_path / "run", {}) as run:
        found = set_target(run, blobs(target=0.0), FIELD, trials=3, seeds=3, looks=4)
        tried = [run.result(f"blobs-target-{one.name}-{trial}") for one in FIELD for trial in range(3)]
        again = [run.result(f"blobs-target-seed-{seed}") for seed in range(3)]

    def best(log: Any) -> float:
        return min(look["validation"] for look in log["looks"])

    winner = min(tried, key=best)
    assert (found.submission, found.settings) == (winner["submission"], winner["settings"])
    assert found.seeds == [best(log) for log in again]
    assert found.validation == statistics.median(found.seeds)
    met = [figure for figure in found.seeds if figure <= found.validation]
    assert found.test == pytest.approx(max(met) + 0.01)
    # The search takes the whole time: it does not stop where its target of 0 is met.
    assert {log["looks"][-1]["step"] for log in tried} == {12}
    assert with_target(blobs(), 0.3).target == 0.3


def test_no_target_without_finite_weights(tmp_path: Path) -> None:
    """Oracle: the error's kind."""

    def broken(key: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(4, 2))
        nn.init.constant_(made[0].weight, math.nan)  # type: ignore[arg-type]
        return made

    with Run(tmp_path / "run", {}) as run, pytest.raises(DataError, match="no target"):
        set_target(run, blobs(network=broken), FIELD, trials=1, seeds=1)


def test_prices_are_measured_once(tmp_path: Path) -> None:
    """Oracle: a clock that gives other figures the second time, which are not asked for."""
    ticks = iter(range(10**6))
    with Run(tmp_path / "run", {}) as run:
        first = calibrated_prices(run, blobs(), FIELD, lambda: float(next(ticks)))
    assert first["adamw"] == Price(1.0, 1.0)
    with Run(tmp_path / "run", {}) as run:
        assert calibrated_prices(run, blobs(), FIELD, lambda: float(next(ticks)) ** 2) == first


def test_the_chosen_trial() -> None:
    """Oracle: the first at the target, else the best figure; a failed one last."""

    def made(name: str, *figures: float, failed: str | None = None) -> Trial:
        looks = [{"validation": figure} for figure in figures]
        return Trial({"submission": name, "better": "lower", "looks": looks, "failed": failed}, None)

    trials = [made("a", 0.3, 0.2), made("a", 0.1), made("b", 0.0), made("a", 0.0, failed="nan")]
    assert chosen_trial(trials, "a", [2.0, 3.0, 1.0, math.inf]) is trials[0]
    assert chosen_trial(trials, "a", [math.inf] * 4) is trials[1]


def test_what_is_refused() -> None:
    """Oracle: the error's kind."""
    with pytest.raises(UsageError, match="at least"):
        Protocol(studies=0).check()
    with pytest.raises(UsageError, match="not longer than the runtime"):
        Protocol(runtime=0.1, looks=2).limits(blobs())
    with pytest.raises(UsageError, match="there twice"):
        submissions_by_name(["adamw", "adamw"])
    with pytest.raises(UsageError, match="Did you mean 'nadamw'"):
        submissions_by_name(["nadamv"])
    with pytest.raises(UsageError, match="at least one"):
        submissions_by_name([])
