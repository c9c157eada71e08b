from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.core.budget import Budget
from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.methods.mechanisms.self_sorting import Damage, SelfSorting
from selfstudy.models.sorting.cells import Cells

SMALL: dict[str, Any] = {"arrays": 5, "frozen": (0, 2), "levels": 4, "conflict_rounds": 20, "frames": 5}
TASK, MODEL = "arrays?length=16&arrays=8&frozen=2", "top-down-selection"


def fitted(folder: Path, task: str = TASK, model: str = MODEL, budget: Budget | None = None, **fields: Any):
    with Run(folder, {}, budget=budget) as run:
        method = SelfSorting(**{**SMALL, **fields})
        return method.fit(selfstudy.task(task).metered(run.meter), selfstudy.model(model), run), run


def test_cells_of_the_models_own_rule(tmp_path: Path) -> None:
    """Oracle: the model's name; every setting is there once, paired, and counted on the meter."""
    fit, run = fitted(tmp_path / "run")
    assert isinstance(fit.model, Cells) and fit.model.policy == "selection"
    damage, mixtures = fit.metrics["damage"], fit.metrics["mixtures"]
    settings = [tuple(record[name] for name in Damage._fields) for record in damage]
    assert len(set(settings)) == len(settings) == 2 * 3 * 3
    assert len({(record["name"], record["kind"]) for record in mixtures}) == len(mixtures) == 9
    assert run.meter.snapshot()["samples"] == 5 * (18 + 9) == SelfSorting(**SMALL).cost(None, None)["samples"]
    for record in damage:
        assert record["cells"]["truncated"] == 0 and record["gain"]["n"] == 5
        if not record["frozen"]:
            assert record["cells"]["error"] == record["top_down"]["error"] == 0
        if record["policy"] != "selection" and record["mode"] == "immovable":
            assert record["gain"]["mean"] == 0
    assert len(fit.held_to) == 3 and all(line["holds"] for line in fit.held_to)
    row = fit.metrics["selection cells, 2 frozen, movable"]
    (same,) = [
        r for r in damage if (*(r[n] for n in Damage._fields),) == ("rounds", "selection", 2, "movable")
    ]
    assert row["monotonicity error"] == same["cells"]["error"] and row["count"] == 5


def test_mixtures(tmp_path: Path) -> None:
    """Oracle: order decides the end where values differ; only opposite directions are cut off."""
    fit, _ = fitted(tmp_path / "run", mixtures=(0.25, 0.5))
    for record in fit.metrics["mixtures"]:
        assert record["kind"] == "conflict" or not record["truncated"]
        if record["kind"] == "unique":
            assert {found["end"] for found in record["controls"].values()} == {record["end"]}
        assert len(record["controls"]) == 2 and record["control"] in record["controls"]
    assert any(record["truncated"] for record in fit.metrics["mixtures"])
    assert {record["name"] for record in fit.metrics["mixtures"]} >= {"bubble and selection, 0.25"}
    assert fitted(tmp_path / "none", mixtures=())[0].metrics["mixtures"] == []


def test_pictures(tmp_path: Path) -> None:
    """Oracle: titles; the moving ones end in the outcome that they name."""
    fit, _ = fitted(tmp_path / "run")
    titles = [picture["title"] for picture in fit.pictures]
    assert len(titles) == 3 + 4 + 6 and sum("frames" in picture for picture in fit.pictures) == 3
    for picture in fit.pictures[:3]:
        ended = picture["title"].rsplit(" ", 1)[1]
        assert (ended == "sorted") == picture["frames"][-1]["name"].endswith("out of order: 0)")


def test_a_budget_ends_it_early(tmp_path: Path) -> None:
    """Oracle: seven settings of five arrays fit into 39; pictures and model are still there."""
    fit, run = fitted(tmp_path / "run", budget=Budget(samples=39))
    assert len(fit.metrics["damage"]) == 7 and fit.metrics["mixtures"] == []
    assert run.meter.snapshot()["samples"] == 35 and fit.pictures and fit.model.policy == "selection"


def test_all_frozen_is_stuck(tmp_path: Path) -> None:
    """Oracle: nobody can act, so none of the arrays counts as sorted, and no picture says so."""
    fit, _ = fitted(tmp_path / "run", task="arrays?length=6&frozen=6", frozen=(6,))
    for record in fit.metrics["damage"]:
        for who in ("cells", "top_down"):
            assert record[who]["stuck"] == 5 and record[who]["sorted"] == 0 and record[who]["swaps"] == 0
    assert fit.pictures[0]["title"].endswith("stuck")


def test_a_limit_on_activations_flags_and_excludes(tmp_path: Path) -> None:
    """Oracle: after one activation hardly anything is settled; such runs have no error."""
    fit, _ = fitted(tmp_path / "run", max_steps=1)
    for record in fit.metrics["damage"]:
        assert (
            record["cells"]["truncated"] == 5 and record["cells"]["error"] is None and record["gain"] is None
        )
    assert "selection cells, 2 frozen, movable" not in fit.metrics


@pytest.mark.parametrize("length", [0, 1, 2])
def test_shortest_arrays(length: int, tmp_path: Path) -> None:
    """Oracle: sorted with no error."""
    fit, _ = fitted(tmp_path / "run", task=f"arrays?length={length}&frozen=0", frozen=(0,), mixtures=())
    assert all(record["cells"]["sorted"] == 5 for record in fit.metrics["damage"])


def test_a_column_with_ties(tmp_path: Path) -> None:
    """Oracle: the metrics exist for rows of a real column; undamaged ones are sorted."""
    fit, _ = fitted(tmp_path / "run", task="arrays?values=diabetes&column=target&length=40&frozen=1")
    for record in fit.metrics["damage"]:
        if not record["frozen"]:
            assert record["cells"]["sorted"] == 5


def test_what_does_not_fit(tmp_path: Path) -> None:
    """Oracle: named errors before any work."""
    for task, model, fields, words in (
        ("arrays?length=4&frozen=0", MODEL, {"frozen": (5,)}, "5 frozen"),
        ("arrays?length=3&frozen=0", MODEL, {"frozen": (0,)}, "levels=4"),
    ):
        with pytest.raises(UsageError, match=words):
            fitted(tmp_path / words, task, model, **fields)
        assert not (tmp_path / words / "partial").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"arrays": 0},
        {"frozen": ()},
        {"frozen": (1, 1)},
        {"frozen": (-1,)},
        {"mixtures": (0.0,)},
        {"mixtures": (float("nan"),)},
        {"levels": 0},
        {"conflict_rounds": 0},
        {"max_steps": -1},
        {"frames": 1},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    """Oracle: each field out of range, named; the defaults pass."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        SelfSorting(**{**SMALL, **fields}).validate()
    SelfSorting().validate()


def test_the_trial_is_a_setting_of_the_fit() -> None:
    """Oracle: the number of settings; the trial runs and touches no run."""
    step, count = SelfSorting(**SMALL).trial(selfstudy.task(TASK), selfstudy.model(MODEL))
    assert count == 18 + 9 and np.isfinite(step()["gain"]["mean"])  # type: ignore[index]
