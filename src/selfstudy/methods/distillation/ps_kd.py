"""PS-KD: hold a classifier to a growing mix of the label and what it said itself an epoch before.

Kim, Ji, Yoon, Hwang 2021, "Self-Knowledge Distillation with Progressive Refinement of Targets",
arXiv 2006.12000. Pick it where labels are imperfect, or where probabilities matter and not the class alone:
it costs no second network and no further pass. Label smoothing is as cheap and often tells as many classes
right, but takes from every class alike, so that its probabilities are worse. To weigh the labels by a closed
form rather than by a schedule, or where numbers are to be told, take guided-self-distillation.

Deviations from the paper: an epoch is a whole number of batches, the least that shows every image; passes
are shuffled one after the other, so that an image may come twice within an epoch. The usual settings are
those of `Supervised`: 1,000 steps, a rate of 0.05 that a cosine takes down, and a weight decay of 1e-4, where
the paper has 300 epochs, 0.1 with two drops (`training.schedule` "steps") and 5e-4. With CutMix or mixup,
where the paper leaves it open, what is said of a mixture is remembered for the image with the larger part.
The last weights are kept, not the best on test images. Images only: not per token, not for detection.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.mixed_images import MIXES, Mix, Mixed
from selfstudy.evaluation.calibration import (
    calibration_metrics,
    reliability_picture,
    risk_coverage_picture,
)
from selfstudy.evaluation.logged_pictures import logged_picture
from selfstudy.learning.distillation import soft_cross_entropy
from selfstudy.learning.loops import check_positive
from selfstudy.learning.refined_targets import PSKDTargets, Shape, alpha_at, hard_targets, refined
from selfstudy.learning.supervised import (
    ImageLosses,
    Losses,
    Seen,
    Supervised,
    held_apart,
    new_classifier,
    require_labels,
    share_right,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import TRAINED
from selfstudy.signals.prediction_memory import Precision
from selfstudy.signals.teachers import past_self
from selfstudy.tasks.images import ImageTask

STAGE = "classifier"
LARGE = 4 * 2**30  # bytes of a memory that are worth a warning


@dataclass(frozen=True, kw_only=True)
class PsKd(Method):
    """Train a classifier on its own refined targets (Kim et al. 2021)."""

    works_on = (ImageTask, ImageEncoder)

    alpha: float = 0.8
    """alpha_T, weight of the predictions in the last epoch; 0 is plain training."""
    shape: Shape = "linear"
    """How alpha gets there: "linear", from alpha_T / T in the first of T epochs, or "constant"."""
    storage: Literal["dense", "topk", "network"] = "dense"
    """What predictions come from: a memory of all probabilities or of the largest, or the network of the
    epoch before, asked anew in evaluation mode, which is a third slower and needs no memory."""
    top: int = 10
    """Probabilities that "topk" keeps of each image."""
    precision: Precision = "float32"
    """Of the memory; "float16" halves it."""
    smoothing: float = 0.0
    """Share of each label that is spread over all classes; with an alpha of 0 this is label smoothing."""
    mix: Mix = "none"
    """Whether images and their targets are mixed in pairs, by "mixup" or "cutmix"."""
    training: Supervised = field(default_factory=Supervised)
    """Steps, batches and optimiser."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, top=0)
        if not (0 <= self.alpha <= 1 and 0 <= self.smoothing < 1):
            raise UsageError(
                f"PsKd has alpha {self.alpha} and smoothing {self.smoothing}: the first must be from 0 to 1, "
                "the second from 0 to below 1."
            )
        self.training.validate()

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        require_labels(task.labelled)
        step = step_cost(model, self.training.batch_of(task.labelled))
        return {"samples": self.training.steps * step["samples"], "flops": self._passes(task) * step["flops"]}

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step of the first epoch on a copy, and how many of them cost as much as a fit."""
        require_labels(task.labelled)
        classifier = new_classifier(model, task.labelled)
        losses, _ = self._losses(classifier, task, rng=None)
        return trial_step(classifier, losses, task.labelled, self.training), round(self._passes(task))

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Train a copy of `model`, and a head, on the labelled images of `task`."""
        require_labels(task.labelled)
        classifier = run.stage(STAGE, lambda: self.trained(task, model, run))
        metrics: dict[str, Any] = {}
        names = {"alpha": "weight of the predictions", "label": "what is left of the label"}
        pictures = [
            logged_picture(
                run.metrics(),
                STAGE,
                names,
                "How targets are refined",
                note="alpha, and the probability that a target gives to the label, means over a batch. Where "
                "the model agrees with the labels, targets stay near 1.",
                shares=True,
            )
        ]
        if len(task.validation):
            ways = {"trained": task.judged(classifier, split="validation")}
            metrics |= calibration_metrics(ways, "validation")
            pictures += [reliability_picture(ways), risk_coverage_picture(ways)]
        metrics["labels_doubted"] = 1 - share_right(classifier, task.labelled)
        return Fit(model=classifier, metrics=metrics, pictures=pictures)

    def trained(self, task: ImageTask, model: ImageEncoder, run: Run) -> ImageClassifier:
        """Return the trained classifier; within a stage."""
        classifier = new_classifier(model, task.labelled, run.key("heads"))
        losses, state = self._losses(classifier, task, rng=run.rng)
        epoch = self._epochs(task)[0]
        supervise(
            run,
            classifier,
            losses,
            task.labelled,
            self.training,
            copies=lambda step: self._copies(step, epoch),
            state=state,
        )
        return classifier

    def _losses(
        self, classifier: ImageClassifier, task: ImageTask, rng: Callable[..., Any] | None
    ) -> tuple[ImageLosses, dict[str, Stateful]]:
        """Return the losses of a step, and what they remember; `rng` gives the streams that mix images."""
        length, epochs = self._epochs(task)
        source = self._source(classifier, task.labelled, length, epochs)

        def losses(seen: Seen) -> Losses:
            epoch = seen.step // length
            wanted = source.targets(seen, epoch)  # [B, C]
            mixed = Mixed(seen.images, torch.arange(len(seen.labels)), 1.0)
            if rng is not None and self.mix != "none":
                mixed = MIXES[self.mix](seen.images, rng("mix", seen.step))
            scores = classifier(mixed.images)  # [B, C]
            source.remember(mixed.larger(seen.places), scores.detach().softmax(1))
            return {
                "loss": soft_cross_entropy(scores, mixed.of(wanted)).mean(),
                "alpha": torch.tensor(alpha_at(epoch, epochs, self.alpha, self.shape)),
                "label": wanted.gather(1, seen.labels[:, None]).mean(),
                "right": (scores.detach().argmax(1) == seen.labels).float().mean(),
            }

        return losses, source.state

    def _source(self, classifier: ImageClassifier, labelled: ImageSet, length: int, epochs: int) -> _Source:
        """Return the network of before or the memory, for epochs of `length` steps."""
        classes = len(classifier.classes)
        if self.storage == "network":
            past = past_self(classifier, every=length)

            def asked(seen: Seen, epoch: int) -> torch.Tensor:
                past.before(seen.step)
                hard = hard_targets(seen.labels, classes, self.smoothing)
                if not epoch:
                    return hard
                said = past.scores(seen.images, seen.places).softmax(1)
                return refined(hard, said, alpha_at(epoch, epochs, self.alpha, self.shape))

            return _Source(asked, lambda places, said: None, {"past": past})
        targets = PSKDTargets(
            len(labelled),
            classes,
            self.alpha,
            epochs,
            self.storage,
            shape=self.shape,
            top=self.top,
            precision=self.precision,
            smoothing=self.smoothing,
        )
        _warn_of_size(targets)
        return _Source(
            lambda seen, epoch: targets.targets(seen.places, seen.labels, epoch),
            targets.update,
            {"targets": targets},
        )

    def _epochs(self, task: ImageTask) -> tuple[int, int]:
        """Return the steps of an epoch, in which every image is seen, and the number of epochs."""
        images = len(held_apart(task.labelled, self.training.held_out)[0])
        length = math.ceil(images / min(self.training.batch, images))
        return length, math.ceil(self.training.steps / length)

    def _copies(self, step: int, length: int) -> float:
        """Return the passes of a step in units of a trained one: asking the network of before is a third."""
        return 1 + (self.storage == "network" and step >= length) / TRAINED

    def _passes(self, task: ImageTask) -> float:
        """Return the passes of all steps, in the same units."""
        length = self._epochs(task)[0]
        return sum(self._copies(step, length) for step in range(self.training.steps))


class _Source(NamedTuple):
    """Where the predictions of an epoch before come from.

    Attributes:
        targets: of what a step is taken on and its epoch, [B, C].
        remember: takes what was just said, [B, C], of the images at places [B].
        state: what is checkpointed.
    """

    targets: Callable[[Seen, int], torch.Tensor]
    remember: Callable[[np.ndarray, torch.Tensor], None]
    state: dict[str, Stateful]


def _warn_of_size(targets: PSKDTargets) -> None:
    memory = targets.memory
    taken = sum(part.numel() * part.element_size() for part in (memory.values, memory.at))
    if taken > LARGE:
        warnings.warn(
            f"The memory of predictions takes {taken / 2**30:.1f} GiB. --storage topk keeps the largest "
            "probabilities, --precision float16 halves it, --storage network does without.",
            stacklevel=2,
        )
