"""How far a predictor is from the best possible layer of linear attention, and from Bayes.

Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576. All predictors are measured on the same problems, because
the error of a mean of heavy-tailed squared errors is larger than what is to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Batch, Predictor, Regression
from selfstudy.evaluation.alignment import predictions, relative_distance, squared_errors
from selfstudy.evaluation.descent_search import best_descent, best_ridge
from selfstudy.evaluation.effective_map import EffectiveMap, effective_map
from selfstudy.evaluation.in_context_optimum import Optimum, one_layer_optimum
from selfstudy.evaluation.tolerances import within
from selfstudy.models.in_context.predictors import (
    gradient_descent,
    least_squares,
    posterior_mean,
    preconditioned,
    relu_kernel_ridge,
    ridge,
    zero,
)

BEST, ISOTROPIC, BAYES = "the best layer", "best step of descent", "ridge"
STEPS = 5  # of the reference that takes several
RISK, MAP, SPURIOUS, ERRORS = 0.01, 0.05, 0.02, 2.0
"""Tolerances: risk above the best layer's, distance of G, share of spurious terms, standard errors below."""


def references(problems: Regression, tuning: Batch) -> dict[str, Predictor]:
    """Return the predictors that a layer is compared with, the best layer first where it is known.

    Args:
        problems: the distribution.
        tuning: problems on which steps without a closed form are chosen.
    """
    best, n = one_layer_optimum(problems), problems.context
    found: dict[str, Predictor] = {BEST: preconditioned(best.matrix)} if best else {}
    if best is None or not best.isotropic:
        found[ISOTROPIC] = gradient_descent(best_descent(tuning, 1))
    found[f"{STEPS} steps of descent"] = gradient_descent(best_descent(tuning, STEPS), STEPS)
    found["descent with step 1/n"] = gradient_descent(1 / n)
    found |= bayes(problems, tuning)
    return {**found, "least squares": least_squares(), "zero": zero}


def bayes(problems: Regression, tuning: Batch) -> dict[str, Predictor]:
    """Return the best predictor of all, where it is known, or ridge regression with the best penalty."""
    noise = problems.noise / problems.weight_scale
    if problems.responses == "linear":
        prior = np.linalg.inv(problems.moments) if problems.prior == "inverse" else None
        return {BAYES: posterior_mean(noise, prior)}
    if problems.responses == "relu":
        return {"kernel ridge": relu_kernel_ridge(noise)}
    return {"ridge, best penalty": ridge(best_ridge(tuning))}


def verify_icl(model: Any, problems: Regression, batch: Batch) -> dict[str, Any]:
    """Return how close `model` is to the best layer of linear attention, as JSON data.

    Args:
        model: any callable (context, query) -> predictions; its terms are taken apart where it is one layer
            of linear attention.
        problems: the distribution of `batch`.
        batch: held-out problems.

    Returns:
        "map": the terms, None where the model has none. Where the best layer is known also "theory",
        "risk_gap" (the risk over the best layer's, less 1), "errors_below" (standard errors by which it is
        below the best), "distance" (mean square from the best layer's predictions over theirs) and "held_to".
    """
    best = one_layer_optimum(problems)
    terms = _terms(model, batch)
    found: dict[str, Any] = {"map": None if terms is None else _plain(terms)}
    if best is None:
        return found
    ideal = preconditioned(best.matrix)
    ours, theirs = squared_errors(model, batch), squared_errors(ideal, batch)
    gap = float(ours.mean() / theirs.mean()) - 1
    below = theirs - ours
    error = float(below.std()) / len(below) ** 0.5
    target = predictions(ideal, batch)
    distance = float((predictions(model, batch) - target).square().mean())
    power = float(target.square().mean())
    found |= {
        "theory": best._asdict() | {"step": best.step, "matrix": best.matrix.tolist()},
        "risk_gap": gap,
        "errors_below": float(below.mean()) / error if error > 0 else 0.0,
        "distance": distance / power if power > 0 else distance,
    }
    if terms is not None:
        aim = torch.as_tensor(best.matrix, dtype=torch.float32)
        found["map"] |= {
            "relative_error": relative_distance(terms.matrix, aim),
            "directions": directions(terms.matrix, best.matrix, problems.moments),
        }
    found["held_to"] = _held_to(found, best)
    return found


def directions(learned: torch.Tensor, best: np.ndarray, moments: np.ndarray) -> list[dict[str, float]]:
    """Return v^T G v beside v^T Γ v for each eigenvector v of Λ, the largest eigenvalue first."""
    values, vectors = np.linalg.eigh(moments)
    pairs = zip(values[::-1], vectors.T[::-1], strict=True)
    matrix = learned.double().numpy()
    return [
        {"eigenvalue": float(value), "learned": float(v @ matrix @ v), "best": float(v @ best @ v)}
        for value, v in pairs
    ]


def _held_to(found: Mapping[str, Any], best: Optimum) -> list[dict[str, Any]]:
    if not best.exact:
        return []  # a table's rows are no Gaussian inputs
    held_to = [
        within("risk above the best layer's", found["risk_gap"], most=RISK),
        within("standard errors below the best layer's risk", found["errors_below"], most=ERRORS),
    ]
    if found["map"] is not None and best.matrix.any():
        held_to.append(within("relative error of G", found["map"]["relative_error"], most=MAP))
        held_to.append(within("share of spurious terms", found["map"]["spurious_share"], most=SPURIOUS))
    return held_to


def _terms(model: Any, batch: Batch) -> EffectiveMap | None:
    if not hasattr(model, "bilinear"):
        return None
    try:
        return effective_map(model, batch)
    except UsageError:  # several layers, softmax or layer norm: there is no such map
        return None


def _plain(terms: EffectiveMap) -> dict[str, Any]:
    return {
        name: value.tolist() if hasattr(value, "tolist") else value for name, value in terms._asdict().items()
    }
