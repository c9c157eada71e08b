"""Fine-tuning an encoder of images or of texts with a new linear head on labelled items."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts
from selfstudy.learning.staged_classifier import one_hot, staged_classifier
from selfstudy.learning.stages import Stage, StageTraining
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead

STAGE = "classifier"


def tuned_classifier(
    run: Run, encoder: Any, labelled: ImageSet | Texts, images: Supervised, texts: StageTraining
) -> Any:
    """Return a classifier of `labelled`: a copy of `encoder`, and a head; a stage of the run.

    Args:
        run: not within the stage.
        encoder: made for the items.
        labelled: all of it is trained on.
        images: how, where the items are images.
        texts: how, where they are texts.
    """
    if isinstance(labelled, ImageSet):
        return run.stage(STAGE, lambda: train_classifier(run, encoder, labelled, images))
    classes = labelled.classes
    head = MlpHead(width=encoder.width, hidden=[], classes=len(classes), dropout=0.1, key=run.key("head"))
    start = FeatureClassifier(encoder.copy(), head, classes).eval()
    stage = Stage(STAGE, "tuning", np.arange(len(labelled)), one_hot(labelled.labels, len(classes)), texts)
    return staged_classifier(run, start, labelled, whole=True).trained(stage, start)
