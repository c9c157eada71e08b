"""What a training found out about each given label: a table for people, and arrays for programs."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import safetensors.numpy

from selfstudy.core.files import read_json, write_json, write_text

FILE, NAMES, ARRAYS = "samples.csv", "samples.json", "samples.safetensors"
HISTORY = "history "
_COLUMNS = ("given", "noisy", "weight", "guesses", "loss", "pseudo_loss", "ood_score", "suspect")


@dataclass(frozen=True)
class SampleTable:
    """One row an item with a given label.

    Attributes:
        ids: [N], what items are called.
        classes: names.
        given: [N], labels.
        noisy: [N], whether the label is taken to be wrong.
        weight: [N], how much the label counts in training, or the guess in its place.
        guesses: [N, C], the probability of each class that was last guessed.
        loss: [N], cross-entropy of the given label.
        pseudo_loss: [N], cross-entropy of the guess.
        ood_score: [N], how likely an item lies beyond the hyperplane that clean ones are on this side of.
        suspect: [N], how likely the label is wrong, by all detectors that were asked.
        history: by detector, its scores [E, N] in E epochs.
        epochs: by detector, which epochs [E].
    """

    ids: tuple[str, ...]
    classes: tuple[str, ...]
    given: np.ndarray
    noisy: np.ndarray
    weight: np.ndarray
    guesses: np.ndarray
    loss: np.ndarray
    pseudo_loss: np.ndarray
    ood_score: np.ndarray
    suspect: np.ndarray
    history: dict[str, np.ndarray] = field(default_factory=dict)
    epochs: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def by_input(self) -> np.ndarray:
        """How likely each label is wrong: [N]."""
        return self.suspect

    def to_csv(self) -> str:
        """Return the table, the most suspect label first, the guess by its most likely class."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        heads = ["item", "given", "guess", "guess_probability", "is_noisy", "suspect", "weight", "loss"]
        writer.writerow([*heads, "pseudo_loss", "ood_score"])
        best = self.guesses.argmax(1)
        for at in np.argsort(-self.suspect, kind="stable"):
            numbers = [self.suspect[at], self.weight[at], self.loss[at], self.pseudo_loss[at]]
            writer.writerow(
                [
                    self.ids[at],
                    self.classes[self.given[at]],
                    self.classes[best[at]],
                    f"{self.guesses[at, best[at]]:.4f}",
                    "yes" if self.noisy[at] else "no",
                    *(f"{number:.4f}" for number in [*numbers, self.ood_score[at]]),
                ]
            )
        return file.getvalue()

    def save(self, folder: Path) -> None:
        """Write `samples.csv` for people, and the same for `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self.to_csv())
        write_json(folder / NAMES, {"ids": self.ids, "classes": self.classes, "epochs": self.epochs})
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _COLUMNS}
        past = {HISTORY + name: np.ascontiguousarray(scores) for name, scores in self.history.items()}
        safetensors.numpy.save_file({**arrays, **past}, folder / ARRAYS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / NAMES)
        arrays = safetensors.numpy.load_file(Path(folder) / ARRAYS)
        return cls(
            ids=tuple(said["ids"]),
            classes=tuple(said["classes"]),
            epochs=said["epochs"],
            # In the order that they had, which the arrays do not keep: a resumed run tells the same.
            history={name: arrays[HISTORY + name] for name in said["epochs"]},
            **{name: arrays[name] for name in _COLUMNS},
        )
