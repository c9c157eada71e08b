"""SLA: tell class and transformation of an image by one joint label, and average over its copies.

Lee, Hwang, Shin 2020, "Self-supervised Label Augmentation via Input Transformations", arXiv 1910.05872. Pick
it to get more out of a small labelled set whose images mean something turned or recoloured: rotation as plain
augmentation forces a class to look alike in all copies, and telling the rotation as a second task does too;
joint labels do not. Averaging M copies costs M passes; the distilled head costs one. With many images without
labels pre-train on them first, with barlow-twins for one, and give the encoder to this method.

Deviations from the paper: a cosine takes the learning rate down, not two drops (`training.schedule` has
both); the last weights are kept unless `training.held_out` says otherwise; the margins of LDAM come without
its scaled, normalised head and without its second phase; few-shot episodes are left out; images only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.transformations import SETS, TransformSet, aggregated_scores, transformations
from selfstudy.evaluation.transformation_pictures import mode_picture, told_picture
from selfstudy.learning.distillation import distillation_loss
from selfstudy.learning.label_augmentation import (
    ClassLossName,
    class_loss,
    copies_loss,
    joint_loss,
    transformation_loss,
)
from selfstudy.learning.loops import check_not_negative, check_positive
from selfstudy.learning.supervised import (
    ImageLosses,
    Losses,
    Seen,
    Supervised,
    require_labels,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, JOINT, TRANSFORMATION, ImageClassifier, Mode
from selfstudy.tasks.images import ImageTask

MANY_OUTPUTS = 100_000  # of a joint head, above which it is worth a warning
LOOKED_AT = 500  # unlabelled images that the picture of transformations is made from
KNOWN = 2000  # labelled images that it is asked for in the end
CROPS = SETS["crops"]


class Objective(NamedTuple):
    """What is trained: the heads, whether on all copies, and how classes are told in the end."""

    heads: tuple[str, ...]
    copies: bool
    mode: Mode


OBJECTIVES = {
    "base": Objective((CLASS,), copies=False, mode="single"),
    "augmentation": Objective((CLASS,), copies=True, mode="single"),
    "multi-task": Objective((CLASS, TRANSFORMATION), copies=True, mode="single"),
    "sla": Objective((JOINT,), copies=True, mode="aggregate"),
    "sla+sd": Objective((JOINT, CLASS), copies=True, mode="distilled"),
}


@dataclass(frozen=True, kw_only=True)
class Sla(Method):
    """Train a classifier on labels joint with transformations (Lee et al. 2020)."""

    works_on = (ImageTask, ImageEncoder)

    objective: Literal["base", "augmentation", "multi-task", "sla", "sla+sd"] = "sla+sd"
    """Joint labels with a distilled head, or without; or what they are compared with: no transformations, the
    class in every copy, or class and transformation by a head each."""
    transformations: str = "rotation"
    """A set, or a product such as rotation*colour3; see selfstudy.data.transformations."""
    inference: Mode | None = None
    """How classes are told in the end; None is "aggregate" for sla, "distilled" for sla+sd, else "single"."""
    temperature: float = 1.0
    """T, of the distillation."""
    over_copies: Literal["mean", "sum"] = "mean"
    """Whether losses are averaged or summed over the M copies; the authors sum on large sets."""
    class_loss: ClassLossName = "cross-entropy"
    """Of classes, joint or not; "focal" and "margin" (of LDAM) are for rare classes."""
    focus: float = 2.0
    """gamma of the focal loss."""
    margin: float = 0.5
    """Margin of the rarest class."""
    training: Supervised = field(default_factory=Supervised)
    """Steps, batches and optimiser; `batch` counts images, not copies."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, temperature=0, margin=0)
        check_not_negative(self, "focus")
        transformations(self.transformations)
        self.training.validate()

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        require_labels(task.labelled)
        batch = self.training.batch_of(task.labelled)
        step = step_cost(model, batch, len(self._copies()))
        return {unit: self.training.steps * amount for unit, amount in step.items()}

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        classifier = self._classifier(task, model, key=0)
        losses = self._losses(classifier, task)
        return trial_step(classifier, losses, task.labelled, self.training), self.training.steps

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Train a copy of `model`, and heads, on the labelled images of `task`."""
        require_labels(task.labelled)
        self._copies().copies(task.labelled.pixels(slice(2)))
        classifier = run.stage("classifier", lambda: self.trained(task, model, run))
        ways = self._ways(task, classifier)
        pictures = [mode_picture(task.metric, ways)] if ways else []
        if {JOINT, TRANSFORMATION} & set(classifier.heads):
            pictures.append(told_picture(classifier, task.train.pixels(slice(LOOKED_AT))))
        known = task.labelled.only(slice(KNOWN))
        told = classifier.classify(known.pixels(slice(None)), "single").numpy()
        metrics: dict[str, Any] = {f"validation, {way}": row for way, row in ways.items()}
        metrics["labelled_images_right"] = float((told == known.labels).mean())
        return Fit(model=classifier, metrics=metrics, pictures=pictures)

    def trained(self, task: ImageTask, model: ImageEncoder, run: Run) -> ImageClassifier:
        """Return the trained classifier; within a stage."""
        classifier = self._classifier(task, model, run.key("heads"))
        losses, copies = self._losses(classifier, task), len(self._copies())
        supervise(run, classifier, losses, task.labelled, self.training, copies=copies)
        return classifier

    def _losses(self, classifier: ImageClassifier, task: ImageTask) -> ImageLosses:
        copies, heads = self._copies(), classifier.heads
        count = len(copies)
        counts = torch.bincount(torch.from_numpy(task.labelled.labels), minlength=len(task.classes))
        kind = partial(class_loss, self.class_loss, focus=self.focus, margin=self.margin)
        each, each_joint = kind(counts), kind(counts.repeat_interleave(count))
        factor = count if self.over_copies == "sum" else 1

        def losses(seen: Seen) -> Losses:
            labels = seen.labels
            features = classifier.encoder(copies.copies(seen.images))  # [B * M, d], image by image
            terms: Losses = {}
            if JOINT in heads:
                joint = heads[JOINT](features)  # [B * M, C * M]
                terms["joint"] = factor * joint_loss(joint, labels, count, each_joint)
                if CLASS in heads:
                    upright = heads[CLASS](features[::count])  # [B, C]
                    terms["class"] = each(upright, labels).mean()
                    teacher = aggregated_scores(joint, count)
                    terms["distillation"] = distillation_loss(upright, teacher, self.temperature)
            else:
                terms["class"] = factor * copies_loss(heads[CLASS](features), labels, count, each)
                if TRANSFORMATION in heads:
                    told = heads[TRANSFORMATION](features)  # [B * M, M]
                    terms["transformation"] = factor * transformation_loss(told, count)
            loss = torch.stack(list(terms.values())).sum()
            return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}

        return losses

    def _copies(self) -> TransformSet:
        copied = OBJECTIVES[self.objective].copies
        return transformations(self.transformations) if copied else SETS["identity"]

    def _classifier(self, task: ImageTask, model: ImageEncoder, key: int) -> ImageClassifier:
        """Return a copy of the encoder with new heads, reading as it will in the end."""
        objective, copies = OBJECTIVES[self.objective], self._copies()
        classes, count = len(task.classes), len(copies)
        outputs = {CLASS: classes, TRANSFORMATION: count, JOINT: classes * count}
        if JOINT in objective.heads and outputs[JOINT] > MANY_OUTPUTS:
            warnings.warn(
                f"The joint head has {outputs[JOINT]:,} outputs, {classes:,} classes by {count} "
                f"transformations. With fewer transformations it is smaller.",
                stacklevel=2,
            )
        return ImageClassifier(
            model.copy(),
            task.classes,
            {name: outputs[name] for name in objective.heads},
            # Without transformations in training an average is over crops.
            transformed=copies if objective.copies else CROPS,
            mode=self.inference or objective.mode,
            key=key,
        )

    @staticmethod
    def _ways(task: ImageTask, classifier: ImageClassifier) -> dict[str, Any]:
        """Return a row of validation results for each mode, and for an average over crops where it can be."""
        if not len(task.validation):
            return {}
        ways: dict[str, ImageClassifier] = {mode: classifier.reading(mode) for mode in classifier.modes}
        if JOINT not in classifier.heads:
            ways["five crops"] = classifier.reading("aggregate", CROPS)
        measured = {way: task.evaluate(read, split="validation") for way, read in ways.items()}
        return {way: task.metric.row(found.values) for way, found in measured.items()}
