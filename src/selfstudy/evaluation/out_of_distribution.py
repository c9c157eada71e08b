"""How predictors fare on problems unlike those they were trained on (von Oswald et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from selfstudy.data.regression import NORMALISED, Batch, Predictor, Regression
from selfstudy.evaluation.alignment import squared_errors
from selfstudy.models.in_context.linear_attention import LinearSelfAttention
from selfstudy.models.in_context.predictors import descent_path

RANGES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
WEIGHT_SCALES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
TIMES, DAMPING = 50, 0.75

Curves = dict[str, list[float]]
"""Squared errors by predictor, and where they were measured under "at"."""


def departures(
    predictors: Mapping[str, Predictor], problems: Regression, draw: Callable[..., Batch]
) -> dict[str, Curves]:
    """Return the mean squared errors of predictors as the problems change, one thing at a time.

    Args:
        predictors: by name.
        problems: what they were trained on.
        draw: makes a batch of them with fields of `problems` changed.
    """

    def along(field: str, values: Iterable[Any], factor: float | None = None) -> Curves:
        batches = [draw(**{field: value if factor is None else factor * value}) for value in values]
        errors = {
            name: [float(squared_errors(predictor, batch).mean()) for batch in batches]
            for name, predictor in predictors.items()
        }
        return {"at": list(values), **errors}

    found = {
        "weight scale": along("weight_scale", WEIGHT_SCALES, problems.weight_scale),
        "corrupted targets": along("corrupted", range(problems.context + 1)),
    }
    if problems.rows is not None or problems.inputs != "gaussian":
        found["range of inputs"] = along("scale", RANGES, problems.scale)
    if problems.rows is None and problems.inputs != "gaussian":
        found["kind of inputs"] = along("inputs", dict.fromkeys([problems.inputs, *NORMALISED]))
    return found


def repeated(model: LinearSelfAttention, step: float, batch: Batch) -> Curves:
    """Return the squared errors as one layer is applied again and again, damped, beside descent's."""
    learned = model.repeated(*batch[:2], TIMES, DAMPING).detach()
    descent = descent_path(*batch[:2], DAMPING * step, TIMES)

    def errors(path: Tensor) -> list[float]:
        return ((path - batch.answer) ** 2).mean(-1).tolist()

    return {"at": list(range(TIMES + 1)), "the model": errors(learned), "gradient descent": errors(descent)}
