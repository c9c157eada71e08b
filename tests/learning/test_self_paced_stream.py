"""Machines that go on: items that arrive, and classes that are named later."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import Vectors, vectors
from selfstudy.learning.paced_state import SelfPaced
from selfstudy.learning.projection import projection
from selfstudy.learning.self_paced import learn, machine_classifier
from selfstudy.learning.self_paced_stream import SelfPacedStream
from selfstudy.models.encoders.flat import FlatEncoder

from .paced_points import points, start

PLAN = SelfPaced(growth=0.5)


def items(features: torch.Tensor) -> Vectors:
    return vectors(features.numpy())


def stream() -> SelfPacedStream:
    features, truth = points()
    seen = projection(features.float(), 50)
    state = learn(start(truth, PLAN), seen(features.float()), PLAN).state
    return SelfPacedStream(
        machine_classifier(FlatEncoder(width=4), seen, state), state, items(features), PLAN
    )


def owls(count: int, seed: int = 5) -> torch.Tensor:
    """Points of a fourth class."""
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 4, generator=stream, dtype=torch.float64)
    return 0.5 * noise + torch.tensor([0.0, 0.0, 0.0, 3.0])


def test_new_items_are_pseudo_labelled() -> None:
    """Oracle: places behind the others; truth of points drawn anew, of those that get a label."""
    going, (fresh, truth) = stream(), points(30, seed=9)
    places = going.add_unlabelled(items(fresh))
    assert places.tolist() == list(range(90, 120)) and (going.state.pseudo[90:] == UNKNOWN).all()
    going.learn(2)
    labelled = going.state.pseudo[90:] != UNKNOWN
    assert labelled.sum() > 10
    assert (going.state.pseudo[90:][labelled] == truth[labelled]).float().mean() > 0.9


def test_a_new_class_is_learnt() -> None:
    """Oracle: points of the new class are told as it, those of the others as before."""
    going = stream()
    before = going.classifier
    assert "owl" not in before.predict(owls(50).numpy())
    going.add_class("owl", items(owls(5)))
    assert going.classifier.classes == before.classes, "no machine before learning"
    going.add_unlabelled(items(owls(20, seed=6)))
    going.learn(2)
    told = going.classifier.predict(owls(50, seed=7).numpy())
    assert (told == "owl").mean() > 0.9
    features, truth = points(seed=8)
    others = going.classifier.predict(features.numpy())
    assert (others == np.array(["ant", "bee", "cat"])[truth.numpy()]).mean() > 0.9


def test_answers_are_taken() -> None:
    """Oracle: the sets by hand: a known class, a new one, not sure."""
    going = stream()
    places = going.doubtful(3)
    going.answer(places, ["bee", "owl", None])
    assert going.state.classes == ("ant", "bee", "cat", "owl")
    assert going.state.labels[places].tolist() == [1, 3, UNKNOWN]
    assert places[2] not in going.doubtful(90)


def test_what_cannot_be_is_refused() -> None:
    """Oracle: a class that is there, one without an example, another pool."""
    going = stream()
    with pytest.raises(UsageError, match="there already"):
        going.add_class("bee", items(owls(2)))
    with pytest.raises(UsageError, match="one example"):
        going.add_class("owl", items(owls(2)).only(slice(0)))
    with pytest.raises(UsageError, match="90 items"):
        SelfPacedStream(going.classifier, going.state, items(owls(2)), PLAN)
