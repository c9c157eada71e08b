"""Items of a pool: texts, vectors or images, with their labels where there are any."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError
from selfstudy.data.image_sets import UNKNOWN, ImageSet

LONGEST = 20_000  # characters of a text that are read; no encoder looks further


class Items(Protocol):
    """What texts, vectors and `ImageSet` share: places, names, labels [N] and the names of classes."""

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int: ...

    def only(self, at: np.ndarray | slice) -> Self:
        """Return the items at these places."""
        ...


@dataclass(frozen=True)
class Texts:
    """Texts with their labels.

    Attributes:
        name: of the set.
        texts: N of them.
        labels: [N], int64, from 0; `UNKNOWN` where there is none.
        classes: the names of the labels.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, at: np.ndarray | slice) -> Texts:
        """Return the texts at these places."""
        places = np.arange(len(self))[at]
        return Texts(self.name, tuple(self.texts[place] for place in places), self.labels[at], self.classes)


@dataclass(frozen=True)
class Vectors:
    """Vectors with their labels: features that were made elsewhere.

    Attributes:
        name: of the set.
        values: [N, d], float32.
        labels: [N], int64, from 0; `UNKNOWN` where there is none.
        classes: the names of the labels.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def only(self, at: np.ndarray | slice) -> Vectors:
        """Return the vectors at these places."""
        return Vectors(self.name, self.values[at], self.labels[at], self.classes)


def unlabelled(items: ImageSet | Texts | Vectors) -> ImageSet | Texts | Vectors:
    """Return the same items without their labels and without the names of classes."""
    return replace(items, labels=np.full(len(items), UNKNOWN), classes=())


def fingerprint(items: ImageSet | Texts | Vectors) -> str:
    """Return 32 hexadecimal digits that depend on the inputs alone, not on labels or names."""
    digest = hashlib.blake2b(type(items).__name__.encode(), digest_size=16)
    if isinstance(items, Texts):
        for text in items.texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
    elif isinstance(items, Vectors):
        digest.update(str(items.values.shape).encode() + np.ascontiguousarray(items.values).tobytes())
    else:
        digest.update(str(items.images.shape).encode())
        for start in range(0, len(items), 1024):
            digest.update(np.ascontiguousarray(items.images[start : start + 1024]).tobytes())
    return digest.hexdigest()


def first_equal(items: ImageSet | Texts | Vectors) -> np.ndarray:
    """Return for each item the place of the first one with the same input: [N], int64."""
    if isinstance(items, Texts):
        seen: dict[object, int] = {}
        return np.array([seen.setdefault(text, place) for place, text in enumerate(items.texts)])
    values = items.values if isinstance(items, Vectors) else items.images
    rows = np.ascontiguousarray(values).reshape(len(items), -1).view(np.uint8)
    whole = rows.view(np.dtype((np.void, rows.shape[1])))[:, 0]
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    return first[group]


def raw(items: ImageSet | Texts | Vectors, place: int) -> str | np.ndarray:
    """Return an item as people and programs are shown it: a text, an image [H, W, C], or a vector [d]."""
    if isinstance(items, Texts):
        return items.texts[place]
    if isinstance(items, Vectors):
        return items.values[place]
    return np.ascontiguousarray(items.images[place : place + 1])[0].transpose(1, 2, 0)


def shown(items: ImageSet | Texts | Vectors, place: int, longest: int = 200) -> str:
    """Return an item as a line of text: the beginning of a text, or what an image or a vector is called."""
    if not isinstance(items, Texts):
        return f"{items.name} {place}"
    line = " ".join(items.texts[place].split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def vectors(values: np.ndarray, name: str = "vectors", labels: Sequence[int] | None = None) -> Vectors:
    """Return an array as vectors.

    Raises:
        DataError: it is no array [N, d], or has values that are not finite.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or not len(values):
        raise DataError(f"{name} has the shape {values.shape}; give vectors as [N, d], at least one.")
    require_finite(torch.from_numpy(values), name)
    known = np.full(len(values), UNKNOWN) if labels is None else np.asarray(labels, dtype=np.int64)
    return Vectors(name, values, known)


def require_finite(features: torch.Tensor, name: str) -> None:
    """Refuse features [N, d] that are not finite.

    Raises:
        DataError: names how many rows, and the first ones.
    """
    wrong = (~torch.isfinite(features).all(1)).nonzero()[:, 0].tolist()
    if wrong:
        rows = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
        raise DataError(
            f"{len(wrong)} of the {len(features)} features of {name} are not finite numbers: rows {rows}. "
            "Leave these items out, or mend what made their features."
        )
