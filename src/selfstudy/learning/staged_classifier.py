"""Classifiers trained in stages: each has its data, its loss, its learning rate, and where it starts from.

A method that teaches a network several times over is a few calls of `trained`: the start of one stage is what
an earlier one gave. A stage is done once; a resumed run reads it back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.learning.network_inputs import AT_ONCE, FixedFeatures, Inputs, inputs_of
from selfstudy.learning.stages import Stage, train_stage
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.flat import FlatEncoder


@dataclass(frozen=True)
class StagedClassifier:
    """Trains classifiers of the same items, stage by stage.

    Attributes:
        run: in which each stage is done once.
        inputs: the items as the encoder reads them.
        whole: whether the encoder is trained; else the head alone, and only that is kept of a stage.
    """

    run: Run
    inputs: Inputs
    whole: bool

    def trained(
        self,
        stage: Stage,
        start: FeatureClassifier,
        *,
        held: tuple[np.ndarray, np.ndarray] | None = None,
        beside: Callable[[Any, int, np.ndarray], torch.Tensor] | None = None,
    ) -> FeatureClassifier:
        """Return what `stage` makes of a copy of `start`.

        Args:
            stage: what is trained on, and how.
            start: whose weights, those of the head too, it starts from; it stays as it is.
            held: places and labels of items that tell when to stop; None trains to the end.
            beside: of the classifier, a step and the places of its items, a loss that is added.
        """

        def work() -> Any:
            found = start.copy() if self.whole else _with_head(start, start.head)
            network = found if self.whole else found.head

            def right() -> float:
                assert held is not None
                told = self.probabilities(found, held[0]).argmax(1).numpy()
                return float((told == held[1]).mean())

            train_stage(
                self.run,
                network,
                lambda at: found.head(self.inputs.features(found.encoder, at, stage.hidden)),
                stage,
                quality=right if held is not None else None,
                beside=(lambda step, at: beside(found, step, at)) if beside else None,
            )
            return network

        network = self.run.stage(stage.name, work)
        return network if self.whole else _with_head(start, network)

    def probabilities(self, classifier: FeatureClassifier, places: np.ndarray) -> torch.Tensor:
        """Return the probability of each class [n, C] of the items at `places`, in evaluation mode."""
        training = classifier.training
        classifier.eval()
        with torch.no_grad():
            parts = np.array_split(places, max(1, -(-len(places) // AT_ONCE)))
            found = [
                classifier.head(self.inputs.features(classifier.encoder, at)).softmax(1)
                for at in parts
                if len(at)
            ]
        classifier.train(training)
        return torch.cat(found) if found else torch.zeros(0, len(classifier.classes))


def staged_classifier(
    run: Run, start: FeatureClassifier, items: ImageSet | Texts | Vectors, *, whole: bool
) -> StagedClassifier:
    """Return what trains classifiers of `items` from `start`.

    Where the encoder stays, the head of `start` is told mean and deviation of its features, except for pixels
    as they are, which have one scale.

    Args:
        run: in which each stage is done once.
        start: with a `MlpHead`.
        items: N of them.
        whole: whether the encoder is trained.
    """
    inputs = inputs_of(start.encoder, items, whole=whole)
    pixels = isinstance(start.encoder, FlatEncoder) and isinstance(items, ImageSet)
    if isinstance(inputs, FixedFeatures) and not pixels:
        deviation = inputs.values.std(0, correction=0)
        start.head.mean = inputs.values.mean(0)
        start.head.deviation = torch.where(deviation > 0, deviation, 1.0)
    return StagedClassifier(run, inputs, whole)


def _with_head(classifier: FeatureClassifier, head: Any) -> FeatureClassifier:
    """Return a classifier with a copy of `head` on the same, frozen, encoder."""
    return FeatureClassifier(classifier.encoder, copy.deepcopy(head), classifier.classes).eval()


def one_hot(labels: np.ndarray, classes: int) -> torch.Tensor:
    """Return labels [n] as probabilities [n, C]."""
    return functional.one_hot(torch.from_numpy(np.asarray(labels, dtype=np.int64)), classes).float()
