"""What of each kind of model goes into an ONNX file: its inputs, its module, and the model's own output."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.transformations import SETS, aggregated_scores, identity_scores
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, JOINT, ImageClassifier
from selfstudy.models.encoders.tables import TabularTransformer


@dataclass(frozen=True)
class Plan:
    """How one kind of model is exported."""

    module: nn.Module
    inputs: dict[str, str]
    output: str
    draw: Callable[[int], tuple[torch.Tensor, ...]]  # inputs of so many rows
    truth: Callable[..., torch.Tensor]  # the model's own output of them
    notes: dict[str, str]


def plan_of(model: Any) -> Plan:
    """Return how a model is exported.

    Raises:
        UsageError: it is of a kind that is not, or an encoder that was made for no images.
    """
    if isinstance(model, ImageEncoder):
        return _images(model, _Features(model), "features", model.width, model.embed_pixels, {})
    if isinstance(model, ImageClassifier):
        notes = {"classes": json.dumps(model.classes)}
        return _images(model.encoder, _Scores(model), "scores", len(model.classes), model.scores, notes)
    if isinstance(model, TabularTransformer):
        return _rows(model)
    raise UsageError(
        f"A {type(model).__name__} cannot be written as ONNX. What can be is an encoder of images or of "
        "rows, or a classifier of images."
    )


def _images(
    encoder: ImageEncoder,
    module: nn.Module,
    output: str,
    width: int,
    truth: Callable[[torch.Tensor], torch.Tensor],
    notes: dict[str, str],
) -> Plan:
    channels, size = encoder.channels, encoder.size
    if not size:
        raise UsageError("This encoder was made for no images yet. Train it, or call made_for(images).")

    def draw(count: int) -> tuple[torch.Tensor, ...]:
        images = generator("onnx", count).integers(0, 256, (count, size, size, channels), dtype=np.uint8)
        return (torch.from_numpy(images),)

    return Plan(
        module,
        {"images": f"uint8 [N, {size}, {size}, {channels}]"},
        f"{output}: float32 [N, {width}]",
        draw,
        lambda images: truth(_pixels(images)),
        notes,
    )


def _rows(model: TabularTransformer) -> Plan:
    numeric, counts = model.columns.numeric_names, model.columns.cardinalities

    def draw(count: int) -> tuple[torch.Tensor, ...]:
        random = generator("onnx", count)
        numbers = random.standard_normal((count, len(numeric))).astype(np.float32)
        codes = random.integers(0, counts, (count, len(counts)), dtype=np.int64)
        return torch.from_numpy(numbers), torch.from_numpy(codes)

    return Plan(
        model,
        {"numbers": f"float32 [N, {len(numeric)}]", "codes": f"int64 [N, {len(counts)}]"},
        f"features: float32 [N, {model.width}]",
        draw,
        model,
        {"columns": json.dumps(model.columns.to_json())},
    )


def _pixels(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


class _Features(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder.features(_pixels(images))


class _Scores(nn.Module):
    """`ImageClassifier.scores` in the classifier's own mode, for any number of images in one piece."""

    def __init__(self, told: ImageClassifier) -> None:
        super().__init__()
        self.aggregates = told.mode == "aggregate"
        self.joint = JOINT in told.heads and told.mode != "distilled"
        self.transformed = told.transformed
        self.encoder, self.classes = told.encoder, len(told.classes)
        # By itself: the exporter takes the names of modules for Python, where "class" is none.
        self.head = told.heads[JOINT if self.joint else CLASS]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        copies = self.transformed if self.aggregates else SETS["identity"]
        pixels = _pixels(images)
        made = torch.stack([function(pixels) for function in copies.functions], 1).flatten(0, 1)
        outputs = self.head(self.encoder.features(made))
        if not self.joint:
            return outputs.view(-1, len(copies), self.classes).mean(1)
        read = aggregated_scores if self.aggregates else identity_scores
        return read(outputs, len(self.transformed))
