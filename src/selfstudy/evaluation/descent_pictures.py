"""What the report of a comparison with gradient descent shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selfstudy.data.regression import Batch, Predictor
from selfstudy.evaluation import regression_pictures as draw
from selfstudy.evaluation.alignment import (
    alignment,
    can_average,
    interpolate,
    predictions,
    products,
    squared_errors,
)
from selfstudy.evaluation.pictures import Picture
from selfstudy.learning.in_context import Trajectory
from selfstudy.models.in_context.descent_weights import gd_attention
from selfstudy.models.in_context.linear_attention import LinearSelfAttention
from selfstudy.models.in_context.predictors import descent_path

ERROR = "squared error"


def descent_pictures(
    path: Trajectory, references: Mapping[str, Predictor], metrics: Mapping[str, Any], batch: Batch
) -> list[Picture]:
    """Return what the report shows."""
    model, (first, reference) = path.model, next(iter(references.items()))
    models = [(step, path.at(step)) for step in path.snapshots]
    steps = [step for step, _ in models]
    target = predictions(reference, batch)
    alike = [alignment(one, reference, batch) for _, one in models]
    errors = [float(squared_errors(one, batch).mean()) for _, one in models]
    levels = {name: metrics[name][ERROR] for name in [*references, "zero"]}
    shown = [
        draw.training_curve(
            steps, errors, levels, "On held-out problems; the dashed lines are explicit predictors."
        ),
        draw.prediction_frames(
            "Predictions during training",
            [(str(step), target, predictions(one, batch)) for step, one in models],
            over="step",
            against=first,
            note="Each point is a held-out problem; on the diagonal the model is this reference.",
        ),
        draw.curves(
            "Sensitivities during training",
            steps,
            {
                "cosine": [a.cosine for a in alike],
                "distance": [a.model_difference for a in alike],
                "difference of predictions": [a.prediction_difference for a in alike],
            },
            over="step",
            of="mean over problems",
            note=f"How the prediction reacts to the query, the model beside {first}: the implicit weights.",
        ),
    ]
    if isinstance(model, LinearSelfAttention):
        shown += layer_pictures(model, models, metrics["descent"], batch)
    note = "Trained at one setting, measured at others, beside the references with the steps they had there."
    for name, found in metrics["departures"].items():
        rest = {who: values for who, values in found.items() if who != "at"}
        axis = {"yaxis": draw.LOG}
        shown.append(
            draw.curves(name.capitalize(), found["at"], rest, over=name, of=ERROR, note=note, layout=axis)
        )
    return shown


def layer_pictures(
    model: LinearSelfAttention, models: list[tuple[int, Any]], found: dict[str, float], batch: Batch
) -> list[Picture]:
    """Return predictions by layer, products of weights, and what lies between them and the construction."""
    learned = model.layerwise(batch.context, batch.query).detach()
    explicit = descent_path(
        batch.context, batch.query, found["GD++ step"], model.layers, found["GD++ curvature"]
    )
    shown = [
        draw.prediction_frames(
            "Predictions layer by layer",
            [(str(k), explicit[k], learned[k]) for k in range(model.layers + 1)],
            over="layer",
            against="GD++ after as many steps" if model.layers > 1 else "gradient descent",
            note="What could be read off after each layer, against as many steps of explicit descent.",
        )
    ]
    if not (can_average(model) and model.config["recurrent"]):
        return shown
    constructed = gd_attention(
        model.dimensions, found["GD++ step"], model.layers, curvature=found["GD++ curvature"]
    )
    # Before training the products are noise, which scaling would blow up.
    frames = [(str(step), products(one)) for step, one in models if step > 0]
    aim = products(constructed)
    note = "Only products of weights matter, up to a factor between them, which is fixed here."
    for i, name in enumerate(("QK", "VP")):
        matrices = [(step, product[i][0]) for step, product in frames]
        shown.append(
            draw.matrix_frames(f"{name}, the product of two weights", matrices, aim[i][0], note=note)
        )
    return [*shown, _between(model, constructed, batch)]


def _between(model: LinearSelfAttention, constructed: LinearSelfAttention, batch: Batch) -> Picture:
    """Return the error of models between the learned one and the construction."""
    shares = [i / 20 for i in range(21)]
    mixtures = [interpolate(model, constructed, share) for share in shares]
    errors = [float(squared_errors(mixture, batch).mean()) for mixture in mixtures]
    return draw.curves(
        "Between learned and constructed weights",
        shares,
        {"the model": errors, "the construction": [errors[-1]] * len(shares)},
        over="share of the construction",
        of=ERROR,
        note="A flat line: learned weights and construction are one solution, weight for weight.",
        layout={"yaxis": {"range": [0.8 * min(errors), 1.2 * max(errors)]}},
    )
