"""Which items are labelled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.data.labelled import balanced_draw, balanced_places


@given(
    st.lists(st.integers(-1, 3), min_size=4, max_size=60).filter(lambda found: len({*found} - {-1}) > 1),
    st.data(),
)
def test_classes_are_as_even_as_they_can_be(labels: list[int], data: st.DataObject) -> None:
    """Oracle: a law: no class has two more than another that still has items left."""
    found = np.array(labels)
    known, classes = int((found >= 0).sum()), np.unique(found[found >= 0])
    count = data.draw(st.integers(len(classes), known))
    places = balanced_places(found, count, data.draw(st.integers(0, 5)), "some")
    assert len(places) == count == len(np.unique(places)) and (found[places] >= 0).all()
    taken = np.array([(found[places] == label).sum() for label in classes])
    left = np.array([(found == label).sum() for label in classes]) - taken
    assert taken.min() >= 1
    assert all(taken.max() - taken[at] <= 1 for at in range(len(classes)) if left[at])


def test_another_draw_takes_others() -> None:
    """Oracle: two draws of 10 of 100 are equal with a chance below 1e-12."""
    labels = np.arange(100) % 5
    first, again, other = (balanced_places(labels, 10, draw, "some") for draw in (0, 0, 1))
    assert (first == again).all() and not (first == other).all()


@pytest.mark.parametrize(("count", "per_class"), [(2, 1), (101, 1), (5, 2)])
def test_numbers_that_there_are_not(count: int, per_class: int) -> None:
    """Oracle: 100 labels of 3 classes."""
    with pytest.raises(UsageError, match=f"labels={count} of 'some' must be from {3 * per_class}"):
        balanced_places(np.arange(100) % 3, count, 0, "some", per_class=per_class)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 60), st.integers(0, 2**31))
def test_a_balanced_draw(labels: list[int], count: int, seed: int) -> None:
    """Oracle: laws: different items of a weight above 0, as many as asked or as there are, and with those
    that there were no class two ahead of one that has items left or was ahead before."""
    rng = np.random.default_rng(seed)
    found, had = np.array(labels), rng.integers(0, 4, 4)
    weights = rng.random(len(labels)) * (rng.random(len(labels)) < 0.8)
    places = balanced_draw(found, weights, count, had, rng)
    assert len(places) == len(set(places.tolist())) == min(count, int((weights > 0).sum()))
    assert (weights[places] > 0).all()
    taken = np.bincount(found[places], minlength=4)
    left = np.bincount(found[weights > 0], minlength=4) - taken
    ahead = (had + taken)[taken > 0].max(initial=0)
    assert all(ahead - (had + taken)[label] <= 1 for label in range(4) if left[label])


def test_a_balanced_draw_follows_the_weights() -> None:
    """Oracle: within a class of weights 1, 2 and 5 the first one drawn is each with a chance of its share."""
    labels, weights = np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 5.0, 1.0])
    rng, counts = np.random.default_rng(0), np.zeros(4)
    for _ in range(4000):
        counts[balanced_draw(labels, weights, 1, np.array([0, 1]), rng)] += 1
    assert np.allclose(counts[:3] / 4000, weights[:3] / 8, atol=0.04) and counts[3] == 0
