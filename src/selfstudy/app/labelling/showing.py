"""Items as people see them: text, or an image as PNG, from its own file where it has one."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from selfstudy.data.image_sets import ImageSet, image_file
from selfstudy.data.items import LONGEST, Texts, Vectors, shown

LARGEST = 1024  # pixels of the longer side of an image that is sent
SMALL = 128  # pixels of the longer side below which an image is enlarged, its pixels kept as squares


@dataclass(frozen=True)
class Shown:
    """What is shown of one item.

    Attributes:
        text: of a text, or what an image or a vector is called.
        image: whether it is an image.
        small: whether that has so few pixels that it is to be enlarged.
        left_out: characters of the text beyond those that are shown.
    """

    text: str
    image: bool = False
    small: bool = False
    left_out: int = 0


def show(items: ImageSet | Texts | Vectors, place: int, file: Path | None = None) -> Shown:
    """Return what is to be seen of an item; `file` is an image's own."""
    if isinstance(items, Texts):
        text = items.texts[place]
        # Half of a surrogate pair cannot be sent.
        safe = text[:LONGEST].encode("utf-8", "replace").decode()
        return Shown(safe, left_out=max(0, len(text) - LONGEST))
    name = shown(items, place)
    image = isinstance(items, ImageSet)
    return Shown(name, image=image, small=isinstance(items, ImageSet) and file is None and _small(items))


def png(items: ImageSet, place: int, file: Path | None = None) -> bytes:
    """Return an image as a PNG file: as the run sees it, or its own file, `LARGEST` pixels a side at most.

    Raises:
        DataError: the file cannot be read any more.
    """
    from PIL import Image

    if file is None:
        pixels = items.images[place : place + 1][0].transpose(1, 2, 0)  # [H, W, C]
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    else:
        image = Image.fromarray(image_file(file))
        image.thumbnail((LARGEST, LARGEST))
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _small(items: ImageSet) -> bool:
    return max(items.shape[1:]) < SMALL
