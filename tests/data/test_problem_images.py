"""Images of problems: named by content, read from everything that tables hold, refused by reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfstudy.data.problem_images import UnusableImage, cell_images, image_from, image_of

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def file(pixels: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", **options)
    return out.getvalue()


def test_pixels_come_back() -> None:
    """Oracle: the pixels themselves; grey ones three times; equal content is equal, other content is not."""
    assert (np.asarray(image_of(PIXELS).opened()) == PIXELS).all()
    grey = np.asarray(image_of(PIXELS[..., 0]).opened())
    assert (grey == PIXELS[..., :1]).all() and grey.shape == (4, 4, 3)
    assert image_of(PIXELS) == image_of(PIXELS.copy()) != image_of(PIXELS + 1)
    assert len({image_of(PIXELS), image_of(PIXELS.copy())}) == 1


def test_what_a_cell_may_hold(tmp_path: Path) -> None:
    """Oracle: the same image by path, by bytes, as the hub has it, as an object; lists keep their order."""
    (tmp_path / "a.png").write_bytes(file(PIXELS))
    (tmp_path / "b.png").write_bytes(file(PIXELS + 1))
    one, content = cell_images("a.png", tmp_path), file(PIXELS)
    for cell in (content, {"bytes": content, "path": None}, {"bytes": None, "path": "a.png"}):
        assert cell_images(cell, tmp_path) == one
    held = cell_images(Image.fromarray(PIXELS), tmp_path)[0]
    assert (np.asarray(held.opened()) == PIXELS).all()
    two = cell_images(["b.png", "a.png"], tmp_path)
    assert two[1:] == one and two[0] != one[0]


def test_upright() -> None:
    """Oracle: a picture that its file says to turn by a quarter: sides change places."""
    turned = Image.Exif()
    turned[0x0112] = 6
    image = image_from(file(np.zeros((4, 8, 3), np.uint8), exif=turned.tobytes()))
    assert image.opened().size == (4, 8)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", "without their image file"),
        (None, "without their image file"),
        ([], "without their image file"),
        ("none.png", "without their image file"),
        (b"no image", "cannot be read"),
        (7, "cannot be read"),
        (file(np.zeros((1, 4, 3), np.uint8)), "wrong size"),
        (file(np.zeros((2, 402, 3), np.uint8)), "wrong size"),
    ],
)
def test_refusals(cell: object, reason: str, tmp_path: Path) -> None:
    """Oracle: one cell of each kind of fault."""
    with pytest.raises(UnusableImage, match=reason):
        cell_images(cell, tmp_path)
