"""A user's own task as a workload: training algorithms compete on its labelled images or texts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import DataError
from selfstudy.learning.supervised import new_classifier, require_labels
from selfstudy.learning.workloads import TensorWorkload, called
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.small_bert import SmallBert
from selfstudy.models.encoders.text_base import Tokens
from selfstudy.models.encoders.text_transformers import TextTransformer
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.pools import PoolTask, require_given

LEAST_DEVIATION = 1e-6  # of a feature that does not vary


def own_workload(
    task: ImageTask | PoolTask,
    encoder: ImageEncoder | SmallBert | TextTransformer,
    *,
    target: float,
    step_hint: int,
    batch: int,
) -> TensorWorkload:
    """Return the workload of a linear head on `encoder`, judged by the share of validation items told wrong.

    Test items are not looked at.

    Args:
        task: whose labelled images, or texts, are trained on as they are.
        encoder: made for them; every trial starts from these weights, all of which are trained.
        target: of the validation error.
        step_hint: steps after which training may end.
        batch: items of a standard step.

    Raises:
        DataError: no labels, or no validation items to look at.
    """
    made = _of_images(task, encoder) if isinstance(task, ImageTask) else _of_texts(task, encoder)
    if not len(task.validation):
        raise DataError(
            f"The task {task.name!r} has no validation items, on which targets are met. Give it some, or "
            "take another task."
        )

    def measure(model: nn.Module, split: str) -> float | None:
        if split == "test":
            return None
        return 1 - float(np.mean(task.evaluate(model, split=split).values))

    return TensorWorkload(
        name=task.name.partition("?")[0].replace("/", "-").replace(":", "-"),
        measure=measure,
        target=target,
        step_hint=step_hint,
        batch=min(batch, len(made.inputs)),
        **made._asdict(),
    )


class _Examples(NamedTuple):
    """What is trained, and on what; fields of `TensorWorkload`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    network: Callable[[int], nn.Module]
    scores: Callable[[Any, torch.Tensor], torch.Tensor] = called
    operations: float = 0.0


def _of_images(task: ImageTask, encoder: Any) -> _Examples:
    require_labels(task.labelled)
    return _Examples(
        inputs=task.labelled.pixels(slice(None)),
        targets=torch.from_numpy(task.labelled.labels),
        network=lambda key: new_classifier(encoder, task.labelled, key),
        operations=TRAINED * forward_flops(encoder),
    )


def _of_texts(task: PoolTask, encoder: Any) -> _Examples:
    require_given(task)
    texts = task.pool.only(task.labelled)

    @functools.cache
    def scale() -> tuple[torch.Tensor, torch.Tensor]:
        features = encoder.embed_texts(texts.texts)  # type: ignore[union-attr]
        return features.mean(0), features.std(0).clamp(min=LEAST_DEVIATION)

    def network(key: int) -> nn.Module:
        head = MlpHead(width=encoder.width, hidden=[], classes=len(task.classes), key=key)
        head.mean, head.deviation = (part.clone() for part in scale())
        made = FeatureClassifier(encoder.copy(), head, task.classes)
        for part in made.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # what it draws would not be the same when a trial goes on
        return made

    return _Examples(
        inputs=torch.stack(encoder.tokens(texts.texts), 1),  # type: ignore[union-attr]
        targets=torch.from_numpy(task.given[task.labelled]),
        network=network,
        scores=text_scores,
    )


def text_scores(classifier: FeatureClassifier, inputs: torch.Tensor) -> torch.Tensor:
    """Return the scores [B, classes] of token numbers and their mask [B, 2, T]."""
    longest = max(1, int(inputs[:, 1].sum(1).max()))
    ids, mask = inputs[:, :, :longest].unbind(1)
    return classifier.head(classifier.encoder.features(Tokens(ids, mask)))
