"""What is particular to icl-gd: settings by depth, references, what is compared, and the figures reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.methods.mechanisms.icl_gd import DESCENT, FEATURES, MODEL, IclGd, best_steps, compare, named
from selfstudy.models.in_context.descent_weights import gd_attention
from selfstudy.models.in_context.embedded import EmbeddedAttention
from selfstudy.models.in_context.paired_tokens import PairedTokens
from selfstudy.tasks.regression import SQUARED_ERROR

ERROR = SQUARED_ERROR.name
SMALL: dict[str, Any] = {"steps": 4, "batch": 16, "problems": 50, "snapshots": 2}


def fit(folder: Path, task: str, model: Any, **fields: Any) -> Fit:
    with Run(folder, {}) as run:
        ready = selfstudy.task(f"in-context-regression{task}").metered(run.meter)
        return IclGd(**{**SMALL, **fields}).fit(ready, model, run)


def titles(fitted: Fit) -> list[str]:
    return [picture["title"] for picture in fitted.pictures]


def test_settings_by_depth() -> None:
    """Oracle: the authors' table; given values are taken as they are."""
    rows = {
        depth: IclGd().training(selfstudy.model(f"linear-attention?layers={depth}")) for depth in (1, 2, 3, 5)
    }
    assert [rows[depth].steps for depth in rows] == [2000, 5000, 5000, 5000]
    assert [rows[depth].learning_rate for depth in rows] == [1e-3, 1e-3, 1e-3, 5e-4]
    assert [rows[depth].clip for depth in rows] == [0.001, 0.001, 10.0, 10.0]
    assert all(row.betas == (0.9, 0.98) and row.batch == 2048 for row in rows.values())
    given = IclGd(steps=7, learning_rate=0.5, clip=3.0).training(selfstudy.model("linear-attention?layers=5"))
    assert (given.steps, given.learning_rate, given.clip) == (7, 0.5, 3.0)


def test_the_construction_passes_and_a_wrong_step_does_not() -> None:
    """Oracle: a model that is the reference: no gap, cosine 1; twice the step has a gap and cosine 1."""
    task = selfstudy.task("in-context-regression")
    found = best_steps(task, 1, 500)
    batch = task.held_out("validation", 2000)
    right = compare(gd_attention(10, found["step"]), named(found, 1), batch, found)
    assert all(line["holds"] for line in right["held_to"]) and len(right["held_to"]) == 3
    assert right["gaps"][DESCENT] == pytest.approx(0, abs=1e-5)
    wrong = compare(gd_attention(10, 2 * found["step"]), named(found, 1), batch, found)
    assert [line["holds"] for line in wrong["held_to"]] == [False, True, False]


def test_deep_models_are_compared_with_gd_plus_plus(tmp_path: Path) -> None:
    """Oracle: by hand: as many steps as layers; GD++ is better than plain descent with the best step."""
    fitted = fit(tmp_path, "", selfstudy.model("linear-attention?layers=3"))
    metrics = fitted.metrics
    assert metrics["descent"]["steps"] == 3
    assert metrics["GD++"][ERROR] < metrics[DESCENT][ERROR] < metrics["zero"][ERROR]
    assert not fitted.held_to and "layer applied again and again" not in metrics["departures"]
    by_layer = next(p for p in fitted.pictures if p["title"] == "Predictions layer by layer")
    assert [frame["name"] for frame in by_layer["frames"]] == ["0", "1", "2", "3"]


def test_pictures_of_one_layer(tmp_path: Path) -> None:
    """Oracle: the list of what a report must show; all of it is JSON and below 1.5 MB."""
    fitted = fit(tmp_path, "", selfstudy.model("linear-attention"))
    assert titles(fitted) == [
        "Squared error over training",
        "Predictions during training",
        "Sensitivities during training",
        "Predictions layer by layer",
        "QK, the product of two weights",
        "VP, the product of two weights",
        "Between learned and constructed weights",
        "Weight scale",
        "Corrupted targets",
        "Range of inputs",
        "Kind of inputs",
        "Layer applied again and again",
    ]
    assert len(json.dumps(fitted.pictures)) < 1.5e6


def test_models_whose_weights_cannot_be_averaged(tmp_path: Path) -> None:
    """Oracle: a softmax of two heads is compared by predictions and sensitivities, not by weights."""
    fitted = fit(tmp_path, "", selfstudy.model("linear-attention?softmax=true&heads=2"))
    assert "averaged weights" not in fitted.metrics and len(fitted.held_to) == 2
    assert "QK, the product of two weights" not in titles(fitted)


def test_sines_are_compared_with_descent_on_features(tmp_path: Path) -> None:
    """Oracle: the trained features are a part of the fit, and the first reference."""
    fitted = fit(tmp_path, "?responses=sine&dimensions=1&range=10", EmbeddedAttention(width=6))
    assert set(fitted.parts) == {"features"}
    assert list(fitted.metrics["gaps"]) == [FEATURES, DESCENT]
    assert not fitted.held_to


def test_paired_tokens_tell_what_they_copy(tmp_path: Path) -> None:
    """Oracle: the three kinds of tokens; a context longer than the positions is refused before work."""
    fitted = fit(tmp_path / "a", "?context=3", PairedTokens())
    assert set(fitted.metrics["copying"]) == {"own", "next", "other"}
    with pytest.raises(UsageError, match="has 5"):
        fit(tmp_path / "b", "?context=3", PairedTokens(positions=5))
    assert not (tmp_path / "b" / "stages").exists()


def test_a_table_of_rows(tmp_path: Path) -> None:
    """Oracle: rows have ranges, but no other kinds of inputs; the target column is learned from rows."""
    fitted = fit(tmp_path, "?table=diabetes&target=target", selfstudy.model("linear-attention"))
    assert not fitted.held_to and "averaged weights" in fitted.metrics
    assert set(fitted.metrics["departures"]) == {
        "weight scale",
        "corrupted targets",
        "range of inputs",
        "layer applied again and again",
    }


def test_one_layer_reaches_gradient_descent(tmp_path: Path) -> None:
    """Oracle: the closed form of the best step, η = 6.06, whose error the trained layer has within 2 %."""
    fitted = fit(tmp_path, "", selfstudy.model("linear-attention"), steps=700, batch=2048, problems=4000)
    metrics = fitted.metrics
    assert metrics["descent"]["eta"] == pytest.approx(6.06, abs=0.005)
    assert len(fitted.held_to) == 3 and all(line["holds"] for line in fitted.held_to), fitted.held_to
    assert metrics[MODEL][ERROR] < 0.6 * metrics["zero"][ERROR]


def test_refused(tmp_path: Path) -> None:
    """Oracle: fields out of range; the defaults pass."""
    for field in ("steps", "batch", "learning_rate", "clip", "snapshots"):
        with pytest.raises(UsageError, match=field.replace("_", "-")):
            IclGd(**{field: 0}).validate()
    IclGd().validate()
