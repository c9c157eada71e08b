"""What is kept of a meta-training: the sequence model, its losses, and what it could do on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch.nn import functional

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.files import read_json, write_json
from selfstudy.models.in_context.sequences import SequenceModel

TRACE = "trace.json"


def sequence_loss(model: SequenceModel, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the labels in nats, the mean over sequences and positions.

    Args:
        model: tells labels.
        inputs: [B, L, m'].
        labels: [B, L].
    """
    return functional.cross_entropy(model(inputs, labels).flatten(0, 1), labels.flatten())


@dataclass
class Trace:
    """What was seen during a training; part of its checkpoints."""

    losses: list[float] = field(default_factory=list)
    """One a step."""
    looks: list[dict[str, Any]] = field(default_factory=list)
    """Measurements, each with the number of steps done before it as `step`."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"losses": self.losses, "looks": self.looks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.losses, self.looks = list(state_dict["losses"]), list(state_dict["looks"])


@dataclass(frozen=True)
class MetaTrained:
    """A trained sequence model with its trace, as the result of a stage."""

    model: SequenceModel
    trace: Trace

    def save(self, folder: Path) -> None:
        """Write the model and the trace."""
        self.model.save(folder / "model")
        kind = name_class(type(self.model))
        write_json(folder / TRACE, {"kind": kind, **self.trace.state_dict()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        content = read_json(folder / TRACE)
        model = find_class(content.pop("kind"), folder / TRACE).load(folder / "model")
        trace = Trace()
        trace.load_state_dict(content)
        return cls(model, trace)
