"""Items of a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.items import Texts, Vectors, fingerprint, first_equal, raw, shown, unlabelled, vectors


def texts(*found: str) -> Texts:
    return Texts("some", found, np.zeros(len(found), dtype=np.int64), ("a",))


IMAGES = ImageSet(
    "photos", np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4), np.array([1, 0]), ("a", "b")
)
VECTORS = Vectors("points", np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 1]), ("a", "b"))


@pytest.mark.parametrize("items", [texts("x", "y", "z"), IMAGES, VECTORS], ids=["texts", "images", "vectors"])
def test_a_part_has_its_own_labels(items: Texts | ImageSet | Vectors) -> None:
    """Oracle: indexing by hand; without labels nothing of them is left, not even the names."""
    at = np.array([1, 0])
    part = items.only(at)
    assert len(part) == 2 and (part.labels == items.labels[at]).all() and part.classes == items.classes
    assert np.array_equal(raw(part, 0), raw(items, 1))
    without = unlabelled(items)
    assert (without.labels == UNKNOWN).all() and without.classes == () and len(without) == len(items)
    assert fingerprint(without) == fingerprint(items) != fingerprint(items.only(slice(1)))


@given(st.lists(st.text(), min_size=1, max_size=5), st.lists(st.text(), min_size=1, max_size=5))
def test_fingerprints_tell_texts_apart(first: list[str], second: list[str]) -> None:
    """Oracle: a law: equal fingerprints, equal texts; where one ends and the next begins counts."""
    assert (fingerprint(texts(*first)) == fingerprint(texts(*second))) == (first == second)


def test_fingerprints_see_the_shape() -> None:
    """Oracle: the same numbers in another shape are other inputs."""
    turned = Vectors("points", VECTORS.values.reshape(2, 3), np.zeros(2, int))
    assert fingerprint(turned) != fingerprint(VECTORS)


def test_what_people_are_shown() -> None:
    """Oracle: by hand: one line, cut where it is long; images channels last."""
    assert shown(texts("two\n lines"), 0) == "two lines"
    assert shown(texts("x" * 300), 0, longest=5) == "xxxx…"
    assert shown(IMAGES, 1) == "photos 1"
    picture = raw(IMAGES, 1)
    assert isinstance(picture, np.ndarray) and picture.shape == (4, 4, 3) and picture[0, 0, 1] == 64


def test_vectors_that_are_none() -> None:
    """Oracle: a wrong shape; rows that are not finite are named."""
    with pytest.raises(DataError, match=r"points has the shape \(3,\)"):
        vectors(np.zeros(3), "points")
    values = np.zeros((9, 2))
    values[[1, 3, 4, 5, 6, 8]] = np.inf
    with pytest.raises(DataError, match=r"6 of the 9 features of points .* rows 1, 3, 4, 5, 6, \.\.\."):
        vectors(values, "points")


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        (texts("a", "b", "a", "A", "b"), [0, 1, 0, 3, 1]),
        (VECTORS.only(np.array([1, 0, 1, 2, 1])), [0, 1, 0, 3, 0]),
        (IMAGES.only(np.array([1, 1, 0])), [0, 0, 2]),
    ],
    ids=["texts", "vectors", "images"],
)
def test_the_first_of_equal_items(items: Texts | ImageSet | Vectors, wanted: list[int]) -> None:
    """Oracle: by hand."""
    assert first_equal(items).tolist() == wanted
