"""Small networks that are made from scratch: named by their configuration, saved with it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
from torch import nn

from selfstudy.core.errors import MachineError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.random import stream_key

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class SmallModel(nn.Module):
    """What small networks share: a name, a count of weights, and saving.

    A subclass sets `kind`, its name in `selfstudy.models.loading.NAMES`, and hands the keyword arguments of
    its constructor to this one. It draws its first weights from `self.generator()`.

    Args:
        config: all keyword arguments of the subclass, plain values; `seed` names the first weights.
    """

    kind: ClassVar[str]

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config

    @property
    def name(self) -> str:
        """The specification that makes this model anew, with its first weights."""
        return f"{self.kind}?{'&'.join(f'{field}={value}' for field, value in self.config.items())}"

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.parameters())

    def generator(self) -> torch.Generator:
        """Return the stream that first weights are drawn from; it depends on kind and `seed` alone."""
        key = stream_key("weights", self.kind, self.config.get("seed", 0))
        return torch.Generator().manual_seed(key >> 1)

    def copy(self) -> Self:
        """Return a model with weights of its own."""
        return copy.deepcopy(self)

    def save(self, folder: Path) -> None:
        """Write configuration (JSON) and weights (safetensors)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, {"kind": self.kind, **self.config})
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MachineError: the folder holds a model of another kind.
        """
        config = read_json(Path(folder) / CONFIG)
        kind = config.pop("kind")
        if kind != cls.kind:
            raise MachineError(f"{folder} holds a model {kind!r}, not {cls.kind!r}.")
        model = cls(**config)
        model.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS))
        return model
