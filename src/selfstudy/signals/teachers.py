"""Teachers: what gives a student soft targets, behind one call, and a store of what a teacher said.

    fixed       a classifier that no longer changes
    ensemble    several teachers; the mean of their scores
    following   a running mean of the student's own weights
    past self   the student as it was some steps ago

The last two change with the student: hand them to a training loop as a state, and tell them of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.ema import follow, follower
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import forward_flops

MEGABYTE = 2**20


class Teacher(Protocol):
    """What a student is held to.

    Attributes:
        flops: operations that one image costs.
    """

    flops: float

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """Return a score of each class for images [B, C, H, W], 0 to 1, that lie at `places` [B]: [B, C].

        Raises:
            DataError: a score is not finite.
        """


class FixedTeacher:
    """A classifier that stays as it is; it is asked in evaluation mode.

    Args:
        classifier: whose scores are taken.
        classes: names that the student has.

    Raises:
        UsageError: the classifier tells other classes, or the same in another order.
    """

    def __init__(self, classifier: ImageClassifier, classes: Sequence[str]) -> None:
        require_same_classes(classifier.classes, classes)
        self._classifier = classifier
        self.flops = forward_flops(classifier.encoder)

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """Return the classifier's scores of images: [B, C]."""
        return _finite(self._classifier.scores(images))


class EnsembleTeacher:
    """Several teachers; the mean of their scores, which is that of their logits.

    Args:
        members: one or more, of the same classes.
    """

    def __init__(self, members: Sequence[Teacher]) -> None:
        self._members = tuple(members)
        self.flops = sum(member.flops for member in members)

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """Return the mean scores of images: [B, C]."""
        return torch.stack([member.scores(images, places) for member in self._members]).mean(0)


class FollowingTeacher:
    """A running mean of the student's weights (Tarvainen and Valpola 2017, arXiv 1703.01780).

    Args:
        student: that is being trained.
        keep: share of the mean that stays each time.
        every: steps from one time to the next.
    """

    def __init__(self, student: ImageClassifier, keep: float = 0.999, every: int = 1) -> None:
        if not 0 <= keep <= 1 or every < 1:
            raise UsageError(
                f"The teacher has keep {keep:g} and every {every}: the share of the mean that stays is "
                "from 0 to 1, and it is renewed after 1 step or more."
            )
        self._student, self._own = student, follower(student)
        self._keep, self._every = keep, every
        self.flops = forward_flops(student.encoder)

    def before(self, step: int) -> None:
        """Take the student in as it is after `step` steps, where it is time to."""
        if step and step % self._every == 0:
            follow(self._own, self._student, self._keep)

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """Return the scores of images by the mean weights: [B, C]."""
        return _finite(self._own.eval().scores(images))

    def state_dict(self) -> dict[str, Any]:
        """Return the mean weights."""
        return self._own.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._own.load_state_dict(state_dict)


def past_self(student: ImageClassifier, every: int) -> FollowingTeacher:
    """Return the student as it was after the last whole number of `every` steps; at first, untrained."""
    return FollowingTeacher(student, keep=0.0, every=every)


class CachedScores:
    """What a teacher says of a set of images as they are, in half precision; what has no room is asked anew.

    Views of images that differ much from the images themselves should not be paired with these scores. They
    are rounded to half precision whether they are kept or not, so that a student does not depend on the room.

    Args:
        teacher: asked once for each image that has room.
        images: the set that `places` lie in.
        megabytes: most memory that the store takes.

    Attributes:
        kept: how many of the first images are in the store.
    """

    def __init__(self, teacher: Teacher, images: ImageSet, megabytes: float = 1024.0) -> None:
        self._teacher, self._images = teacher, images
        row = 2 * len(images.classes)
        self.kept = min(len(images), int(megabytes * MEGABYTE / row))
        self.flops = teacher.flops * (1 - self.kept / max(1, len(images)))
        self._store = torch.empty(0, len(images.classes), dtype=torch.float16)
        if self.kept:
            first = images.only(slice(self.kept))
            self._store = first.mapped(lambda pixels, at: _halved(teacher.scores(pixels, at)))

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        """Return the scores of the set's images at `places`, whatever views `images` are: [B, C]."""
        stored = places < self.kept
        found = torch.empty(len(places), self._store.shape[1], dtype=torch.float16)
        found[torch.from_numpy(stored)] = self._store[torch.from_numpy(places[stored])]
        if not stored.all():
            others = places[~stored]
            asked = self._teacher.scores(self._images.pixels(others), others)
            found[torch.from_numpy(~stored)] = _halved(asked)
        return found.float()


def require_same_classes(teacher: Sequence[str], student: Sequence[str]) -> None:
    """Refuse a teacher whose scores mean other classes than the student's.

    Raises:
        UsageError: another number of classes, other names, or another order.
    """
    if tuple(teacher) == tuple(student):
        return
    if len(teacher) != len(student):
        what = f"{len(teacher)} classes and the student {len(student)}"
    else:
        at = next(place for place, (a, b) in enumerate(zip(teacher, student, strict=True)) if a != b)
        same = "the same classes in another order" if set(teacher) == set(student) else "other classes"
        what = f"{same}: number {at} is {teacher[at]!r} and {student[at]!r} for the student"
    raise UsageError(
        f"The teacher knows {what}. Give a teacher that was trained on the classes {', '.join(student[:8])}"
        f"{' ...' if len(student) > 8 else ''}, in this order."
    )


def _finite(scores: torch.Tensor) -> torch.Tensor:
    """Return the scores outside inference mode, where a loss may keep them for its gradient."""
    if not bool(torch.isfinite(scores).all()):
        bad = int((~torch.isfinite(scores)).any(1).sum())
        raise DataError(
            f"The teacher's scores of {bad} of {len(scores)} images are not finite. Train it with a lower "
            "learning rate or a clipped gradient, or give another one."
        )
    return scores.clone()


def _halved(scores: torch.Tensor) -> torch.Tensor:
    return _finite(scores.half())
