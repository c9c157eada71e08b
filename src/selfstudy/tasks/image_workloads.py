"""Image tasks as workloads: training algorithms compete on the labelled images."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import DataError
from selfstudy.learning.supervised import require_labels
from selfstudy.learning.workloads import TensorWorkload
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.tasks.images import ImageTask


def image_workload(
    task: ImageTask, encoder: ImageEncoder, *, target: float, step_hint: int, batch: int, test: bool = False
) -> TensorWorkload:
    """Return the workload of a linear head on `encoder`, judged by the share of images told wrong.

    Args:
        task: whose labelled images are trained on, as they are.
        encoder: made for the images; every trial starts from these weights.
        target: of the validation error.
        step_hint: steps that training may take.
        batch: images of a standard step.
        test: whether the test images are looked at too, which a method may not.

    Raises:
        DataError: no labels, or no validation images to look at.
    """
    require_labels(task.labelled)
    if not len(task.validation):
        raise DataError(
            f"The task {task.name!r} has no validation images, on which targets are met. Give it some, or "
            "take another task."
        )

    def network(key: int) -> nn.Module:
        return ImageClassifier(encoder.copy(), task.classes, {CLASS: len(task.classes)}, key=key)

    def measure(model: nn.Module, split: str) -> float | None:
        if split == "test" and not test:
            return None
        return 1 - float(np.mean(task.evaluate(model, split=split).values))

    return TensorWorkload(
        name=task.name.partition("?")[0].replace("/", "-").replace(":", "-"),
        inputs=task.labelled.pixels(slice(None)),
        targets=torch.from_numpy(task.labelled.labels),
        network=network,
        measure=measure,
        target=target,
        step_hint=step_hint,
        batch=min(batch, len(task.labelled)),
        operations=TRAINED * forward_flops(encoder),
    )
