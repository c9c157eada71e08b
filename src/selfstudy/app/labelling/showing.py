"""Items as people see them: text, or an image as PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass

from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import LONGEST, Texts, Vectors, shown

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


def show(items: ImageSet | Texts | Vectors, place: int) -> Shown:
    """Return what is to be seen of an item."""
    if isinstance(items, Texts):
        text = items.texts[place]
        # Half of a surrogate pair cannot be sent.
        safe = text[:LONGEST].encode("utf-8", "replace").decode()
        return Shown(safe, left_out=max(0, len(text) - LONGEST))
    name = shown(items, place)
    return Shown(name, image=isinstance(items, ImageSet), small=isinstance(items, ImageSet) and _small(items))


def png(items: ImageSet, place: int) -> bytes:
    """Return an image as a PNG file."""
    from PIL import Image

    pixels = items.images[place : place + 1][0].transpose(1, 2, 0)  # [H, W, C]
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def _small(items: ImageSet) -> bool:
    return max(items.shape[1:]) < SMALL
