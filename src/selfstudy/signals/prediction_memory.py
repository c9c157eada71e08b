"""What a model last said of every item: probabilities by stable place, in bounded memory, checkpointed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError

Precision = Literal["float32", "float16"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


class PredictionMemory:
    """Rows M [N, C] of probabilities, whole or the largest k of each, as a state for checkpoints.

    A row of the largest k is read with what is left of its probability spread evenly over the other classes.
    Memory is N C numbers of the precision, or N k of them with N k numbers of classes: ImageNet's 1.28
    million by 1,000 are 5.1 GB in float32, and 0.1 GB with k = 10 in float16.

    Args:
        count: N.
        classes: C.
        top: k; 0 keeps rows whole.
        precision: "float32" or "float16".

    Attributes:
        known: [N], whether a row was written; others are read as evenly spread.

    Raises:
        UsageError: sizes or a precision that cannot be.
    """

    def __init__(self, count: int, classes: int, *, top: int = 0, precision: Precision = "float32") -> None:
        if count < 1 or classes < 2 or not 0 <= top <= classes or precision not in PRECISIONS:
            raise UsageError(
                f"A memory of {count} rows of {classes} classes, top {top}, precision {precision!r} cannot "
                f"be: it needs a row, two classes, top from 0 to the classes, {' or '.join(PRECISIONS)}."
            )
        self.count, self.classes, self.top = count, classes, top
        kind = PRECISIONS[precision]
        self.known = torch.zeros(count, dtype=torch.bool)
        self.values = torch.full((count, top or classes), 1 / classes, dtype=kind)
        self.at = torch.arange(top, dtype=torch.int32).repeat(count, 1)

    def __len__(self) -> int:
        return self.count

    def read(self, places: np.ndarray) -> torch.Tensor:
        """Return the rows at these places: [B, C], float32, each of sum 1.

        Raises:
            DataError: a place that is none.
        """
        places = self._checked(places)
        values = self.values[torch.from_numpy(places)].float()
        if self.top:
            left = (1 - values.sum(1, keepdim=True)).clamp_min(0) / max(1, self.classes - self.top)
            rows = left.expand(-1, self.classes).clone()
            values = rows.scatter_(1, self.at[torch.from_numpy(places)].long(), values)
        return values / values.sum(1, keepdim=True)

    def write(self, places: np.ndarray, probabilities: torch.Tensor) -> None:
        """Put probabilities [B, C] into the rows at these places; of a place that comes twice the last.

        Raises:
            DataError: a place that is none, or another shape.
        """
        places = self._checked(places)
        rows = probabilities.detach()
        if rows.shape != (len(places), self.classes):
            raise DataError(
                f"Probabilities for {len(places)} rows of {self.classes} classes have the shape "
                f"{tuple(rows.shape)}."
            )
        if self.top:
            rows, at = rows.topk(self.top, 1)
            self.at.numpy()[places] = at.numpy()
        # Assignment of numpy takes the last of equal places; that of torch leaves it open.
        self.values.numpy()[places] = rows.to(self.values.dtype).numpy()
        self.known.numpy()[places] = True

    def _checked(self, places: np.ndarray) -> np.ndarray:
        places = np.asarray(places)
        if places.dtype.kind not in "iu":
            raise DataError(f"Places in a memory are whole numbers; these are {places.dtype}.")
        if len(places) and not 0 <= places.min() <= places.max() < self.count:
            raise DataError(
                f"The memory has {self.count} rows, 0 to {self.count - 1}, and is asked for those from "
                f"{places.min()} to {places.max()}. Give every item its place in the data."
            )
        return places

    def state_dict(self) -> dict[str, Any]:
        """Return the rows."""
        return {"values": self.values, "at": self.at, "known": self.known}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            DataError: it is of another number of rows, or of another form.
        """
        if len(state_dict["known"]) != self.count:
            raise DataError(
                f"The memory has {len(state_dict['known'])} rows, and the data now have {self.count}: it "
                "tells what was said of each item by its place. Go on with the data it was made of."
            )
        kept = state_dict["values"]
        if kept.shape != self.values.shape or kept.dtype != self.values.dtype:
            raise DataError(
                f"The memory was kept as {tuple(kept.shape)} {kept.dtype}, and is now asked to be "
                f"{tuple(self.values.shape)} {self.values.dtype}. Go on with its settings."
            )
        for name, value in state_dict.items():
            setattr(self, name, value.clone())


def numbered(ids: Sequence[Hashable | None]) -> dict[Hashable, int]:
    """Return the place of each id, for data that come with ids of their own.

    >>> numbered(["cat.png", "dog.png"])["dog.png"]
    1

    Raises:
        DataError: an id is missing, or comes twice.
    """
    found: dict[Hashable, int] = {}
    for place, name in enumerate(ids):
        if name is None:
            raise DataError(f"Item {place} has no id. A memory needs a stable one of every item.")
        if name in found:
            raise DataError(
                f"The id {name!r} is that of item {found[name]} and of item {place}. Give each its own, or "
                "leave one out."
            )
        found[name] = place
    return found
