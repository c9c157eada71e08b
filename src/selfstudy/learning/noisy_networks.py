"""Networks that are trained on noisy labels: an image encoder, or a perceptron on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.two_views import two_views
from selfstudy.data.views import ImageViews
from selfstudy.learning.contrastive import nt_xent
from selfstudy.learning.pretraining import Losses, Pretraining, pretrain
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.heads import projector
from selfstudy.models.encoders.staged import StagedNetwork

PROJECTION = "projection"
WATCHED = 256  # images that collapse is looked for on
LEAST_DEVIATION = 1e-6  # of a feature


class Learner(NamedTuple):
    """What is trained, and the classifier that it is part of."""

    network: StagedNetwork
    classifier: ImageClassifier | FeatureClassifier


def projected(encoder: ImageEncoder, classes: tuple[str, ...], projection: int, key: int) -> ImageClassifier:
    """Return a copy of an encoder with a class head and a linear projection."""
    heads = {CLASS: len(classes), PROJECTION: projection}
    return ImageClassifier(encoder.copy(), classes, heads, key=key)


def simclr(
    run: Run,
    classifier: ImageClassifier,
    images: ImageSet,
    views: ImageViews,
    settings: Pretraining,
    temperature: float,
) -> None:
    """Train the encoder and the projection of a classifier in place, without labels (SimCLR).

    Args:
        run: within a stage of its own.
        classifier: of `projected`.
        images: all that it is trained on.
        views: makes both views.
        settings: how long and how; its batch at most as many as there are images.
        temperature: of NT-Xent.
    """
    encoder, head = classifier.encoder, classifier.heads[PROJECTION]
    both = two_views(images, views, views, run.key)
    watched = images.pixels(slice(WATCHED))

    def losses(step: int, at: np.ndarray) -> Losses:
        first, second = head(encoder(torch.cat(both(step, at)))).chunk(2)
        return {"loss": nt_xent(first, second, temperature)}

    pretrain(
        run,
        {"encoder": encoder, "projection": head},
        losses,
        samples=len(images),
        settings=settings,
        watched=lambda: encoder.embed_pixels(watched),
        flops=2 * TRAINED * forward_flops(encoder) * settings.batch,
        desc="simclr",
    )


def image_learner(start: ImageClassifier, stage: str, key: int | None = None) -> Learner:
    """Return a copy of a classifier with a projection, as what is trained.

    Args:
        start: of `projected`.
        stage: whose features are looked at; empty is the second.
        key: of the stream of a new class head; None keeps the one there is.
    """
    classifier = start.copy()
    if key is not None:
        fresh = projected(start.encoder, start.classes, 1, key)
        classifier.heads[CLASS] = fresh.heads[CLASS]
    encoder, heads = classifier.encoder, classifier.heads
    network = StagedNetwork(encoder, heads[CLASS], heads[PROJECTION], encoder.stages, stage)
    return Learner(network, classifier)


def without_projection(classifier: ImageClassifier) -> ImageClassifier:
    """Return the classifier with its class head alone."""
    bare = ImageClassifier(classifier.encoder, classifier.classes, {CLASS: len(classifier.classes)})
    bare.heads[CLASS] = classifier.heads[CLASS]
    return bare.eval()


def standardised(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return features [N, d] of mean 0 and deviation 1, and the mean and the deviation [d]."""
    mean, deviation = features.mean(0), features.std(0, correction=0)
    deviation = torch.where(deviation > LEAST_DEVIATION, deviation, 1.0)
    return (features - mean) / deviation, mean, deviation


def feature_learner(
    encoder: Any,
    classes: tuple[str, ...],
    moments: tuple[torch.Tensor, torch.Tensor],
    hidden: tuple[int, ...],
    projection: int,
    stage: str,
    key: Callable[..., int],
) -> Learner:
    """Return a perceptron on the features of a frozen encoder, as what is trained.

    The network takes standardised features, the classifier those of the encoder.

    Args:
        encoder: frozen.
        classes: names.
        moments: mean and deviation [d] of its features.
        hidden: widths of the hidden layers, one or more; they are the stages.
        projection: width of what is contrasted.
        stage: whose features are looked at; empty is the second, or the first where there is one.
        key: names the streams of the first weights.
    """
    head = MlpHead(width=encoder.width, hidden=list(hidden), classes=len(classes), key=key("perceptron"))
    head.mean, head.deviation = moments
    body, classifier = head.layers[:-1], head.layers[-1]
    stages = {
        f"stage{place}": part
        for place, part in enumerate((part for part in body.children() if isinstance(part, nn.ReLU)), 1)
    }
    contrasted = projector(hidden[-1], (projection,), key("projection"), normalised=False)
    network = StagedNetwork(body, classifier, contrasted, stages, stage)
    return Learner(network, FeatureClassifier(encoder, head, classes))
