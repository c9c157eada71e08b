"""What is particular to AlgoPerf as a method: who wins, what is kept, and a run that goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.methods.training.algoperf import Algoperf
from selfstudy.tasks.images import ImageTask

SMALL: dict[str, Any] = {"target": 0.8, "studies": 2, "trials": 2, "steps": 20, "looks": 4, "batch": 16}


def fit(folder: Path, budget: Budget | None = None, **fields: Any) -> Fit:
    method = Algoperf(**{**SMALL, **fields})
    method.validate()
    made = selfstudy.task("digits?labels=60&train=60&test=20")
    with Run(folder, {}, budget=budget) as run:
        start = made.prepared(selfstudy.model("mlp?hidden=32&layers=1"))
        return method.fit(made.metered(run.meter), start, run)


def test_the_first_at_the_target_wins(tmp_path: Path) -> None:
    """Oracle: the medians in the metrics; the classifier is that of the winner's first trial there."""
    found = fit(tmp_path / "run", submissions=("lion", "adamw"))
    times = {name: own["digits"] or math.inf for name, own in found.metrics["times"].items()}
    assert found.metrics["winner"] == min(times, key=times.__getitem__)
    assert found.metrics["scores"][found.metrics["winner"]] == 1.0
    task = selfstudy.task("digits?labels=60&train=60&test=20")
    error = 1 - np.mean(task.evaluate(found.model, split="validation").values)
    assert error <= 0.8
    assert [picture["title"] for picture in found.pictures] == [
        "Performance profiles",
        "Time to the target, by study",
        "Down to the target",
    ]


def test_a_target_that_nobody_reaches(tmp_path: Path) -> None:
    """Oracle: nulls in the place of times, no score, and the best figure in the place of the first."""
    with pytest.warns(UserWarning, match="No submission met"):
        found = fit(tmp_path / "run", target=0.0, submissions=("nesterov", "adamw"))
    assert found.metrics["times"] == {"nesterov": {"digits": None}, "adamw": {"digits": None}}
    assert found.metrics["scores"] == {}
    assert [found.metrics[f"studies at the target, {name}"] for name in ("nesterov", "adamw")] == [0, 0]
    with Run(tmp_path / "run", {}) as run:
        logs = [
            run.result(f"digits-{name}-{study}-{trial}").log
            for name in ("nesterov", "adamw")
            for study in range(2)
            for trial in range(2)
        ]
    best = min(logs, key=lambda log: min(look["validation"] for look in log["looks"]))
    assert found.metrics["winner"] == best["submission"]


def test_without_a_target_one_is_set_first(tmp_path: Path) -> None:
    """Oracle: the median of the seeds that are logged as stages, with all of the standard optimisers."""
    fields: dict[str, Any] = {
        "target": None,
        "target_trials": 2,
        "target_seeds": 3,
        "submissions": ("adamw",),
    }
    with pytest.warns(UserWarning, match="No submission met"):  # two trials a study are too few for it
        found = fit(tmp_path / "run", **fields)
    with Run(tmp_path / "run", {}) as run:
        seeds = [run.result(f"digits-target-seed-{seed}") for seed in range(3)]
        assert run.result("digits-target-heavy-ball-1")["submission"] == "heavy-ball"
    best = [min(look["validation"] for look in log["looks"]) for log in seeds]
    assert found.metrics["target, validation error"] == sorted(best)[1]


def test_a_run_goes_on_in_the_middle_of_a_trial(tmp_path: Path) -> None:
    """Oracle: the run that was not cut off: weights, and all of the log but seconds."""
    fields: dict[str, Any] = {"submissions": ("nadamw", "heavy-ball"), "target": 0.6}
    whole = fit(tmp_path / "whole", **fields)
    method, task = Algoperf(**{**SMALL, **fields}), selfstudy.task("digits?labels=60&train=60&test=20")
    start = task.prepared(selfstudy.model("mlp?hidden=32&layers=1"))
    for cut in (13, 37):
        with pytest.raises(_Cut), _CutRun(tmp_path / "cut", cut) as run:
            method.fit(task, start, run)
    with Run(tmp_path / "cut", {}) as run:
        again = method.fit(task, start, run)
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert again.metrics["times"] == whole.metrics["times"]
    assert again.metrics["scores"] == whole.metrics["scores"]


class _Cut(Exception):
    pass


class _CutRun(Run):
    """A run that saves before every step and breaks off after some."""

    def __init__(self, directory: Path, cut: int) -> None:
        super().__init__(directory, {}, checkpoint_seconds=0)
        self.left = cut

    def steps(self, *arguments: Any, **options: Any) -> Any:
        for step in super().steps(*arguments, **options):
            self.left -= 1
            if not self.left:
                raise _Cut
            yield step


