"""Where teachers come from: names that are models, and networks that are trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.learning.supervised import Supervised, new_classifier
from selfstudy.learning.taught import taught, teacher_starts
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.perceptron import PerceptronEncoder

OpenRun = Callable[..., Run]


def some() -> ImageSet:
    return image_splits("digits")["train"].only(slice(20))


def student() -> ImageEncoder:
    return PerceptronEncoder(hidden=8, layers=1).made_for(some())


def test_names_of_teachers() -> None:
    """Oracle: no name is the student itself, another is that model made for the images, so many times."""
    own = teacher_starts("", student(), some())
    assert [type(one) for one in own] == [PerceptronEncoder] and own[0].width == 8
    two = teacher_starts("mlp?hidden=5", student(), some(), count=2)
    assert [(one.width, one.size) for one in two] == [(5, 8)] * 2
    with pytest.raises(UsageError, match="cannot teach images"):
        teacher_starts("words", student(), some())


def test_teachers_differ_and_one_that_knows_is_left(open_run: OpenRun) -> None:
    """Oracle: two from the same weights end apart, and have moved; a trained one comes back as it was."""
    plan, start = Supervised(steps=3, batch=8), student()
    one, two = taught(open_run("two"), [start, start], some(), plan)
    weights = [c.encoder.get_parameter("network.1.weight") for c in (one, two)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], start.get_parameter("network.1.weight"))
    known = new_classifier(start, some(), 7)
    (back,) = taught(open_run("known"), [known], some(), plan)
    assert back is known
