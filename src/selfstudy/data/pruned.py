"""Which labelled items are kept: the best by a score, class by class, and a table that says so."""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import safetensors.numpy

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json, write_json, write_text

FILE, CLASSES, ARRAYS = "kept.csv", "classes.json", "kept.safetensors"
_COLUMNS = ("labels", "scores", "kept", "items")
NAMED = 5  # classes that a warning names


def kept_places(
    scores: np.ndarray, labels: np.ndarray, fraction: float, *, stratified: bool = True
) -> np.ndarray:
    """Return the places of the round(f N) items with the largest scores, in order.

    >>> kept_places(np.array([0.1, 0.9, 0.8, 0.2]), np.array([0, 1, 1, 0]), 0.5).tolist()
    [1, 3]

    Args:
        scores: [N]; infinity is above all numbers. Of equals the first are kept.
        labels: [N], classes from 0.
        fraction: f, above 0 and at most 1.
        stratified: whether each class keeps its share, to within one item, and at least one item. Where
            f N is too small for that, more are kept, and a warning says so.

    Raises:
        UsageError: a fraction that is none, or that keeps nothing.
        DataError: another number of scores than of labels.
    """
    if len(scores) != len(labels):
        raise DataError(f"There are {len(scores):,} scores for {len(labels):,} items; give one for each.")
    total = _total(fraction, len(labels))
    best = np.argsort(-scores, kind="stable")
    classes, counts = np.unique(labels, return_counts=True)
    if not stratified:
        kept = np.sort(best[:total])
        _warn_of_lost(np.setdiff1d(classes, labels[kept]))
        return kept
    shares = _shares(counts, total)
    if not shares.all():
        warnings.warn(
            f"{total:,} kept items are too few for {len(classes):,} classes by their shares: one is kept of "
            f"each of the {int((shares == 0).sum())} classes that would have none.",
            stacklevel=2,
        )
    parts = [
        best[labels[best] == label][: max(1, share)] for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(parts))


def kept_count(labels: np.ndarray, fraction: float, *, stratified: bool = True) -> int:
    """Return how many items `kept_places` keeps, whatever their scores.

    Raises:
        UsageError: as there.
    """
    total = _total(fraction, len(labels))
    lost = _shares(np.unique(labels, return_counts=True)[1], total) == 0
    return total + int(lost.sum()) if stratified else total


def _total(fraction: float, count: int) -> int:
    total = round(fraction * count) if 0 < fraction <= 1 else 0
    if not total:
        raise UsageError(
            f"fraction={fraction:g} of {count:,} items keeps none of them. It must be above 0 and at most 1, "
            "and leave at least one item."
        )
    return total


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Return how many of each class, `total` in all, by the largest remainders of their exact shares."""
    exact = counts * (total / counts.sum())
    shares = np.floor(exact + 1e-9).astype(int)
    late = np.argsort(-(exact - shares), kind="stable")
    shares[late[: total - shares.sum()]] += 1
    return shares


def _warn_of_lost(classes: np.ndarray) -> None:
    if len(classes):
        named = ", ".join(map(str, classes[:NAMED])) + (" ..." if len(classes) > NAMED else "")
        warnings.warn(
            f"Nothing is kept of {len(classes)} classes (numbers {named}), which a student cannot learn "
            "then. With stratified pruning each class keeps its share.",
            stacklevel=3,
        )


@dataclass(frozen=True)
class PrunedTable:
    """One row a labelled item.

    Attributes:
        classes: names.
        labels: [N].
        scores: [N], the largest are kept.
        kept: [N], whether it is.
        items: [N], where each item lies in the set that was pruned.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    scores: np.ndarray
    kept: np.ndarray
    items: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """Of the kept items in the set that was pruned, in order."""
        return self.items[self.kept]

    def to_csv(self) -> str:
        """Return the table, the largest score first."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["item", "class", "score", "kept"])
        for at in np.argsort(-self.scores, kind="stable"):
            kept = "yes" if self.kept[at] else "no"
            writer.writerow([self.items[at], self.classes[self.labels[at]], f"{self.scores[at]:.6g}", kept])
        return file.getvalue()

    def save(self, folder: Path) -> None:
        """Write `kept.csv` for people, and the same for `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self.to_csv())
        write_json(folder / CLASSES, list(self.classes))
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _COLUMNS}
        safetensors.numpy.save_file(arrays, folder / ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        arrays = safetensors.numpy.load_file(Path(folder) / ARRAYS)
        return cls(tuple(read_json(Path(folder) / CLASSES)), **arrays)
