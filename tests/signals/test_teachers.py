"""Teachers: what they say, when they change, and whom they may teach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.flops import forward_flops
from selfstudy.models.encoders.perceptron import PerceptronEncoder
from selfstudy.signals.teachers import (
    CachedScores,
    EnsembleTeacher,
    FixedTeacher,
    FollowingTeacher,
    past_self,
    require_same_classes,
)


def some(count: int = 12) -> ImageSet:
    return image_splits("digits")["train"].only(slice(count))


def classifier(images: ImageSet, key: int = 0) -> ImageClassifier:
    encoder = PerceptronEncoder(hidden=8, layers=1).made_for(images)
    return ImageClassifier(encoder, images.classes, {CLASS: 10}, key=key)


def moved(student: ImageClassifier, by: float) -> None:
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(by)


def test_a_fixed_teacher_says_what_its_classifier_says() -> None:
    """Oracle: the head on the encoder's features; the scores can be part of a gradient, and cost a pass."""
    images = some()
    known = classifier(images)
    teacher = FixedTeacher(known, images.classes)
    told = teacher.scores(images.pixels(slice(None)), np.arange(12))
    assert torch.allclose(told, known.eval()(images.pixels(slice(None))))
    weight = torch.ones(10, requires_grad=True)
    (weight * told).square().sum().backward()
    assert weight.grad is not None
    assert teacher.flops == forward_flops(known.encoder)


def test_an_ensemble_says_the_mean() -> None:
    """Oracle: (a + b) / 2, and the cost of both."""
    images = some()
    pixels, places = images.pixels(slice(None)), np.arange(12)
    members = [FixedTeacher(classifier(images, key << 3), images.classes) for key in (1, 2)]
    a, b = (member.scores(pixels, places) for member in members)
    both = EnsembleTeacher(members)
    assert not torch.equal(a, b)
    assert torch.allclose(both.scores(pixels, places), (a + b) / 2)
    assert both.flops == 2 * members[0].flops


def test_a_following_teacher_is_a_running_mean() -> None:
    """Oracle: keep w + (1 - keep) w' by hand, only every second step; a state brings it back."""
    images = some()
    student = classifier(images)
    first = student.get_parameter("heads.class.weight").clone()
    teacher = FollowingTeacher(student, keep=0.75, every=2)
    for step in range(3):
        teacher.before(step)
        moved(student, 1.0)
    # The student had moved by 2 when it was looked at before the step 2.
    own = teacher.state_dict()["heads.class.weight"]
    assert torch.allclose(own, first + 0.25 * 2)
    again = FollowingTeacher(classifier(images, 5), keep=0.75, every=2)
    again.load_state_dict(teacher.state_dict())
    pixels = images.pixels(slice(None))
    assert torch.equal(again.scores(pixels, np.arange(12)), teacher.scores(pixels, np.arange(12)))


def test_a_past_self_is_the_student_of_before() -> None:
    """Oracle: the student's scores after three steps stay the teacher's until six steps are done."""
    images = some()
    student = classifier(images)
    teacher, pixels = past_self(student, every=3), images.pixels(slice(None))
    said = []
    for step in range(7):
        teacher.before(step)
        said.append((teacher.scores(pixels, np.arange(12)), student.eval().scores(pixels).clone()))
        moved(student, 0.1)
    teachers, students = zip(*said, strict=True)
    for step, of in enumerate((0, 0, 0, 3, 3, 3, 6)):
        assert torch.allclose(teachers[step], students[of]), step


def test_cached_scores_do_not_depend_on_the_room() -> None:
    """Oracle: the teacher's scores of whole images, rounded; with room for 5 of 12 images, or for none, bit
    for bit the same, whatever views are handed in."""
    images = some()
    teacher = FixedTeacher(classifier(images), images.classes)
    whole = teacher.scores(images.pixels(slice(None)), np.arange(12))
    at = np.array([11, 0, 4, 5, 0])
    room = [1.0, 5 * 20 / 2**20, 0.0]
    stores = [CachedScores(teacher, images, megabytes) for megabytes in room]
    assert [store.kept for store in stores] == [12, 5, 0]
    assert [round(store.flops / teacher.flops, 3) for store in stores] == [0, 0.583, 1]
    told = [store.scores(torch.zeros(5, 1, 8, 8), at) for store in stores]
    assert torch.allclose(told[0], whole[torch.from_numpy(at)], atol=2e-3)
    for other in told[1:]:
        assert torch.allclose(other, told[0], atol=1e-3)


def test_other_classes_are_refused() -> None:
    """Oracle: another number, another order, another name: each is named."""
    for teacher, word in (
        (("a", "b"), "2 classes and the student 3"),
        (("a", "c", "b"), "another order: number 1 is 'c' and 'b'"),
        (("a", "b", "d"), "other classes: number 2 is 'd' and 'c'"),
    ):
        with pytest.raises(UsageError, match=word):
            require_same_classes(teacher, ("a", "b", "c"))
    require_same_classes(["a", "b"], ("a", "b"))
    with pytest.raises(UsageError, match="other classes"):
        FixedTeacher(classifier(some()), tuple("abcdefghij"))


def test_scores_that_are_not_finite_are_refused() -> None:
    """Oracle: a weight that is not a number; half precision that overflows."""
    images = some()
    broken = classifier(images)
    teacher = FixedTeacher(broken, images.classes)
    with torch.no_grad():
        broken.get_parameter("heads.class.bias")[0] = 1e6
    assert torch.isfinite(teacher.scores(images.pixels(slice(None)), np.arange(12))).all()
    with pytest.raises(DataError, match="12 of 12 images are not finite"):
        CachedScores(teacher, images)
    with torch.no_grad():
        broken.get_parameter("heads.class.bias")[0] = torch.nan
    with pytest.raises(DataError, match="12 of 12 images are not finite"):
        teacher.scores(images.pixels(slice(None)), np.arange(12))
    for wrong in ({"keep": 1.5}, {"every": 0}):
        with pytest.raises(UsageError, match="keep"):
            FollowingTeacher(broken, **wrong)
