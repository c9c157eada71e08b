"""Digits that were turned."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import image_splits
from selfstudy.data.rotated_digits import FULL, HALF, KINDS, rotated_splits, turned_digits


def test_quarter_and_half_turns_are_exact() -> None:
    """Oracle: numpy's own turns of the same images; no turn leaves them as they are, with a black margin."""
    turned = turned_digits((0, 90, 180, -90))
    upright = turned[:, 0]
    for place, quarters in enumerate((0, 1, 2, 3)):
        wanted = np.rot90(upright, quarters, (1, 2))
        assert np.abs(turned[:, place].astype(int) - wanted).max() <= 1
    splits = image_splits("digits")
    known = sum(int(np.isin(splits[split].labels, KINDS).sum()) for split in splits)
    assert upright.shape == (known, 10, 10) and not upright[:, 0].any() and upright[:, 1:-1, 1:-1].any()


def test_splits_share_no_image() -> None:
    """Oracle: each image is in one split, at all of its angles; the draw says in which."""
    splits = rotated_splits(HALF, train=500, draw=1)
    sizes = {name: len(split) // len(HALF) for name, split in splits.items()}
    assert (
        sizes["train"] == 500
        and sizes["validation"] == 100
        and sum(sizes.values()) == len(turned_digits(HALF))
    )
    upright = HALF.index(0)
    seen = {
        name: {image.tobytes() for image in split.images[split.labels == upright]}
        for name, split in splits.items()
    }
    assert not seen["train"] & seen["test"] and not seen["validation"] & seen["test"]
    other = rotated_splits(HALF, train=500, draw=2)["train"]
    assert not np.array_equal(other.images, splits["train"].images)
    assert np.array_equal(rotated_splits(HALF, train=500, draw=1)["train"].images, splits["train"].images)


def test_angles() -> None:
    """Oracle: 37 of half a circle, 36 of a whole one; classes are degrees."""
    assert len(HALF) == 37 and len(FULL) == 36
    split = rotated_splits(FULL, train=3, validation=1)["train"]
    assert split.classes[0] == "-180" and split.classes[-1] == "170" and len(split) == 3 * 36


def test_too_many_images_are_refused() -> None:
    """Oracle: one image more than there is."""
    with pytest.raises(UsageError, match="train=5000"):
        rotated_splits(HALF, train=5000)
