"""Inputs as their own features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Vectors
from selfstudy.models.encoders.features import features_of
from selfstudy.models.encoders.flat import FlatEncoder

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def vectors(values: np.ndarray) -> Vectors:
    return Vectors("v", values, np.full(len(values), -1))


def test_vectors_and_pixels_are_handed_on(tmp_path: Path) -> None:
    """Oracle: the numbers; of images, over 255, channel by channel."""
    encoder = selfstudy.model("flat").made_for(vectors(VALUES))
    assert encoder.width == 4 and encoder.weights == 0
    assert np.array_equal(features_of(encoder, vectors(VALUES)).numpy(), VALUES)
    assert np.array_equal(encoder.embed(VALUES), VALUES)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2), np.uint8)
    images = ImageSet("i", pixels, np.zeros(5, np.int64), ())
    made = FlatEncoder().made_for(images)
    expected = pixels.reshape(5, 12) / 255
    assert made.width == 12 and np.allclose(features_of(made, images).numpy(), expected, atol=1e-6)
    assert np.allclose(made.embed(pixels.transpose(0, 2, 3, 1)), expected, atol=1e-6)
    made.save(tmp_path / "saved")
    assert selfstudy.model(str(tmp_path / "saved")).config == made.config


def test_other_widths_are_refused() -> None:
    """Oracle: both widths in the message."""
    made = FlatEncoder().made_for(vectors(VALUES))
    with pytest.raises(UsageError, match="takes 4 numbers; those of 'v' are 2"):
        made.made_for(vectors(VALUES[:, :2]))
    with pytest.raises(UsageError, match="width=-1"):
        selfstudy.model("flat?width=-1")
    with pytest.raises(DataError, match="not finite"):
        made.embed(np.full((2, 4), np.nan))
