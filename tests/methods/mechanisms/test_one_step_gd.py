"""What is particular to one-step-gd: restarts, references by distribution, and the figures reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.evaluation.one_step_pictures import risks_by_context
from selfstudy.evaluation.verification import BAYES, BEST, ISOTROPIC
from selfstudy.methods.mechanisms.one_step_gd import OneStepGd
from selfstudy.tasks.regression import SQUARED_ERROR

ERROR = SQUARED_ERROR.name
SMALL: dict[str, Any] = {"steps": 4, "batch": 16, "problems": 100, "snapshots": 2}
GAUSSIAN = "?inputs=gaussian&dimensions=5&context=20"


def fit(folder: Path, task: str = GAUSSIAN, model: str = "bilinear-attention", **fields: Any) -> Fit:
    with Run(folder, {}) as run:
        ready = selfstudy.task(f"in-context-regression{task}").metered(run.meter)
        return OneStepGd(**{**SMALL, **fields}).fit(ready, selfstudy.model(model), run)


def test_the_best_restart_is_kept(tmp_path: Path) -> None:
    """Oracle: each restart alone, from the model of its seed; the first is the given model."""
    fitted = fit(tmp_path / "all", restarts=3)
    risks = fitted.metrics["restarts"]
    assert len(set(risks)) == 3
    first = fit(tmp_path / "one")
    assert first.metrics["restarts"] == risks[:1]
    best = risks.index(min(risks))
    with Run(tmp_path / "all", {}) as run:
        kept = run.result(f"train-{best}").model
    assert torch.equal(kept.u, fitted.model.u)


def test_an_isotropic_layer_reaches_the_theory(tmp_path: Path) -> None:
    """Oracle: R* and η* in closed form, held to within the stated tolerances after 800 steps."""
    fitted = fit(tmp_path, f"{GAUSSIAN}&noise=0.5", steps=800, batch=512, problems=20_000)
    verified = fitted.metrics["verification"]
    assert verified["theory"]["step"] == pytest.approx(1 / 26.25)
    assert len(fitted.held_to) == 4 and all(line["holds"] for line in fitted.held_to), fitted.held_to
    assert fitted.metrics[BAYES][ERROR] < 0.5 * fitted.metrics[BEST][ERROR]


def test_references_by_distribution(tmp_path: Path) -> None:
    """Oracle: by hand: a plain step only where the best one is preconditioned; a kernel for ReLU networks."""
    skewed = fit(tmp_path / "a", f"{GAUSSIAN}&covariance=1,0.5,0.25,0.125,0.0625").metrics
    assert skewed[BEST][ERROR] < skewed[ISOTROPIC][ERROR] < skewed["zero"][ERROR]
    relu = fit(tmp_path / "b", f"{GAUSSIAN}&responses=relu").metrics
    assert ISOTROPIC not in relu and relu["kernel ridge"][ERROR] < relu[BEST][ERROR]


def test_even_responses(tmp_path: Path) -> None:
    """Oracle: the best layer predicts 0, and no distance of G is asked for."""
    fitted = fit(tmp_path, f"{GAUSSIAN}&responses=absolute")
    found = fitted.metrics["verification"]
    assert found["theory"]["step"] == 0 and found["theory"]["risk"] == pytest.approx(5)
    assert len(fitted.held_to) == 2


def test_models_without_a_map(tmp_path: Path) -> None:
    """Oracle: two layers are compared by their predictions alone."""
    fitted = fit(tmp_path, model="linear-attention?dimensions=5&layers=2")
    assert fitted.metrics["verification"]["map"] is None
    assert "The effective matrix" not in [picture["title"] for picture in fitted.pictures]


def test_pictures_and_lengths(tmp_path: Path) -> None:
    """Oracle: the list of what a report must show; risks fall with n, and ridge is below the best layer."""
    fitted = fit(tmp_path, f"{GAUSSIAN}&noise=0.5")
    assert [picture["title"] for picture in fitted.pictures] == [
        "Squared error over training",
        "Predictions during training",
        "The effective matrix",
        "Direction by direction",
        "Risk by context",
    ]
    assert len(json.dumps(fitted.pictures)) < 1.5e6
    found = fitted.metrics["by_context"]
    assert found["the best layer"] == sorted(found["the best layer"], reverse=True)
    assert all(ridge < best for ridge, best in zip(found["ridge"], found["the best layer"], strict=True))


def test_a_table_without_a_theory(tmp_path: Path) -> None:
    """Oracle: a target column has no closed form: references are tuned, nothing is held to a theory."""
    fitted = fit(tmp_path, "?table=diabetes&target=target", "bilinear-attention?dimensions=10")
    assert "theory" not in fitted.metrics["verification"] and fitted.metrics["by_context"] == {}
    assert {ISOTROPIC, "ridge, best penalty", "zero"} <= set(fitted.metrics)
    task = selfstudy.task("in-context-regression?table=diabetes&noise=0.5")
    lengths = risks_by_context(task.problems, task.held_out)["at"]
    assert lengths == [1, 2, 5, 10, 20]  # validation has 44 rows


def test_refused(tmp_path: Path) -> None:
    """Oracle: fields out of range; a width that differs, with both numbers."""
    for field in ("steps", "batch", "learning_rate", "restarts", "snapshots"):
        with pytest.raises(UsageError, match=field.replace("_", "-")):
            OneStepGd(**{field: 0}).validate()
    OneStepGd().validate()
    with pytest.raises(UsageError, match=r"width 6 .*width 11"):
        fit(tmp_path, "?inputs=gaussian")
