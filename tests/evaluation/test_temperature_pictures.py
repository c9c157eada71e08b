"""Pictures of temperatures: counts, and which images are shown where."""

from __future__ import annotations

import numpy as np

from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.image_rows import GAP
from selfstudy.evaluation.temperature_pictures import (
    SHOWN,
    temperature_extremes,
    temperature_histogram,
)


def images(count: int, channels: int = 1) -> ImageSet:
    """Image i is all i."""
    values = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return ImageSet("flat", np.broadcast_to(values, (count, channels, 4, 4)), np.full(count, -1))


def test_all_images_are_counted() -> None:
    """Oracle: the counts sum to the images, and the bars lie between the extremes."""
    found = temperature_histogram(np.linspace(0.1, 0.5, 77), 0.2)
    (bars,) = found["traces"]
    assert sum(bars["y"]) == 77 and 0.1 < min(bars["x"]) < max(bars["x"]) < 0.5
    assert "0.2" in found["note"]


def test_the_highest_are_above_the_lowest() -> None:
    """Oracle: temperature = number of the image, which is its grey value: read off the mosaic."""
    for channels in (1, 3):
        found = temperature_extremes(np.arange(40.0), images(40, channels))
        mosaic = np.array(found["traces"][0]["z"])
        assert mosaic.shape == (4 + GAP + 4, SHOWN * (4 + GAP), 3)
        assert mosaic[0, :: 4 + GAP, 0].tolist() == list(range(39, 39 - SHOWN, -1))
        assert mosaic[-1, :: 4 + GAP, 2].tolist() == list(range(SHOWN))


def test_fewer_images_than_a_row() -> None:
    """Oracle: each image once in each row."""
    mosaic = np.array(temperature_extremes(np.arange(3.0), images(3))["traces"][0]["z"])
    assert mosaic.shape[1] == 3 * (4 + GAP)
