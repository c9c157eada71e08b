"""The command line with a method that asks people and learns a majority: `python asking.py label DIR`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.app.cli import main
from selfstudy.app.labelling import training
from selfstudy.core.index import METHODS, Entry
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN


class Common:
    """A model that says the same of everything."""

    name, parameters = "common", 1

    def __init__(self, label: int) -> None:
        self.label = label

    def classify(self, items: Any) -> torch.Tensor:
        return torch.full((len(items),), self.label)

    def save(self, folder: Path) -> None:
        (folder / "label.json").write_text(json.dumps(self.label))

    @classmethod
    def load(cls, folder: Path) -> Common:
        return cls(json.loads((folder / "label.json").read_text()))


@dataclass(frozen=True, kw_only=True)
class Asking(Method):
    """Asks for the first items that have no label, and learns which label is most common."""

    rounds: int = 2
    """Queries."""
    size: int = 3
    """Items of a query."""
    fails: bool = False
    """Whether the first training on answers fails."""
    allow_new: bool = False
    """Whether an answer may be a new class."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        labels, classes = task.given.copy(), task.classes
        unknown = np.flatnonzero(labels == UNKNOWN)
        for r in range(self.rounds):
            at = unknown[r * self.size : (r + 1) * self.size]
            guesses = np.linspace(1, 2, len(at) * len(classes)).reshape(len(at), -1)
            guesses /= guesses.sum(1, keepdims=True)
            labels[at], classes = task.ask(
                run, f"round-{r}", at, guesses=guesses, classes=classes, allow_new=self.allow_new
            )
            if self.fails and not (run.directory / "failed").exists():
                (run.directory / "failed").touch()
                raise RuntimeError("no more memory")
            known = labels[labels != UNKNOWN]
            run.log(
                labels=len(known), validation_accuracy=float(np.mean(known == np.bincount(known).argmax()))
            )
        return Fit(model=Common(int(np.bincount(known).argmax())), metrics={"labels": labels.tolist()})


ENTRY = Entry(
    slug="asking",
    title="T",
    authors="A",
    year=2026,
    family="fakes",
    needs="n",
    gives="g",
    target=f"{__name__}:Asking",
    model="words",
)

if __name__ == "__main__":
    METHODS["asking"] = ENTRY
    training.COMMAND = (sys.executable, __file__, "resume")
    sys.exit(main())
