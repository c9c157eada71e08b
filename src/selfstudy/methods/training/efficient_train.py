"""EfficientTrain: show every image in every pass, but its low frequencies and weak augmentation first.

Wang, Yue, Lu, Liu, Zhong, Song, Huang 2023, "EfficientTrain: Exploring Generalized Curriculum Learning for
Training Visual Backbones", arXiv 2211.09703; stages of equal cost are those of EfficientTrain++
(arXiv 2405.08768). Pick it to train an image network to the same accuracy in less time: against fewer passes
over whole images, which cost as little, it keeps what the late stages need; against dropping easy samples it
needs no scores. Time falls as far as it is spent in the network: with a slow loader, or with images so small
that a step is mostly overhead, measure before you expect anything.

Deviations from the paper: the crop comes before the normalisation, which is the same because it keeps
constants; shears and turns of RandAugment are about the middle and its resampling is bilinear; the rate falls
to 0, not to 1e-6; the running mean is of weights, while statistics of batch normalisation are the last ones;
CutMix, drop path and batches of another size for each stage are left out, and so is the replay buffer of
EfficientTrain++, as images are in memory; supervised training only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.low_frequency import area_crop, low_freq_crop
from selfstudy.data.rand_augment import RandAugment
from selfstudy.evaluation.curriculum_pictures import seen_picture, stages_picture
from selfstudy.learning.curriculum import (
    MAGNITUDES,
    CurriculumSchedule,
    Stage,
    checked_bands,
    curriculum,
    usual_bands,
)
from selfstudy.learning.mixing import mix_batch
from selfstudy.learning.supervised import (
    ImageLosses,
    Losses,
    Seen,
    Supervised,
    Views,
    new_classifier,
    require_labels,
    share_right,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import shares_of_whole
from selfstudy.search.bands import FoundBands, greedy_search
from selfstudy.signals.teachers import FollowingTeacher
from selfstudy.tasks.images import ImageTask

CROPS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "frequency": low_freq_crop,
    "area": area_crop,
}
STEADY = ("augmentation", "none")  # curricula whose bands are the same in all stages
CANDIDATES = (96, 128, 160, 192, 224)  # of 224
ASKED, SHOWN = 2000, 8  # labelled images whose class is asked in the end, and that the report shows


def usual_training() -> Supervised:
    """Return the paper's training with a smaller batch and rate."""
    return Supervised(
        batch=128, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, warmup=0.067, clip=1.0
    )


