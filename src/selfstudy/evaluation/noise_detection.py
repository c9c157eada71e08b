"""How well wrong labels were found, once the truth is told: after the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, bars, line, picture

BINS = 30
RIGHT, FLIPPED, OUTSIDE = "right", "of another class", "of no class"


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return how often a positive has a higher score [N] than a negative; nan where one kind is missing."""
    from sklearn.metrics import roc_auc_score

    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, scores))


def areas(scores: np.ndarray, wrong: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """Return the area of `scores` [N] by kind of wrong label, each against the right ones.

    Args:
        scores: how likely each label is wrong.
        wrong: [N], whether it is.
        outside: [N], whether the item is of no class; such labels are wrong.
    """
    kinds = {"wrong": wrong, FLIPPED: wrong & ~outside, OUTSIDE: outside}
    found = {}
    for name, kind in kinds.items():
        asked = kind | ~wrong
        area = area_under_curve(scores[asked], kind[asked])
        if np.isfinite(area):
            found[name] = area
    return found


def detection_found(part: Any, wrong: np.ndarray, outside: np.ndarray) -> dict[str, Any]:
    """Return `metrics` and `pictures` of how well wrong labels were found.

    Args:
        part: has `suspect` [N], `noisy` [N], and by detector `history` [E, N] and `epochs` [E].
        wrong: [N], the truth.
        outside: [N], which items are of no class.
    """
    metrics: dict[str, float] = {}
    for kind, area in areas(part.suspect, wrong, outside).items():
        metrics[f"detection AUC, {kind}"] = area
    for name, scores in part.history.items():
        for kind, area in areas(scores[-1], wrong, outside).items():
            metrics[f"detection AUC of {name}, {kind}"] = area
    if part.noisy.any() and wrong.any():
        metrics["of those found, wrong"] = float(wrong[part.noisy].mean())
        metrics["of those wrong, found"] = float(part.noisy[wrong].mean())
    pictures = [_by_kind(part.suspect, wrong, outside)]
    if any(len(epochs) > 1 for epochs in part.epochs.values()):
        pictures.append(_over_epochs(part.history, part.epochs, wrong, outside))
    return {"metrics": metrics, "pictures": pictures}


def _by_kind(suspect: np.ndarray, wrong: np.ndarray, outside: np.ndarray) -> Picture:
    edges = np.linspace(0, 1, BINS + 1)
    kinds = {RIGHT: ~wrong, FLIPPED: wrong & ~outside, OUTSIDE: outside}
    traces = [
        bars(f"label {name}" if name == RIGHT else f"item {name}", (edges[1:] + edges[:-1]) / 2, counts)
        for name, kind in kinds.items()
        if (counts := np.histogram(suspect[kind], bins=edges)[0]).any()
    ]
    return picture(
        "How suspect labels are, by what they are",
        traces,
        x="how likely wrong",
        y="items",
        note="The truth was looked up after the training, which did not know it.",
        layout={"barmode": "stack", "bargap": 0.02},
    )


def _over_epochs(
    history: Mapping[str, np.ndarray],
    epochs: Mapping[str, list[int]],
    wrong: np.ndarray,
    outside: np.ndarray,
) -> Picture:
    traces = []
    for name, scores in history.items():
        found = [areas(one, wrong, outside) for one in scores]
        for kind in found[0]:
            values = [one[kind] for one in found]
            traces.append(line(f"{name}, {kind}", epochs[name], values, mode="lines+markers"))
    return picture(
        "Area under the curve of each detector",
        traces,
        x="epoch",
        y="area",
        note="How often a wrong label is more suspect than a right one. 0.5 is chance.",
    )
