"""Infinite learning rate as a method: what it returns, costs and refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.config import from_dict
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.evaluation.forgetting import LossMatrix
from selfstudy.methods.training.infinite_lr import InfiniteLr

TASK, MODEL = "made-domains?size=2000&excerpt=24&items=4", "byte-lm?layers=1&width=16&context=16"
FIELDS = {
    "training": {"steps": 5, "batch": 4, "context": 16},
    "schedule": {"warmup": 0.2, "cooldown": 0.4, "decay_start": 0.6},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages of a run that later ones start from."""
    folder = tmp_path_factory.mktemp("first")
    fitted(folder)
    return folder / "stages"


def fitted(folder: Path, **more: Any) -> Any:
    method = from_dict(InfiniteLr, {**FIELDS, **more})
    method.validate()
    task = selfstudy.task(TASK)
    with Run(folder, {}) as run:
        return method, method.fit(task, selfstudy.model(MODEL), run), run.meter.snapshot()


def test_the_model_is_the_annealed_one_and_the_figures_are_its_own(tmp_path: Path) -> None:
    """Oracle: the task's own evaluation of the returned model, and the definitions on the matrix."""
    method, found, spent = fitted(tmp_path)
    task = selfstudy.task(TASK)
    losses = np.array(found.metrics["losses"])
    assert losses.shape == (3, 3)
    assert losses[-1].tolist() == pytest.approx(task.by_domain(found.model))
    assert found.metrics["final_average"] == pytest.approx(losses[-1].mean())
    assert list(found.metrics["adaptation"].values()) == pytest.approx(np.diagonal(losses).tolist())
    forgotten = losses[-1] - np.minimum(losses[0], losses[1])
    assert list(found.metrics["forgetting"].values()) == pytest.approx(forgotten.tolist())
    assert [picture["title"] for picture in found.pictures][-1] == "Learning rate: infinite"
    expected = method.cost(task, selfstudy.model(MODEL))
    assert {unit: spent[unit] for unit in expected} == pytest.approx(expected)
    assert spent["samples"] == 3 * 5 * 4


def test_a_start_that_nothing_goes_on_from(tmp_path: Path, first: Path) -> None:
    """Oracle: refused before any work, for an annealed state and for a folder that is none."""
    later = fitted(tmp_path / "later", start=str(first / "train-3"))[1]
    assert later.pictures[-1]["traces"][0]["y"][0] == pytest.approx(0.75 * 1.5e-3)
    for start, words in ((first / "anneal-3", "stages/train-3"), (tmp_path / "none", "holds no snapshot")):
        with pytest.raises(UsageError, match=words):
            from_dict(InfiniteLr, {**FIELDS, "start": str(start)}).validate()


@pytest.mark.parametrize(("against", "updates"), [("lwf", 5 + 2 * 5 * 4 / 3), ("mas", 3 * 5 + 2 * 8)])
def test_what_holds_against_forgetting_is_paid_for(tmp_path: Path, against: str, updates: float) -> None:
    """Oracle: the meter; a third of an update more where an earlier model is asked, which the first domain
    has none of, and eight batches before each domain but the first whose weights are weighed."""
    training = {**FIELDS["training"], "against": against}
    method, _, spent = fitted(tmp_path, training=training)
    model = selfstudy.model(MODEL)
    expected = method.cost(selfstudy.task(TASK), model)
    assert {unit: spent[unit] for unit in expected} == pytest.approx(expected)
    assert expected["flops"] == pytest.approx(3 * updates * model.flops(4 * 16))


def test_a_start_brings_its_own_model(tmp_path: Path, first: Path) -> None:
    """Oracle: the same losses, whatever model is handed in beside it, one with other tokens and sizes too;
    its cost is what the meter counts."""
    training = {**FIELDS["training"], "steps": 2}
    method = from_dict(InfiniteLr, {**FIELDS, "training": training, "start": str(first / "train-3")})
    task, found = selfstudy.task(TASK), []
    for spec in (MODEL, "tiny-lm"):
        given = selfstudy.model(spec)
        with Run(tmp_path / f"later-{len(found)}", {}) as run:
            fit, spent = method.fit(task, given, run), run.meter.snapshot()
        found.append(fit.metrics["losses"])
        expected = method.cost(task, given)
        assert {unit: spent[unit] for unit in expected} == pytest.approx(expected)
    assert found[0] == found[1]
    assert method.trial(task, given)[1] == 6


@pytest.mark.parametrize(
    "fields",
    [
        {"training": {**FIELDS["training"], "against": "gdumb"}},
        {"schedule": {**FIELDS["schedule"], "name": "single-cosine"}},
    ],
)
def test_what_cannot_go_on(first: Path, fields: dict[str, Any]) -> None:
    """Oracle: refused with a start, and taken without: beginning anew, and a rate that must know the end."""
    from_dict(InfiniteLr, {**FIELDS, **fields}).validate()
    with pytest.raises(UsageError, match=r"Nothing goes on from .*train-3"):
        from_dict(InfiniteLr, {**FIELDS, **fields, "start": str(first / "train-3")}).validate()


def test_a_single_domain_forgets_nothing() -> None:
    """Oracle: one loss, which is its own best."""
    assert LossMatrix(np.array([[2.0]])).forgetting == [0.0]


def test_a_schedule_without_room_for_its_annealing() -> None:
    """Oracle: annealing after 30 updates of 20."""
    schedule = {"ends": "steps", "warmup": 2, "cooldown": 5, "decay_start": 30}
    with pytest.raises(UsageError, match="decay_start is 30 and steps 20"):
        from_dict(InfiniteLr, {"schedule": schedule, "training": {"steps": 20}}).validate()
