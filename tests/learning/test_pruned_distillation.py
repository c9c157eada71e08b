"""A student's losses with a teacher, the weight of the teacher, and what is warned of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.data.views import ImageViews
from selfstudy.learning import supervised
from selfstudy.learning.distillation import distillation_loss
from selfstudy.learning.pruned_distillation import (
    alpha_rule,
    best_alpha,
    distilled_losses,
    knowledge,
    share_right,
    train_student,
    warn_of_cropping,
    warn_of_divergence,
)
from selfstudy.learning.supervised import Seen, Supervised, new_classifier
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import forward_flops
from selfstudy.models.encoders.perceptron import PerceptronEncoder
from selfstudy.signals.teachers import FixedTeacher

OpenRun = Callable[..., Run]
PLAIN = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
QUICK = Supervised(steps=6, batch=8, views=PLAIN)


def some(count: int = 20) -> ImageSet:
    return image_splits("digits")["train"].only(slice(count))


def encoder(images: ImageSet) -> PerceptronEncoder:
    return PerceptronEncoder(hidden=8, layers=1).made_for(images)


class Told:
    """A teacher that says what it is given, by place."""

    flops = 0.0

    def __init__(self, scores: torch.Tensor) -> None:
        self._scores = scores

    def scores(self, images: torch.Tensor, places: np.ndarray) -> torch.Tensor:
        return self._scores[torch.from_numpy(places)]


def losses_of(alpha: float, temperature: float, scores: torch.Tensor) -> tuple[Any, torch.Tensor, Any]:
    """The losses on images 2, 0 and 1 of the places 10, 11, 12; the student's scores and labels."""
    images = some()
    student = new_classifier(encoder(images), images, 3)
    losses = distilled_losses(student, Told(scores), alpha, temperature, np.array([10, 11, 12]))
    at = np.array([2, 0, 1])
    pixels, labels = images.pixels(10 + at), torch.from_numpy(images.labels[10 + at])
    return losses(Seen(0, at, pixels, labels)), student(pixels), labels


def test_without_a_teacher_it_is_cross_entropy() -> None:
    """Oracle: torch's cross-entropy; the teacher, which would fail, is not asked."""
    found, scores, labels = losses_of(0.0, 2.0, torch.zeros(0, 10))
    assert torch.equal(found["loss"], functional.cross_entropy(scores, labels))


def test_a_teacher_that_is_sure_of_the_labels_is_cross_entropy() -> None:
    """Oracle: at alpha 1, T 1 and scores of 1000 at the label, torch's cross-entropy."""
    sure = 1000 * functional.one_hot(torch.from_numpy(some().labels), 10).float()
    found, scores, labels = losses_of(1.0, 1.0, sure)
    assert torch.allclose(found["loss"], functional.cross_entropy(scores, labels), atol=1e-6)


def test_the_mixture() -> None:
    """Oracle: (1 - a) CE + a T^2 sum p log(p / q), written out, on the teacher's scores of those places."""
    said = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    found, scores, labels = losses_of(0.3, 4.0, said)
    p, q = (said[[12, 10, 11]] / 4).softmax(1), (scores / 4).softmax(1)
    divergence = (p * (p / q).log()).sum(1).mean()
    wanted = 0.7 * functional.cross_entropy(scores, labels) + 0.3 * 16 * divergence
    assert torch.allclose(found["loss"], wanted, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 1e3])
def test_the_gradient_of_the_teachers_term(temperature: float) -> None:
    """Oracle: T (softmax(s / T) - softmax(t / T)) a row; for a large T (s - t - their means) / C."""
    rng = torch.Generator().manual_seed(1)
    student = torch.randn(4, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    distillation_loss(student, teacher, temperature).backward()
    s, t = student.detach(), teacher
    wanted = temperature * ((s / temperature).softmax(1) - (t / temperature).softmax(1)) / 4
    assert student.grad is not None and torch.allclose(student.grad, wanted, atol=1e-12)
    if temperature == 1e3:
        limit = ((s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))) / 6 / 4
        assert torch.allclose(student.grad, limit, atol=1e-3)


