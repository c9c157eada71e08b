"""Images that belong to problems: named by their content, read when they are looked at."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 2  # pixels
LONGEST_SHAPE = 200  # of the longer side to the shorter one; processors refuse more


class UnusableImage(ValueError):
    """An image that cannot be shown to a model; its text is the reason, for counts."""


@dataclass(frozen=True, slots=True)
class ProblemImage:
    """One image; two of the same content are equal."""

    name: str
    """16 hexadecimal digits of its content."""
    source: Path | bytes = field(compare=False, repr=False)
    """The image file, or what such a file would hold."""

    def opened(self) -> Image:
        """Return the image, upright, red, green and blue."""
        from PIL import Image, ImageOps

        file = io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")


def image_from(source: Path | bytes) -> ProblemImage:
    """Return an image of a file, or of what such a file would hold.

    Raises:
        UnusableImage: there is no such file, it is no image, or one of a shape that models do not take.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            sides = sorted(image.size)
    except (FileNotFoundError, IsADirectoryError):
        raise UnusableImage("without their image file") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UnusableImage("with an image that cannot be read") from None
    if sides[0] < LEAST_SIDE or sides[1] > LONGEST_SHAPE * sides[0]:
        raise UnusableImage("with an image of the wrong size")
    return ProblemImage(hashlib.blake2b(content, digest_size=8).hexdigest(), source)


def image_of(pixels: np.ndarray) -> ProblemImage:
    """Return pixels [H, W] or [H, W, 3] of bytes as an image."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return image_from(file.getvalue())


def cell_images(cell: Any, folder: Path) -> tuple[ProblemImage, ...]:
    """Return the images that a cell of a table holds or names; one, or a list of them.

    Args:
        cell: the path of a file, what such a file holds as bytes, a dictionary with one of them as "path" or
            "bytes" (as data sets of the hub have it), an image of Pillow, or a list of such.
        folder: where paths start.

    Raises:
        UnusableImage: there is none, or one cannot be used.
    """
    cells = cell if isinstance(cell, list | tuple) else [cell]
    found = tuple(_image(one, folder) for one in cells if one is not None and one != "")
    if not found:
        raise UnusableImage("without their image file")
    return found


def _image(cell: Any, folder: Path) -> ProblemImage:
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, str):
        return image_from(folder / Path(cell).expanduser())
    if isinstance(cell, bytes):
        return image_from(cell)
    if hasattr(cell, "save"):
        file = io.BytesIO()
        cell.save(file, "png")
        return image_from(file.getvalue())
    raise UnusableImage("with an image that cannot be read")
