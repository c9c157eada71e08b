"""The weights with the best figure so far: early stopping that can be checkpointed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class BestWeights:
    """Keeps a module's weights whenever a figure is as good as the best so far; of equals the latest.

    Args:
        module: whose weights are kept and brought back.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: dict[str, torch.Tensor] = {}
        self._best, self._step = -1.0, 0

    @property
    def step(self) -> int:
        """The step of the best figure so far."""
        return self._step

    def offer(self, figure: float, step: int) -> None:
        """Keep the weights of now, after `step` steps, if `figure` (0 or more) is as good as any before."""
        if figure >= self._best:
            self._best, self._step = figure, step
            self._kept = {name: value.detach().clone() for name, value in self._module.state_dict().items()}

    def bring_back(self) -> dict[str, Any]:
        """Put the kept weights in; return "kept_at", their step, and "accuracy". Nothing where none are."""
        if not self._kept:
            return {}
        self._module.load_state_dict(self._kept)
        return {"kept_at": self._step, "accuracy": self._best}

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {"kept": self._kept, "best": self._best, "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._kept = state_dict["kept"]
        self._best, self._step = state_dict["best"], state_dict["step"]
