"""What a sequence model can do, beside learners without meta-training on the same projected sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from selfstudy.evaluation.in_context_curves import logistic_regression, nearest_mean, nearest_neighbour
from selfstudy.evaluation.in_context_pictures import Shown
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


def examples(task: ProjectedImages, tasks: int = 4) -> list[Shown]:
    """Return an image of each class as it is and as the first tasks show it; none without images."""
    base, augmenter = task.base, task.augmenter
    if base.image == (0, 0) or augmenter.inputs != base.image[0] * base.image[1]:
        return []
    inputs, labels = base.splits["train"]
    first = [int((labels == label).argmax()) for label in range(len(base.labels))]
    size, known = (len(first), *base.image), labels[first].tolist()
    found = [Shown(task="as they are", images=inputs[first].reshape(size), labels=known)]
    ids = np.arange(min(tasks, augmenter.tasks))
    rows = torch.from_numpy(np.repeat(inputs[first][None], len(ids), 0))
    shown, told = augmenter(ids, rows, torch.from_numpy(np.repeat(labels[first][None], len(ids), 0)))
    found += [
        Shown(task=f"task {i}", images=shown[i].reshape(size).numpy(), labels=told[i].tolist()) for i in ids
    ]
    return found


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
