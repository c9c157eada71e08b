"""What the report of a verification against the best layer shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from selfstudy.data.regression import Batch, Predictor, Regression
from selfstudy.evaluation import regression_pictures as draw
from selfstudy.evaluation.alignment import predictions, squared_errors
from selfstudy.evaluation.effective_map import effective_map
from selfstudy.evaluation.in_context_optimum import one_layer_optimum
from selfstudy.evaluation.pictures import Picture, bars
from selfstudy.evaluation.pictures import picture as still
from selfstudy.evaluation.verification import bayes
from selfstudy.learning.in_context import Trajectory
from selfstudy.models.in_context.predictors import preconditioned

ERROR = "squared error"
CONTEXTS = (1, 2, 5, 10, 20, 40, 80)
MEASURED = 2000  # problems of each length


def risks_by_context(problems: Regression, held_out: Callable[..., Batch]) -> dict[str, list[float]]:
    """Return the risk of the best layer, in closed form, and of Bayes, measured against it, by context.

    Args:
        problems: the distribution; its context is replaced.
        held_out: (split, count, context=...) -> problems.
    """
    rows = None if problems.rows is None else len(problems.rows.features)
    lengths = [n for n in CONTEXTS if rows is None or n < rows // 8]  # validation has an eighth of these rows
    if one_layer_optimum(problems) is None:
        return {}
    found: dict[str, list[float]] = {"at": list(lengths), "the best layer": []}
    for n in lengths:
        changed = replace(problems, context=n)
        batch = held_out("validation", MEASURED, context=n)
        best = one_layer_optimum(changed)
        assert best is not None
        measured = float(squared_errors(preconditioned(best.matrix), batch).mean())
        risk = best.risk if best.exact else measured
        found["the best layer"].append(risk)
        for name, predictor in bayes(changed, batch).items():
            # Differences on the same problems vary less than the risks themselves.
            difference = float(squared_errors(predictor, batch).mean()) - measured
            found.setdefault(name, []).append(risk + difference)
    return found


def one_step_pictures(
    path: Trajectory, references: Mapping[str, Predictor], metrics: Mapping[str, Any], batch: Batch
) -> list[Picture]:
    """Return the pictures.

    Args:
        path: of the training.
        references: predictors by name, the most interesting first.
        metrics: of the fit: a row for each reference, "verification" and "by_context".
        batch: held-out problems.
    """
    models = [(step, path.at(step)) for step in path.snapshots]
    first, reference = next(iter(references.items()))
    target = predictions(reference, batch)
    levels = {name: metrics[name][ERROR] for name in references if name != "descent with step 1/n"}
    shown = [
        draw.training_curve(
            [step for step, _ in models],
            [float(squared_errors(model, batch).mean()) for _, model in models],
            levels,
            "On the same held-out problems. The layer falls to the best that a layer can do, not further.",
        ),
        draw.prediction_frames(
            "Predictions during training",
            [(str(step), target, predictions(model, batch)) for step, model in models],
            over="step",
            against=first,
            note="Each point is a held-out problem; on the diagonal the layer is this predictor.",
        ),
    ]
    found = metrics["verification"]
    if "theory" in found and found["map"] is not None:
        aim = torch.tensor(found["theory"]["matrix"], dtype=torch.float32)
        frames = [(str(step), effective_map(model, batch).matrix) for step, model in models]
        note = "G, with which the layer predicts Σ y x^T G x_q, beside the matrix of the theory."
        shown.append(draw.matrix_frames("The effective matrix", frames, aim, note=note))
        shown.append(_directions(found["map"]["directions"]))
    by_context = metrics["by_context"]
    if by_context:
        risks = {name: risk for name, risk in by_context.items() if name != "at"}
        note = (
            "The best layer in closed form, and the best predictor of all, measured: the layer is not Bayes."
        )
        over = "examples in the context"
        shown.append(
            draw.curves(
                "Risk by context",
                by_context["at"],
                risks,
                over=over,
                of=ERROR,
                note=note,
                layout={"xaxis": draw.LOG},
            )
        )
    return shown


def _directions(found: list[dict[str, float]]) -> Picture:
    names = [f"{i + 1}: {direction['eigenvalue']:.3g}" for i, direction in enumerate(found)]
    traces = [
        bars("learned", names, [direction["learned"] for direction in found], marker={"color": draw.MODEL}),
        bars("theory", names, [direction["best"] for direction in found], marker={"color": draw.DESCENT}),
    ]
    note = "G along the principal directions of the inputs; those of small variance are learned last."
    return still("Direction by direction", traces, x="direction: its variance", y="gain", note=note)