@given(st.floats(1e-4, 1.0), st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
def test_the_rule_falls_with_the_fraction(one: float, other: float, full: float) -> None:
    """Oracle: the formula's ends and its direction."""
    assert alpha_rule(1.0, full) == pytest.approx(full)
    assert 0 <= alpha_rule(max(one, other), full) <= alpha_rule(min(one, other), full) <= 1


def test_numbers_that_the_rule_refuses() -> None:
    """Oracle: each is outside its range."""
    for wrong in ((0.0, 0.5), (1.1, 0.5), (0.5, -0.1), (0.5, 1.1)):
        with pytest.raises(UsageError, match="weight of a teacher"):
            alpha_rule(*wrong)


def trained(open_run: OpenRun, name: str, **options: Any) -> tuple[ImageClassifier, dict[str, float]]:
    images = some()
    run = open_run(name)
    found = run.stage("student", lambda: train_student(run, encoder(images), images, QUICK, **options))
    return found, run.meter.snapshot()


def test_students_of_one_run_start_alike(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: with and without a teacher the same images in the same order and the same heads; the cost is
    three passes of the student, and one of the teacher more."""
    orders: list[list[int]] = []
    draw = supervised.batch_indices

    def noted(*given: Any) -> np.ndarray:
        at = draw(*given)
        orders[-1].append(at.tolist())
        return at

    monkeypatch.setattr(supervised, "batch_indices", noted)
    images, places = some(), np.arange(4, 16)
    fixed = FixedTeacher(new_classifier(encoder(images), images, 1), images.classes)
    flops = []
    for name, options in (("alone", {}), ("taught", {"teacher": fixed, "alpha": 0.5})):
        orders.append([])
        _, spent = trained(open_run, name, places=places, **options)
        assert spent["samples"] == 6 * 8
        flops.append(spent["flops"])
    assert orders[0] == orders[1]
    once = forward_flops(encoder(images)) * 6 * 8
    assert flops == pytest.approx([3 * once, 4 * once])


def test_only_kept_images_are_seen(open_run: OpenRun) -> None:
    """Oracle: other labels of the images that were pruned change nothing."""
    images, places = some(), np.arange(4, 12)
    labels = images.labels.copy()
    labels[12:] = (labels[12:] + 1) % 10
    other = ImageSet(images.name, images.images, labels, images.classes)
    weights = []
    for name, labelled in (("true", images), ("changed", other)):
        run = open_run(name)
        work = partial(train_student, run, encoder(images), labelled, QUICK, places=places)
        weights.append(run.stage("student", work).get_parameter("heads.class.weight"))
    assert torch.equal(weights[0], weights[1])


def test_the_best_weight_of_two_students() -> None:
    """Oracle: of mixtures of both probabilities on a grid the one with the least squared error."""
    images = some()
    one, two = (new_classifier(encoder(images), images, key << 5) for key in (1, 2))
    for classifier in (one, two):  # apart from each other, so that the best mixture is well told
        with torch.no_grad():
            classifier.get_parameter("heads.class.weight").mul_(20)
    truth = functional.one_hot(torch.from_numpy(images.labels), 10)
    p, q = (c.scores(images.pixels(slice(None))).softmax(1) for c in (one, two))
    grid = np.linspace(0, 1, 1001)
    errors = [float(((1 - a) * p + a * q - truth).square().sum()) for a in grid]
    assert abs(best_alpha(one, two, images) - grid[int(np.argmin(errors))]) < 2e-3


def test_divergence_is_warned_of() -> None:
    """Oracle: a loss that ends above where it began; one that falls, another stage and few steps are not."""
    rising = [{"stage": "student", "loss": 1.0 + step} for step in range(60)]
    with pytest.warns(UserWarning, match="has diverged"):
        warn_of_divergence(rising, "student")
    warn_of_divergence(rising[::-1], "student")
    warn_of_divergence(rising, "other")
    warn_of_divergence(rising[:40], "student")


def test_a_poor_teacher_and_strong_crops_are_warned_of() -> None:
    """Oracle: a teacher that tells one class beside a student that knows all; crops of half the area."""
    images = some()
    teacher, student = (new_classifier(encoder(images), images, 1) for _ in range(2))
    with torch.no_grad():
        teacher.get_parameter("heads.class.weight").zero_()
    with pytest.warns(UserWarning, match="it has little to teach"):
        said = knowledge(images, [teacher], {"labels alone": _knowing(student, images)})
    assert said["all labelled images right, labels alone"] == 1.0
    assert said["all labelled images right, teacher"] == share_right(teacher, images) < 0.5
    with pytest.warns(UserWarning, match="down to 50%"):
        warn_of_cropping(ImageViews(crop=(0.5, 1.0)))
    warn_of_cropping(PLAIN)


def _knowing(student: ImageClassifier, images: ImageSet) -> ImageClassifier:
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    for _ in range(150):
        loss = functional.cross_entropy(student(images.pixels(slice(None))), torch.from_numpy(images.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.eval()
