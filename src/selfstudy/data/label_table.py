"""The label of every item of a pool, how sure it is, and where it is from: what a user takes home."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from selfstudy.core.files import read_json, write_json, write_text
from selfstudy.data.image_sets import UNKNOWN

FILE, ARRAYS = "labels.csv", "labels.json"
GIVEN, CONFIRMED, PSEUDO, PREDICTED = "given", "confirmed", "pseudo", "predicted"
ASKED, PERSON, PROGRAM = "asked", "person", "program"  # by who answered


@dataclass(frozen=True)
class LabelTable:
    """One row an item of the pool.

    Attributes:
        ids: [N], what items are called.
        shown: [N], the beginning of a text, or what an image is called.
        labels: [N], numbers of classes; `UNKNOWN` where there is none.
        confidence: [N], from 0 to 1.
        sources: [N]: "given" at the start; "person", "program" or "asked" (of a hidden column) by who
            answered; "confirmed" by them; "pseudo" (the model's, trained on) or "predicted" (the model's,
            not trained on).
        classes: names.
        suspect: [N], how likely a given label is wrong; none unless a method judges them.
    """

    ids: tuple[str, ...]
    shown: tuple[str, ...]
    labels: np.ndarray
    confidence: np.ndarray
    sources: tuple[str, ...]
    classes: tuple[str, ...]
    suspect: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def by_input(self) -> np.ndarray:
        """The confidence of each item: [N]."""
        return self.confidence

    def names(self) -> list[str]:
        """Return the name of each label, empty where there is none."""
        return ["" if label == UNKNOWN else self.classes[label] for label in self.labels]

    def save(self, folder: Path) -> None:
        """Write `labels.csv` for people, and the same for `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self.to_csv())
        write_json(
            folder / ARRAYS,
            {
                "ids": self.ids,
                "shown": self.shown,
                "labels": self.labels.tolist(),
                "confidence": self.confidence.tolist(),
                "sources": self.sources,
                "classes": self.classes,
                "suspect": None if self.suspect is None else self.suspect.tolist(),
            },
        )

    def to_csv(self) -> str:
        """Return the table as CSV: item, label, confidence, source, suspect where it is known, text."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        doubt = [] if self.suspect is None else ["suspect"]
        writer.writerow(["item", "label", "confidence", "source", *doubt, "text"])
        for place, name in enumerate(self.names()):
            suspect = [] if self.suspect is None else [f"{self.suspect[place]:.4f}"]
            row = [self.ids[place], name, f"{self.confidence[place]:.4f}", self.sources[place]]
            writer.writerow([*row, *suspect, self.shown[place]])
        return file.getvalue()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / ARRAYS)
        return cls(
            ids=tuple(said["ids"]),
            shown=tuple(said["shown"]),
            labels=np.array(said["labels"], dtype=np.int64),
            confidence=np.array(said["confidence"], dtype=float),
            sources=tuple(said["sources"]),
            classes=tuple(said["classes"]),
            suspect=None if said["suspect"] is None else np.array(said["suspect"], dtype=float),
        )
