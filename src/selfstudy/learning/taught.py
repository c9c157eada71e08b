"""Where teachers come from: a trained classifier that was given, or networks trained on all images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.learning.supervised import Supervised, train_classifier
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.loading import model as named_model
from selfstudy.signals.teachers import require_same_classes

Start = ImageClassifier | ImageEncoder


def teacher_starts(name: str, student: ImageEncoder, labelled: ImageSet, count: int = 1) -> list[Start]:
    """Return the trained teacher that a name stands for, or `count` encoders that teachers are trained from.

    Args:
        name: of a model as `selfstudy.model` takes it, such as the folder of a classifier or mlp?hidden=64;
            empty is `student`.
        student: made for the images.
        labelled: the images.
        count: teachers.

    Raises:
        UsageError: no classifier or encoder of images, one with other classes, or more than one of a
            classifier that is trained already.
    """
    start = named_model(name) if name else student
    if isinstance(start, ImageClassifier) and count == 1:
        require_same_classes(start.classes, labelled.classes)
        return [start.made_for(labelled)]
    if not isinstance(start, ImageEncoder):
        raise UsageError(
            f"teacher={name!r} with teachers={count} cannot teach images: give the folder of one classifier "
            "of images, or an encoder of images that is to be trained."
        )
    return [start.made_for(labelled)] * count


def taught(
    run: Run, starts: Sequence[Start], labelled: ImageSet, settings: Supervised
) -> list[ImageClassifier]:
    """Return teachers, trained on all of `labelled` where they are not yet; each is a stage of its own.

    Those that start from the same weights differ in their heads, the order of the images and the views.
    """

    def teacher(number: int, start: Start) -> ImageClassifier:
        if isinstance(start, ImageClassifier):
            return start
        return train_classifier(run, start, labelled, settings, desc=f"teacher {number}")

    return [
        run.stage(f"teacher-{number}", partial(teacher, number, start)) for number, start in enumerate(starts)
    ]
