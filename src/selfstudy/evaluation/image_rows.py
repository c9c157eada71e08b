"""Small images side by side, as one picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, picture

GAP = 2  # pixels between them


def image_row(images: np.ndarray) -> np.ndarray:
    """Return images [n, C, H, W] side by side as [H, width, 3] bytes."""
    colour = np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
    framed = np.pad(colour, ((0, 0), (0, 0), (0, 0), (0, GAP)), constant_values=255)
    return framed.transpose(2, 0, 3, 1).reshape(images.shape[2], -1, 3)


def rows_picture(title: str, rows: list[np.ndarray], *, note: str = "") -> Picture:
    """Return rows of images, one below the other.

    Args:
        title: above the picture.
        rows: as `image_row` makes them, of one size.
        note: what is to be seen.
    """
    parts = [part for row in rows for part in (row, np.full_like(row[:GAP], 255))][:-1]
    bare: dict[str, Any] = {"visible": False}
    return picture(
        title,
        [{"type": "image", "z": np.concatenate(parts).tolist(), "hoverinfo": "skip"}],
        note=note,
        layout={"xaxis": bare, "yaxis": {**bare, "scaleanchor": "x"}},
    )