def test_self_tuning(tmp_path: Path) -> None:
    """Oracle: one trial a study, with the settings that are fixed, for at most 1.5 * 4/3 * 20 steps."""
    with pytest.warns(UserWarning, match="No submission met"):
        fit(tmp_path / "run", ruleset="self-tuning", submissions=("adamw",), target=0.0)
    with Run(tmp_path / "run", {}) as run:
        log = run.result("digits-adamw-1-0").log
    assert log["settings"] == {}
    assert log["looks"][-1]["step"] == 40


def test_texts(tmp_path: Path) -> None:
    """Oracle: the classifier's own error on validation texts; a second run gives the same weights; encoders
    of the other kind are not for it."""
    task = selfstudy.task("pool:messages?labels=40")
    start = task.prepared(selfstudy.model("small-bert?layers=1&width=16&heads=2&vocabulary=300&length=24"))
    method = Algoperf(**{**SMALL, "studies": 1, "target": 0.6, "submissions": ("adamw", "lion")})
    ends = []
    for name in ("first", "second"):
        with Run(tmp_path / name, {}) as run:
            found = method.fit(task.metered(run.meter), start, run)
            assert run.meter.snapshot()["samples"] <= method.cost(task, start)["samples"]
        ends.append(found.model)
    assert all(torch.equal(a, b) for a, b in zip(*(one.parameters() for one in ends), strict=True))
    assert found.metrics["scores"][found.metrics["winner"]] == 1.0
    assert 1 - np.mean(task.evaluate(ends[0], split="validation").values) <= 0.6
    images = selfstudy.task("digits?labels=60&train=60&test=20")
    assert method.suits(task, start) and not method.suits(images, start)
    assert not method.suits(task, selfstudy.model("mlp?hidden=4"))


def test_own_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the user's own name in the results; what is no submission is refused."""
    (tmp_path / "mine_h8.py").write_text(
        "from dataclasses import replace\n"
        "from selfstudy.learning.submissions import SUBMISSIONS\n"
        "def fast():\n    return replace(SUBMISSIONS['adamw'], name='fast')\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = fit(tmp_path / "run", submissions=("mine_h8:fast", "adamw"))
    assert set(found.metrics["scores"]) == {"fast", "adamw"}
    with pytest.raises(UsageError, match="without name"):
        Algoperf(submissions=("mine_h8:wrong",)).validate()


def test_measured_seconds(tmp_path: Path) -> None:
    """Oracle: times on the cost clock are multiples of the measured price."""
    found = fit(tmp_path / "run", clock="cost", submissions=("adamw",))
    with Run(tmp_path / "run", {}) as run:
        price = run.result("price-digits-adamw")
        looks = run.result("digits-adamw-0-0").log["looks"]
    assert looks[0]["cost"] == pytest.approx(looks[0]["step"] * price["step"] + price["prepare"])
    assert found.metrics["times"]["adamw"]["digits"] > 0


def test_what_a_fit_costs_is_the_most_that_it_spends(tmp_path: Path) -> None:
    """Oracle: the meter of a fit whose target is out of reach."""
    method, task = Algoperf(**{**SMALL, "target": 0.0}), selfstudy.task("digits?labels=60&train=60&test=20")
    start = task.prepared(selfstudy.model("mlp?hidden=32&layers=1"))
    with Run(tmp_path / "run", {}) as run, pytest.warns(UserWarning, match="No submission met"):
        method.fit(task, start, run)
        spent = run.meter.snapshot()
    told = method.cost(task, start)
    assert spent["samples"] == told["samples"]
    assert spent["flops"] == pytest.approx(told["flops"])
    step, count = method.trial(task, start)
    step()
    assert count * 16 <= told["samples"]


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: the error's kind, before anything is trained."""
    for wrong in (
        {"submissions": ("adamw", "adamw")},
        {"submissions": ()},
        {"target": 1.0},
        {"looks": 30},
        {"r_max": 1.0},
        {"trials": 0},
    ):
        with pytest.raises(UsageError):
            Algoperf(**{**SMALL, **wrong}).validate()
    task = selfstudy.task("digits?labels=60&train=60&test=20")
    splits = {"train": task.labelled, "test": task.labelled, "validation": task.labelled.only(slice(0))}
    bare = ImageTask("bare", splits, task.labelled)
    with Run(tmp_path / "run", {}) as run, pytest.raises(DataError, match="no validation items"):
        Algoperf(**SMALL).fit(bare, task.prepared(selfstudy.model("mlp?hidden=4")), run)
