"""What people tell self-paced machines, and that it is kept."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.learning.paced_state import (
    NO,
    YES,
    Paced,
    SelfPaced,
    annotated,
    at_the_start,
    certified,
    with_classes,
    with_items,
)
from selfstudy.learning.self_paced import learn

from .paced_points import CLASSES, points, start

PLAN = SelfPaced(growth=1.0)


def learnt() -> tuple[Paced, torch.Tensor]:
    """A state after one round, and the places of H."""
    inputs, truth = points()
    state = learn(start(truth, PLAN), inputs, PLAN).state
    return state, state.high.nonzero()[:, 0]


def test_confirmations_join_and_refusals_leave() -> None:
    """Oracle: the sets by hand: yes joins A, no is never in H again, not sure is asked no more."""
    state, high = learnt()
    places = high[:3]
    proposed = state.pseudo[places]
    found = certified(state, places, proposed, torch.tensor([YES, NO, UNKNOWN]))
    yes, no, unsure = places.tolist()
    assert found.labels[yes] == proposed[0] and found.confirmed[yes] and (found.weights[yes] == 1).all()
    assert found.refused[no] == proposed[1] and not found.allowed[no] and found.open[no]
    assert found.unsure[unsure] and not found.open[unsure] and not found.allowed[unsure]
    assert not found.high[places].any() and not found.weights[no].any()
    assert (found.pseudo[places] == UNKNOWN).all()


def test_the_later_answer_counts(caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: an item refused as a class and then named as it; a line in the log."""
    state, high = learnt()
    place, proposed = high[:1], state.pseudo[high[:1]]
    refused = certified(state, place, proposed, torch.tensor([NO]))
    with caplog.at_level(logging.WARNING):
        found = annotated(refused, place, proposed, CLASSES, PLAN)
    assert found.labels[place] == proposed and found.refused[place] == UNKNOWN
    assert "the later answer counts" in caplog.text


def test_not_sure_is_no_label() -> None:
    """Oracle: the sets by hand."""
    state, high = learnt()
    found = annotated(state, high[:2], torch.tensor([1, UNKNOWN]), CLASSES, PLAN)
    assert found.annotated[high[0]] and not found.annotated[high[1]]
    assert found.unsure[high[1]] and not found.weights[high[1]].any()


def test_a_new_class_is_as_young_as_all_were() -> None:
    """Oracle: its age; of its column, annotated items count as negatives, pseudo-labelled ones not at all."""
    state, high = learnt()
    found = annotated(state, high[:1], torch.tensor([3]), (*CLASSES, "dog"), PLAN)
    assert found.classes[3] == "dog" and found.ages[3] == PLAN.first_age < found.ages[0]
    assert (found.weights[found.annotated, 3] == 1).all()
    assert not found.weights[found.high, 3].any()
    inputs, _ = points()
    again = learn(found, inputs, PLAN).state
    assert again.machines is not None and len(again.machines.bias) == 4


def test_more_items_stand_behind_the_others() -> None:
    """Oracle: the first N rows are as they were; the others by hand."""
    state, _ = learnt()
    found = with_items(with_classes(state, (*CLASSES, "dog"), PLAN), torch.tensor([3, UNKNOWN]))
    assert torch.equal(found.labels[:90], state.labels) and found.labels[90:].tolist() == [3, UNKNOWN]
    assert found.weights.shape == (92, 4) and found.weights[90:].sum(1).tolist() == [4, 0]


def test_it_is_saved(tmp_path: Path) -> None:
    """Oracle: each array of what is loaded; also before the first round."""
    for state in (learnt()[0], start(points()[1], PLAN)):
        state.save(tmp_path)
        again = Paced.load(tmp_path)
        for field in fields(Paced):
            one, other = getattr(state, field.name), getattr(again, field.name)
            same = torch.equal(one, other) if isinstance(one, torch.Tensor) else str(one) == str(other)
            assert same, field.name


def test_a_class_without_a_label_is_refused() -> None:
    """Oracle: labels that lack a class, which is named; a single class."""
    with pytest.raises(DataError, match="no label of 'cat'"):
        at_the_start(torch.tensor([0, 1, UNKNOWN]), CLASSES, PLAN)
    with pytest.raises(DataError, match="1 class"):
        at_the_start(torch.tensor([0, 0]), ("ant",), PLAN)


@pytest.mark.parametrize(
    "wrong",
    [{"penalty": 0.0}, {"age": 0.0}, {"growth": 0.0}, {"pace": -0.1}, {"alternations": 0}, {"kept": -1.0}],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """Oracle: a value at or beyond each limit."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SelfPaced(**wrong).validate()  # type: ignore[arg-type]
