"""Pictures of the temperatures of images: how they lie, and which images have the lowest and the highest."""

from __future__ import annotations

import numpy as np

from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.image_rows import image_row, rows_picture
from selfstudy.evaluation.pictures import Picture, bars, picture

BINS = 40
SHOWN = 12  # images of a row


def temperature_histogram(temperatures: np.ndarray, first: float) -> Picture:
    """Return how many of the `temperatures` [N] lie where; `first` is where all began."""
    counts, edges = np.histogram(temperatures, bins=BINS)
    return picture(
        "Temperatures of the images",
        [bars("images", (edges[1:] + edges[:-1]) / 2, counts)],
        x="temperature",
        y="images",
        note=f"All began at {first:g}. Images with many look-alikes come to high ones, rare ones to low.",
        layout={"bargap": 0.02},
    )


def temperature_extremes(temperatures: np.ndarray, images: ImageSet) -> Picture:
    """Return the images with the highest temperatures above those with the lowest.

    Args:
        temperatures: [N].
        images: N of them.
    """
    shown = min(SHOWN, len(images))
    order = np.argsort(temperatures, kind="stable")
    rows = [image_row(images.images[at]) for at in (order[::-1][:shown], order[:shown])]
    return rows_picture(
        "Highest and lowest temperatures",
        rows,
        note=f"Above the {shown} images with the highest temperatures, from {temperatures.max():.3g} down; "
        f"below the {shown} with the lowest, from {temperatures.min():.3g} up.",
    )
