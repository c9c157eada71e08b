"""What a sequence model can do, beside learners without meta-training on the same projected sequences."""

from __future__ import annotations

from typing import Any

import torch

from selfstudy.evaluation.in_context_curves import logistic_regression, nearest_mean, nearest_neighbour
from selfstudy.models.in_context.sequences import SequenceModel
from selfstudy.tasks.projected_images import ProjectedImages, Sequences, right

NEW = "new tasks, new images"
SWITCHES = {
    "seen tasks, seen images": (True, True),
    "seen tasks, new images": (True, False),
    "new tasks, seen images": (False, True),
    NEW: (False, False),
}
BASELINES = {"1-NN": nearest_neighbour, "nearest class mean": nearest_mean}
REGRESSION = "logistic regression"


def figures(
    task: ProjectedImages,
    elsewhere: dict[str, ProjectedImages],
    model: SequenceModel,
    split: str = "validation",
    count: int = 512,
) -> list[dict[str, Any]]:
    """Return a row for each kind of sequences and each learner, as plain values.

    Args:
        task: what the model was trained on.
        elsewhere: other data, by name.
        model: the trained model.
        split: "validation" or "test".
        count: sequences of each kind.

    Returns:
        Rows of `on` (the kind), `by` (the learner; "" is the model), `curve` (accuracy at the positions from
        `first` on) and `last` (1 or 0 for each sequence at the last position).
    """
    drawn = {
        name: task.sequences(count, split, seen_tasks=tasks, seen_images=images)
        for name, (tasks, images) in SWITCHES.items()
    }
    drawn |= {name: other.sequences(count, split) for name, other in elsewhere.items()}
    rows = [_row(name, "", right(model, sequences), 1) for name, sequences in drawn.items()]
    for name in (NEW, *elsewhere):
        rows += [
            _row(name, learner, told, first) for learner, (told, first) in baselines(drawn[name]).items()
        ]
    return rows


def baselines(sequences: Sequences) -> dict[str, tuple[torch.Tensor, int]]:
    """Return what each baseline gets right, [B, positions], and the first of those positions."""
    _, inputs, labels = sequences
    last = labels.shape[1]
    found = {name: ((tell(inputs, labels) == labels[:, 1:]).float(), 2) for name, tell in BASELINES.items()}
    told = logistic_regression(inputs, labels, [last])
    return {**found, REGRESSION: ((told == labels[:, -1:]).float(), last)}


def _row(on: str, by: str, told: torch.Tensor, first: int) -> dict[str, Any]:
    curve = [round(share, 6) for share in told.mean(0).tolist()]
    return {"on": on, "by": by, "first": first, "curve": curve, "last": told[:, -1].tolist()}