@dataclass(frozen=True, kw_only=True)
class EfficientTrain(Method):
    """Train a classifier of images from low frequencies and weak augmentation to all (Wang et al. 2023)."""

    works_on = (ImageTask, ImageEncoder)

    bands: tuple[int, ...] | None = None
    """B of each stage, the side of what the network sees; None is 160,160,160,192,224 of 224 in proportion,
    not below 16, or 20,20,20,26,32 of 32, or 16,16,20,24,28 of 28."""
    magnitudes: tuple[float, ...] = MAGNITUDES
    """m of RandAugment in each stage, 0 to 10."""
    curriculum: Literal["both", "bands", "augmentation", "none"] = "both"
    """What changes from stage to stage; the other is as in the last stage throughout. With "none" both are:
    plain training, which this method is compared with."""
    equal: Literal["steps", "cost"] = "steps"
    """Stages have as many steps each, or cost as much each (EfficientTrain++)."""
    crop: Literal["frequency", "area"] = "frequency"
    """How images are made smaller; "area" is plain down-sampling, to compare with."""
    augmentation: RandAugment = field(default_factory=RandAugment)
    """What is done to images at a magnitude."""
    smoothing: float = 0.1
    """Share of each label that is spread over all classes."""
    mixup: float = 0.0
    """alpha of the Beta distribution that the share of a mixed image is drawn from; 0 mixes none."""
    average: float = 0.0
    """Share that a running mean of the weights keeps at each step, such as 0.999; 0 is the last weights."""
    search_steps: int = 0
    """Find the bands first, by a greedy search over trainings of so many steps; 0 does not search."""
    search_candidates: tuple[int, ...] = ()
    """Bands that the search tries; none are those of 96,128,160,192,224 of 224 in proportion."""
    training: Supervised = field(default_factory=usual_training)
    """Steps, batches, optimiser and schedule; the curriculum leaves them as they are."""

    def validate(self) -> None:
        """Check the fields against each other."""
        if self.search_steps and (self.bands is not None or self.curriculum in STEADY):
            raise UsageError(
                f"Bands are to be searched for with bands {self.bands} and curriculum {self.curriculum!r}: "
                "leave out --search-steps, or give no bands and a curriculum of them."
            )
        free = self.search_steps or self.curriculum in STEADY  # without bands: a stage for each magnitude
        stages = len(self.magnitudes if free else MAGNITUDES)
        curriculum(self.bands or (1,) * stages, self.magnitudes)
        if not (0 <= self.smoothing < 1 and 0 <= self.average < 1 and 0 <= self.mixup < float("inf")):
            raise UsageError(
                f"smoothing {self.smoothing}, average {self.average} and mixup {self.mixup} must be at least "
                "0, and the first two below 1."
            )
        if self.search_steps < 0 or (self.average and self.training.held_out):
            raise UsageError(
                f"search-steps is {self.search_steps} and average {self.average}: search-steps must be at "
                "least 0, and a mean of all weights leaves none for training.held-out to choose."
            )
        self.augmentation.validate()
        self.training.validate()

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit; with a search at most, where nothing smaller will do."""
        require_labels(task.labelled)
        if not self.search_steps:
            return self._spends(task, model, self.schedule(model), self.training.steps)
        whole = self._schedule((model.size,) * len(self.magnitudes))
        trainings = 1 + len(self.magnitudes) * (len(self._candidates(model)) - 1)
        return self._spends(task, model, whole, self.training.steps + trainings * self.search_steps)

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on whole images, and how many of them cost as much as a fit."""
        whole = self._schedule((model.size,) * len(self.magnitudes))
        one = self._spends(task, model, whole, 1)["flops"]
        count = max(1, round(self.cost(task, model)["flops"] / one))
        return self.stage_step(task, model, whole(1.0)), count

    def stage_step(self, task: ImageTask, model: ImageEncoder, stage: Stage) -> Callable[[], object]:
        """Return one step of a stage that can be timed, on a copy."""
        classifier = self.classifier_of(task, model, key=0)
        losses, views = self.losses_of(classifier, 0), self.views(stage)
        return trial_step(classifier, losses, task.labelled, self.training, views)

    def schedule(self, model: ImageEncoder) -> CurriculumSchedule:
        """Return the curriculum of `bands`, or of the usual ones, for a model made for the images."""
        return self._schedule(self._bands(model))

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Train a copy of `model`, and a head, on the labelled images of `task`."""
        require_labels(task.labelled)
        metrics: dict[str, Any] = {}
        if self.search_steps:
            bands, tried = self.found_bands(task, model, run)
            metrics["tried"] = {"-".join(map(str, each)): accuracy for each, accuracy in tried}
        else:
            bands = self._bands(model)
        schedule = self._schedule(bands)
        classifier = run.stage("classifier", lambda: self.trained(task, model, run, schedule))
        known = task.labelled.only(slice(ASKED))
        metrics["bands"] = "-".join(map(str, schedule.bands))
        metrics["cost_by_pixels"] = schedule.cost(model.size)
        metrics["labelled_images_right"] = share_right(classifier, known)
        if len(task.validation):
            measured = task.evaluate(classifier, split="validation")
            metrics["validation"] = task.metric.row(measured.values)
        pictures = [
            stages_picture(schedule, model.size, self.training.steps),
            seen_picture(schedule, known.pixels(slice(SHOWN)), CROPS[self.crop]),
        ]
        return Fit(model=classifier, metrics=metrics, pictures=pictures)

    def found_bands(self, task: ImageTask, model: ImageEncoder, run: Run) -> FoundBands:
        """Return the bands that a greedy search finds on validation images; a training is a stage each."""
        if not len(task.validation):
            raise DataError(
                f"A search for bands is judged on validation images, and {task.name!r} has none. Hold "
                "some out, or leave out --search-steps."
            )
        short = replace(self, training=replace(self.training, steps=self.search_steps))

        def accuracy(bands: tuple[int, ...]) -> float:
            def reached() -> float:
                classifier = short.trained(task, model, run, self._schedule(bands))
                return float(np.mean(task.evaluate(classifier, split="validation").values))

            return run.stage("bands " + "-".join(map(str, bands)), reached)

        return greedy_search(accuracy, self._candidates(model), len(self.magnitudes))

    def trained(
        self, task: ImageTask, model: ImageEncoder, run: Run, schedule: CurriculumSchedule
    ) -> ImageClassifier:
        """Return the classifier after a training by the schedule; within a stage."""
        steps = self.training.steps
        classifier = self.classifier_of(task, model, run.key("heads"))
        plain = self.losses_of(classifier, run.key("mixup"))
        mean = FollowingTeacher(classifier, self.average) if self.average else None
        shares = shares_of_whole(model, schedule.bands)

        def losses(seen: Seen) -> Losses:
            if mean:
                mean.before(seen.step)
            return plain(seen)

        supervise(
            run,
            classifier,
            losses,
            task.labelled,
            self.training,
            copies=lambda step: shares[schedule(step / steps).band],  # of the cost of a whole image
            views=lambda step: self.views(schedule(step / steps)),
            state={"mean": mean} if mean else None,
        )
        if mean:
            mean.before(steps)
            classifier.load_state_dict(mean.state_dict())
        return classifier

    def losses_of(self, classifier: ImageClassifier, key: int) -> ImageLosses:
        """Return the loss of a classifier; `key` names the stream that mixes images."""
        classes = len(classifier.classes)

        def losses(seen: Seen) -> Losses:
            hard = functional.one_hot(seen.labels, classes).to(seen.images)
            images, targets = seen.images, (1 - self.smoothing) * hard + self.smoothing / classes
            if self.mixup:
                rng = generator(key, seen.step)
                share, order = rng.beta(self.mixup, self.mixup), torch.from_numpy(rng.permutation(len(hard)))
                images, targets = (mix_batch(each, each, share, order) for each in (images, targets))
            scores = classifier(images)
            right = (scores.detach().argmax(1) == seen.labels).float().mean()
            return {"loss": functional.cross_entropy(scores, targets), "right": right}

        return losses

    def views(self, stage: Stage) -> Views:
        """Return what makes the views of a stage: random, then augmented, then cropped in frequency."""

        def made(images: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
            changed = self.augmentation(self.training.views(images, keys), keys, stage.magnitude)
            return CROPS[self.crop](changed, stage.band)

        return made

    def classifier_of(self, task: ImageTask, model: ImageEncoder, key: int) -> ImageClassifier:
        """Return a copy of the encoder with a new head, whose first weights `key` names."""
        return new_classifier(model, task.labelled, key)

    def _schedule(self, bands: tuple[int, ...]) -> CurriculumSchedule:
        stages, magnitudes = len(self.magnitudes), self.magnitudes
        if self.curriculum in STEADY:
            bands = bands[-1:] * stages
        if self.curriculum in ("bands", "none"):
            magnitudes = magnitudes[-1:] * stages
        return curriculum(bands, magnitudes, self.equal)

    def _bands(self, model: ImageEncoder) -> tuple[int, ...]:
        """Return the bands given, or the usual ones; all of the side where they are not to change."""
        if self.curriculum in STEADY and self.bands is None:
            return (model.size,) * len(self.magnitudes)
        bands = self.bands or usual_bands(model.size, model.grain)
        if self.bands is None and min(bands) == model.size:
            warnings.warn(
                f"Images of {model.size} pixels are small, and seen whole in all stages: smaller ones take "
                "hardly less time. --bands shows them smaller, --curriculum augmentation keeps them so.",
                stacklevel=2,
            )
        return checked_bands(bands, model.size, model.grain, model.kind)

    def _candidates(self, model: ImageEncoder) -> tuple[int, ...]:
        bands = self.search_candidates or usual_bands(model.size, model.grain, CANDIDATES)
        return checked_bands(sorted({*bands, model.size}), model.size, model.grain, model.kind)

    def _spends(
        self, task: ImageTask, model: ImageEncoder, schedule: CurriculumSchedule, steps: int
    ) -> dict[str, float]:
        one = step_cost(model, self.training.batch_of(task.labelled))
        shares = shares_of_whole(model, schedule.bands)
        times = sum(shares[schedule(step / steps).band] for step in range(steps))
        return {"samples": steps * one["samples"], "flops": times * one["flops"]}
