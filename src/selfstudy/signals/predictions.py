"""Pseudo-labels: what a teacher says of unlabelled items, which of them are kept, and what to beware of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError
from selfstudy.data.image_sets import UNKNOWN

FILE = "predictions.safetensors"
ONE_CLASS = 0.95  # share of one class above which a teacher has nothing to teach
LESS_SURE = 0.2  # fall of the mean confidence that speaks for items of another kind


@dataclass(frozen=True)
class Predictions:
    """What a teacher says of M unlabelled items.

    Attributes:
        places: [M], within the pool.
        probabilities: [M, C].
    """

    places: np.ndarray
    probabilities: torch.Tensor

    @property
    def labels(self) -> np.ndarray:
        """The most likely class of each: [M]."""
        return self.probabilities.argmax(1).numpy()

    @property
    def confidence(self) -> np.ndarray:
        """How likely that class is: [M]."""
        return self.probabilities.max(1).values.numpy() if len(self.places) else np.zeros(0)

    @property
    def histogram(self) -> np.ndarray:
        """How many items are told to be of each class: [C]; the sum is M."""
        return np.bincount(self.labels, minlength=self.probabilities.shape[1])

    def save(self, folder: Path) -> None:
        """Write both arrays."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        arrays = {"places": torch.from_numpy(self.places), "probabilities": self.probabilities.contiguous()}
        safetensors.torch.save_file(arrays, Path(folder) / FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        arrays = safetensors.torch.load_file(Path(folder) / FILE)
        return cls(arrays["places"].numpy(), arrays["probabilities"])


def predict_pool(
    probabilities: Callable[[np.ndarray], torch.Tensor], places: np.ndarray, classes: Sequence[str]
) -> Predictions:
    """Return what a teacher says of the items at `places`.

    A class that no item is told to be of is worth a warning.

    Args:
        probabilities: from places [M] to the probability of each class [M, C].
        places: [M], of the unlabelled items.
        classes: names.

    Raises:
        DataError: nearly all items are told to be of one class.
    """
    found = Predictions(places, probabilities(places))
    counts = found.histogram
    if len(places) and counts.max() > ONE_CLASS * len(places):
        raise DataError(
            f"The teacher says {classes[int(counts.argmax())]!r} of {counts.max():,} of the {len(places):,} "
            "unlabelled items. Such pseudo-labels teach nothing. Give more labels of the other classes, or "
            "teach the teacher for longer."
        )
    missing = [name for name, count in zip(classes, counts, strict=True) if not count]
    if missing and len(places):
        warnings.warn(
            f"The teacher says {', '.join(map(repr, missing[:5]))} of no unlabelled item: the student learns "
            "nothing of it from pseudo-labels.",
            stacklevel=2,
        )
    return found


def warn_of_strangers(predictions: Predictions, held: torch.Tensor) -> float | None:
    """Return how much surer the teacher is of held-out labelled items than of unlabelled ones.

    Where that is much, the unlabelled items may be of another kind, and a warning says so.

    Args:
        predictions: of unlabelled items.
        held: [H, C], probabilities of labelled items that the teacher was not taught; None is returned for
            H = 0.
    """
    if not len(held) or not len(predictions.places):
        return None
    known, other = float(held.max(1).values.mean()), float(predictions.confidence.mean())
    if known - other > LESS_SURE:
        warnings.warn(
            f"The teacher is less sure of unlabelled items ({other:.2f} in the mean) than of labelled ones "
            f"that it was not taught ({known:.2f}). Some may be of none of the classes; with tau the "
            "doubtful ones are left out.",
            stacklevel=2,
        )
    return known - other


class Chosen(NamedTuple):
    """Items to train on.

    Attributes:
        places: [n], within the pool; with balancing an item may be there more than once.
        targets: [n, C], probabilities of classes.
    """

    places: np.ndarray
    targets: torch.Tensor


def choose(
    predictions: Predictions,
    *,
    tau: float = 0.0,
    soft: bool = False,
    balance: Literal["none", "sqrt"] = "none",
    rng: np.random.Generator | None = None,
) -> Chosen:
    """Return the items whose most likely class has a probability of at least `tau`, with their targets.

    Args:
        predictions: of a teacher.
        tau: least confidence; 0 keeps all, above 1 none.
        soft: whether targets are the probabilities, not the most likely class.
        balance: "sqrt" draws the items anew, so that classes are as the square roots of their numbers.
        rng: of that draw.
    """
    kept = np.flatnonzero(predictions.confidence >= tau)
    if not len(kept):
        warnings.warn(
            f"None of the {len(predictions.places):,} pseudo-labels has a confidence of tau={tau:g} or more: "
            "nothing is learnt from the pool.",
            stacklevel=2,
        )
    if balance == "sqrt" and len(kept):
        assert rng is not None
        kept = kept[balanced(predictions.labels[kept], rng)]
    found = predictions.probabilities[torch.from_numpy(kept)]
    if not soft:
        found = functional.one_hot(found.argmax(1), found.shape[1]).float()
    return Chosen(predictions.places[kept], found)


def balanced(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return places [n] of about as many items, of class c n sqrt(n_c) / sum_c sqrt(n_c) of them.

    A class that needs more than it has gives all its items so and so often before one comes once more.

    Args:
        labels: [n], classes.
        rng: of the draw.
    """
    classes, counts = np.unique(labels, return_counts=True)
    wanted = np.round(len(labels) * np.sqrt(counts) / np.sqrt(counts).sum()).astype(int)
    parts = []
    for label, count in zip(classes, wanted, strict=True):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        parts.append(np.resize(of_class, count))
    return np.sort(np.concatenate(parts))


def known(places: np.ndarray, labels: np.ndarray, classes: int) -> Predictions:
    """Return labels [M] that are sure, as predictions; items whose label is `UNKNOWN` are left out."""
    sure = labels != UNKNOWN
    told = functional.one_hot(torch.from_numpy(labels[sure]), classes).float()
    return Predictions(places[sure], told)
