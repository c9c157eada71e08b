"""The whole state of a training as one file tree: weights, the optimiser's moments, and where it was."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from selfstudy.core import checkpoint
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.models.language.model import LanguageModel

PLACE, MODEL, MOMENTS = "place.json", "model", "optimizer"


@dataclass(frozen=True)
class Snapshot:
    """A model that training can go on from.

    Attributes:
        model: its weights.
        moments: the optimiser's state; empty before any training.
        place: JSON data that say where training was: the task, the update of it, and how many it has; empty
            before any training.
    """

    model: LanguageModel
    moments: dict[str, Any] = field(default_factory=dict)
    place: dict[str, Any] = field(default_factory=dict)

    def give(self, optimizer: torch.optim.Optimizer) -> None:
        """Copy the moments into an optimiser of the model's copy; this state stays as it is."""
        if self.moments:
            optimizer.load_state_dict(copy.deepcopy(self.moments))

    def save(self, folder: Path) -> None:
        """Write the model in the hub's layout, the moments and the place."""
        folder = Path(folder)
        self.model.save(folder / MODEL)
        checkpoint.save_state(folder / MOMENTS, {"optimizer": _Kept(self.moments)}, {})
        write_json(folder / PLACE, self.place)

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        """Read what `save` wrote.

        Raises:
            UsageError: the folder holds no snapshot.
        """
        folder, place = Path(folder), read_place(folder)
        kept = _Kept({})
        checkpoint.load_state(folder / MOMENTS, {"optimizer": kept})
        return cls(LanguageModel.load(folder / MODEL), kept.state, place)


def read_place(folder: Path) -> dict[str, Any]:
    """Return the place of a saved snapshot.

    Raises:
        UsageError: the folder holds none.
    """
    if not (folder / PLACE).is_file():
        raise UsageError(
            f"The start {folder} holds no snapshot of a training. Give a folder such as "
            "runs/first/stages/train-2."
        )
    return dict(read_json(folder / PLACE))


class _Kept:
    """A state dictionary as something that can be checkpointed."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict
