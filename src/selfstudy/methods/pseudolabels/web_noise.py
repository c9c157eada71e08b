"""LSA with PLS: train on labels of which many are wrong, and say which.

Albert, Valmadre, Arazo, Krishna, O'Connor, McGuinness 2024, "An Accurate Detection Is Not All You Need to
Combat Label Noise in Web-Noisy Datasets", arXiv 2407.05528; guesses and their weights are PLS, Albert et
al. 2023, arXiv 2210.04578. Pick it where labels come from search engines, keywords or hurried people:
some are of another class, and some items are of no class at all. Plain training with mixup bears much
noise too, but names no suspects; `selfstudy.signals.confident_labels` names suspects for any classifier,
and corrects nothing. With few labels that are right take hast or pseudo-label-pretraining.

Deviations from the paper: small networks, and a start by SimCLR on the same images for a few epochs;
losses are capped at a quantile, and of a narrow and a wide Gaussian each has all that lies beyond its
mean; the hyperplane is penalised by 1e-6; a class that is wrong as a whole keeps its items of least loss;
labels are guessed from the last epoch of the warm-up on, so that they can be weighed after it; of two
networks, which have one start, each guesses with the other in evaluation mode; biases and normalisation
are not decayed; an epoch's last batch is filled up; accuracy is that of the last epoch. Texts and
vectors: the network is a perceptron on frozen features, whose views are noise and dropped features,
without a start by SimCLR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.items import shown
from selfstudy.data.label_table import GIVEN, PREDICTED, PSEUDO, LabelTable
from selfstudy.data.sample_table import SampleTable
from selfstudy.data.viewed import Viewed
from selfstudy.data.views import ImageViews, VectorViews
from selfstudy.evaluation.noise_pictures import loss_histogram, progress, suspect_images, suspect_items
from selfstudy.learning.loops import check_positive
from selfstudy.learning.noisy_labels import epoch_batch, train_on_noisy_labels, update
from selfstudy.learning.noisy_networks import (
    Learner,
    feature_learner,
    image_learner,
    projected,
    simclr,
    standardised,
    without_projection,
)
from selfstudy.learning.noisy_step import NoisyStep, NoisyTraining
from selfstudy.learning.parts import Parts
from selfstudy.learning.pretraining import Pretraining
from selfstudy.learning.sample_memory import DetectionRule, SampleMemory
from selfstudy.learning.supervised import shift_and_flip
from selfstudy.models.encoders.averaged import AveragedClassifier, probabilities_of
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.tasks.noisy_pools import require_noisy
from selfstudy.tasks.pools import PoolTask


@dataclass(frozen=True, kw_only=True)
class WebNoise(Method):
    """Train a classifier on noisy labels, and list the labels that are suspect (Albert et al. 2024)."""

    works_on = (PoolTask, (ImageEncoder, FlatEncoder, TextEncoder))

    detection: DetectionRule = field(default_factory=DetectionRule)
    """Which labels are taken to be wrong; without detectors it is training with mixup."""
    co_train: bool = False
    """Whether two networks teach each other (LSA+), which takes twice as long."""
    simclr: bool = True
    """Whether an image encoder is first trained on the same images without labels."""
    start: Pretraining = field(default_factory=lambda: Pretraining(epochs=5, batch=128))
    """How, with the `strong` views and the temperature of `training`."""
    training: NoisyTraining = field(default_factory=NoisyTraining)
    """Epochs, batches, optimiser and loss."""
    stage: str = ""
    """Whose features the hyperplane separates: stage1, stage2, ...; empty is the second, or the last."""
    projection: int = 128
    """Width of what is contrasted."""
    hidden: tuple[int, ...] = (256,)
    """Of the perceptron on frozen features: widths of its hidden layers."""
    weak: ImageViews = field(default_factory=shift_and_flip)
    """Views of images with trusted labels, and those that labels are guessed of."""
    strong: ImageViews = field(default_factory=ImageViews)
    """Views that are contrasted."""
    hard: ImageViews = field(
        default_factory=lambda: ImageViews(
            crop=(1.0, 1.0), shift=0.07, contrast=0.0, saturation=0.0, hue=0.0, grey=0.0
        )
    )
    """Views of images with guessed labels."""
    weak_features: VectorViews = field(default_factory=lambda: VectorViews(noise=0.1, dropout=0.1))
    """In place of `weak` for frozen features, in units of their deviation."""
    strong_features: VectorViews = field(default_factory=lambda: VectorViews(noise=0.3, dropout=0.3))
    """In place of `strong` and `hard`."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, projection=0)
        if not self.hidden or min(self.hidden) < 1:
            raise UsageError(f"hidden is {self.hidden}: give one or more widths of at least 1.")
        for settings in (self.detection, self.start, self.training, self.weak, self.strong, self.hard):
            settings.validate()
        self.weak_features.validate()
        self.strong_features.validate()

    def cost(self, task: PoolTask, model: Any) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        require_noisy(task)
        count = len(task.labelled)
        steps = self.training.epochs * self._networks * self.training.steps_an_epoch(count)
        amounts = {
            "samples": steps * self.training.batch_of(count),
            "flops": steps * self._step_flops(model, count),
        }
        if self.simclr and isinstance(model, ImageEncoder):
            start = self._start(len(task.pool))
            images = start.steps(len(task.pool)) * start.batch
            amounts["samples"] += images
            amounts["flops"] += 2 * TRAINED * forward_flops(model) * images
        return amounts

    def trial(self, task: PoolTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes, the start by SimCLR left out."""
        require_noisy(task)
        given, count = task.given[task.labelled], len(task.labelled)
        inputs, learners = self._learners(task, model, stream_key)
        networks = [learner.network for learner in learners]
        memory = SampleMemory(given, len(task.classes), len(networks))
        learner = NoisyStep(networks, 0, inputs, memory, self.training, stream_key)
        optimizer = self.training.optimizer_of(networks[0])
        at = epoch_batch(stream_key, 0, 0, count, self.training.batch_of(count))

        def step() -> object:
            loss = learner.loss(0, at, warm=False, guessing=bool(self.detection.detectors))
            loss.backward()
            update(optimizer, 0.0)
            return loss

        return step, self.training.epochs * len(networks) * self.training.steps_an_epoch(count)

    def fit(self, task: PoolTask, model: Any, run: Run) -> Fit:
        """Train on the given labels of `task`, and judge each of them."""
        require_noisy(task)
        if isinstance(model, ImageEncoder):
            model = run.stage("start", lambda: self.started(task, model, run))
        found = run.stage("classifier", lambda: self.trained(task, model, run))
        classifier = found.parts["classifier"]
        table = found.parts.get("samples")
        labels = label_table(task, classifier, table)
        pictures = progress(run.metrics(), len(task.labelled))
        if table is None:
            return Fit(model=classifier, parts={"labels": labels}, pictures=pictures)
        items = task.pool.only(task.labelled)
        pictures += [
            loss_histogram(table.loss),
            suspect_items(table, [shown(items, place) for place in range(len(items))]),
            *([suspect_images(table, items)] if isinstance(items, ImageSet) else []),
        ]
        metrics = {
            "given_labels": len(table),
            "suspect_labels": int(table.noisy.sum()),
            "mean_weight_of_guesses": float(table.weight[table.noisy].mean()) if table.noisy.any() else 1.0,
        }
        return Fit(
            model=classifier, parts={"labels": labels, "samples": table}, metrics=metrics, pictures=pictures
        )

    def trained(self, task: PoolTask, start: Any, run: Run) -> Parts:
        """Return the "classifier" and, where labels were judged, the table of "samples"; within a stage.

        Args:
            task: whose given labels are trained on.
            start: an encoder, or an image classifier of the stage before.
            run: within the stage.
        """
        at, given = task.labelled, task.given[task.labelled]
        names = [task.ids[place] for place in at]
        inputs, learners = self._learners(task, start, run.key)
        classifier = _together([learner.classifier for learner in learners])

        def validate() -> dict[str, float]:
            if not len(task.validation):
                return {}
            return {
                "validation_accuracy": float(np.mean(task.evaluate(classifier, split="validation").values))
            }

        memory = train_on_noisy_labels(
            run,
            [learner.network for learner in learners],
            inputs,
            given,
            names,
            self.training,
            self.detection,
            validate=validate,
            flops=self._step_flops(getattr(start, "encoder", start), len(at)),
        )
        parts = {"classifier": _together([_bare(learner.classifier) for learner in learners])}
        if self.detection.detectors:
            parts["samples"] = memory.table(names, task.classes, self.detection)
        return Parts(parts)

    @property
    def _networks(self) -> int:
        return 2 if self.co_train else 1

    def _start(self, count: int) -> Pretraining:
        return replace(self.start, batch=min(self.start.batch, count))

    def started(self, task: PoolTask, model: ImageEncoder, run: Run) -> ImageClassifier:
        """Return the encoder with its heads, trained without labels where `simclr` says so."""
        classifier = projected(model, task.classes, self.projection, run.key("heads"))
        if self.simclr:
            start = self._start(len(task.pool))
            simclr(run, classifier, task.pool, self.strong, start, self.training.temperature)  # type: ignore[arg-type]
        return classifier

    def _learners(self, task: PoolTask, start: Any, key: Callable[..., int]) -> tuple[Viewed, list[Learner]]:
        """Return the inputs with given labels, and the networks that are trained on them."""
        items = task.pool.only(task.labelled)
        if isinstance(start, ImageEncoder):
            start = projected(start, task.classes, self.projection, key("heads"))
        if isinstance(start, ImageClassifier):
            views = Viewed(len(items), items.pixels, self.weak, self.strong, self.hard)  # type: ignore[union-attr]
            heads = [None, *(key("heads", place) for place in range(1, self._networks))]
            return views, [image_learner(start, self.stage, head) for head in heads]
        features, *moments = standardised(task.features(start)[task.labelled])
        views = Viewed(
            len(items),
            lambda at: features[at],
            self.weak_features,
            self.strong_features,
            self.strong_features,
        )
        return views, [
            feature_learner(
                start,
                task.classes,
                (moments[0], moments[1]),
                self.hidden,
                self.projection,
                self.stage,
                lambda *parts, place=place: key(*parts, place),
            )
            for place in range(self._networks)
        ]

    def _step_flops(self, encoder: Any, count: int) -> float:
        """Return the operations of a step: mixed and contrasted views, guesses, and its share of the look."""
        if not isinstance(encoder, ImageEncoder):
            return 0.0
        passes = TRAINED * (1 + (self.training.second_view != "none"))
        passes += (self._networks + 1) * bool(self.detection.detectors)
        return passes * forward_flops(encoder) * self.training.batch_of(count)


def label_table(task: PoolTask, classifier: Any, table: SampleTable | None) -> LabelTable:
    """Return the label of every item: given and trusted, or the classifier's own."""
    given, noisy, suspect = task.given, np.zeros(len(task.given), dtype=bool), None
    if table is not None:
        noisy[task.labelled] = table.noisy
        suspect = np.zeros(len(given))
        suspect[task.labelled] = table.suspect
    probabilities, known = probabilities_of(classifier, task.pool).numpy(), given != UNKNOWN
    labels = np.where(known & ~noisy, given, probabilities.argmax(1))
    return task.label_table(
        labels,
        probabilities[np.arange(len(labels)), labels].astype(float),
        np.where(known, np.where(noisy, PSEUDO, GIVEN), PREDICTED).tolist(),
        suspect=suspect,
    )


def _bare(classifier: Any) -> Any:
    return without_projection(classifier) if isinstance(classifier, ImageClassifier) else classifier.eval()


def _together(classifiers: list[Any]) -> Any:
    return classifiers[0] if len(classifiers) == 1 else AveragedClassifier(classifiers)
