"""Training on kept images with labels and a teacher's scores, and how much weight the teacher has."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.views import ImageViews
from selfstudy.learning.distillation import distillation_loss
from selfstudy.learning.label_weight import estimate_alpha
from selfstudy.learning.supervised import (
    ImageLosses,
    Losses,
    Seen,
    Supervised,
    new_classifier,
    supervise,
)
from selfstudy.models.encoders.averaged import probabilities_of
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.signals.teachers import Teacher

LEAST_AREA = 0.8  # share of an image that views should keep for scores of whole images
ENOUGH = 50  # logged steps that a trend of the loss is told from


def alpha_rule(fraction: float, full: float = 0.5) -> float:
    """Return a weight of the teacher that rises as less is kept: 1 - sqrt(f) (1 - full).

    >>> [round(alpha_rule(f), 2) for f in (0.01, 0.25, 1.0)]
    [0.95, 0.75, 0.5]

    Args:
        fraction: f, of the images that are kept, above 0 and at most 1.
        full: the weight where all are kept.

    Raises:
        UsageError: a number outside its range.
    """
    if not (0 < fraction <= 1 and 0 <= full <= 1):
        raise UsageError(
            f"The weight of a teacher is told from a fraction above 0 and at most 1, and a weight at 1 from "
            f"0 to 1, not from {fraction:g} and {full:g}."
        )
    return 1 - math.sqrt(fraction) * (1 - full)


def distilled_losses(
    classifier: ImageClassifier,
    teacher: Teacher | None,
    alpha: float,
    temperature: float,
    places: np.ndarray,
) -> ImageLosses:
    """Return the losses (1 - alpha) CE + alpha T^2 KL(teacher || student) for `supervise`.

    Args:
        classifier: the student.
        teacher: asked about the very views that the student sees; not at all where alpha is 0.
        alpha: weight of the teacher, from 0 to 1.
        temperature: T, above 0.
        places: [N_f], of the images that are trained on within the set that the teacher knows.
    """

    def losses(seen: Seen) -> Losses:
        scores = classifier(seen.images)
        hard = functional.cross_entropy(scores, seen.labels)
        right = (scores.detach().argmax(1) == seen.labels).float().mean()
        if not alpha or teacher is None:
            return {"loss": hard, "right": right}
        soft = distillation_loss(scores, teacher.scores(seen.images, places[seen.places]), temperature)
        loss = (1 - alpha) * hard + alpha * soft
        return {"loss": loss, "right": right, "labels": hard.detach(), "teacher": soft.detach()}

    return losses


def train_student(
    run: Run,
    encoder: ImageEncoder,
    labelled: ImageSet,
    settings: Supervised,
    *,
    teacher: Teacher | None = None,
    alpha: float = 0.0,
    temperature: float = 2.0,
    places: np.ndarray | None = None,
) -> ImageClassifier:
    """Train a copy of `encoder` with a linear head on some labelled images and a teacher; within a stage.

    Students of one run that see the same images start alike, and see the same views in the same order.

    Args:
        run: within a stage of its own.
        encoder: made for the images.
        labelled: the whole set that the teacher knows.
        settings: how long and how.
        teacher: of the same classes; None needs an alpha of 0.
        alpha: weight of the teacher, from 0, labels alone, to 1.
        temperature: T, above 0.
        places: [N_f], of the images that are trained on; None is all.
    """
    places = np.arange(len(labelled)) if places is None else places
    student = new_classifier(encoder, labelled, run.key("student", "heads"))
    losses = distilled_losses(student, teacher, alpha, temperature, places)
    kept = labelled.only(places)
    asked = teacher.flops if teacher and alpha else 0.0
    copies = 1 + asked / (TRAINED * forward_flops(encoder))
    supervise(run, student, losses, kept, settings, copies=lambda _: copies, desc="student")
    return student


def best_alpha(labels: ImageClassifier, distilled: ImageClassifier, held: ImageSet) -> float:
    """Return the weight of the teacher that is best on held-out images, from two students and a closed form.

    Args:
        labels: the student of the labels alone, an alpha of 0.
        distilled: the student of the teacher alone, an alpha of 1.
        held: images that neither of them nor the teacher was trained on.
    """
    first, second = (probabilities_of(one, held) for one in (labels, distilled))
    truth = functional.one_hot(torch.from_numpy(held.labels), len(held.classes))
    return 1 - estimate_alpha(first.numpy(), second.numpy(), truth.numpy())


def share_right(classifier: ImageClassifier, images: ImageSet) -> float:
    """Return the accuracy on labelled images, in the mode in which the classifier also teaches."""
    told = images.mapped(lambda pixels, _: classifier.classify(pixels))
    return float((told.numpy() == images.labels).mean())


def warn_of_divergence(lines: Sequence[Mapping[str, Any]], stage: str) -> None:
    """Warn where the loss of a stage ended no lower than it began, by the first and the last tenth of it."""
    losses = [line["loss"] for line in lines if line["stage"] == stage and "loss" in line]
    tenth = len(losses) // 10
    if len(losses) < ENOUGH:
        return
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    if last >= first:
        warnings.warn(
            f"The loss of {stage!r} went from {first:.3g} to {last:.3g}: training has diverged. A high "
            "temperature makes gradients up to its square as large; lower it or the learning rate, or clip.",
            stacklevel=2,
        )


def warn_of_cropping(views: ImageViews) -> None:
    """Warn where views are too far from whole images to be paired with a teacher's scores of those."""
    if views.crop[0] < LEAST_AREA:
        warnings.warn(
            f"Views keep down to {views.crop[0]:.0%} of an image, and cached scores are those of whole "
            "images: they say little of such views. Take live scores.",
            stacklevel=3,
        )


def knowledge(
    images: ImageSet, teachers: Sequence[ImageClassifier], students: Mapping[str, ImageClassifier]
) -> dict[str, float]:
    """Return how much of all labelled images networks know, and how sure the first teacher is of them.

    A teacher that knows less than the student of the labels alone is worth a warning.

    Args:
        images: with labels.
        teachers: or none.
        students: by name; "labels alone" is compared with the teacher.
    """
    shares = {name: share_right(one, images) for name, one in students.items()}
    told = {f"all labelled images right, {name}": share for name, share in shares.items()}
    if not teachers:
        return told
    teacher, student = share_right(teachers[0], images), shares.get("labels alone", 0.0)
    sure = images.mapped(lambda pixels, _: teachers[0].scores(pixels).softmax(1).max(1).values)
    if teacher < student:
        warnings.warn(
            f"The teacher knows {teacher:.1%} of all labelled images, less than a student of the kept ones "
            f"alone ({student:.1%}): it has little to teach. Train it for longer, or give a better one.",
            stacklevel=2,
        )
    confidence = {"the teacher's confidence": float(sure.mean())}
    return {**told, "all labelled images right, teacher": teacher, **confidence}
