"""How a model is trained on each domain of a stream, and the windows of its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.learning.against_forgetting import balanced_memory
from selfstudy.learning.loops import check_positive
from selfstudy.learning.optimizers import OptimizerName


@dataclass(frozen=True, kw_only=True)
class ContinualTraining:
    """How a model is trained on each domain of a stream."""

    steps: int = 200
    """N: updates a domain, annealing included."""
    batch: int = 24
    """Windows an update."""
    context: int = 96
    """Tokens of a window that are predicted."""
    branch: bool = True
    """Anneal on a copy, and go on from before; else go on from the annealed weights."""
    replay: float = 0.0
    """Share of a batch that is drawn from earlier domains of the same run."""
    against: Literal["nothing", "mas", "lwf", "gdumb"] = "nothing"
    """What else holds against forgetting: "mas" keeps weights near that mattered to earlier domains of the
    same run, "lwf" keeps features, "gdumb" begins anew in every domain and trains on its memory alone."""
    strength: float = 1.0
    """Weight of the term of "mas" or "lwf"."""
    memory: int = 512
    """Windows in the memory of "gdumb"."""
    optimizer: OptimizerName = "adamw"
    """Its moments go on from domain to domain."""
    betas: tuple[float, float] | None = (0.9, 0.95)
    """Of its two moments; None is its own."""
    weight_decay: float = 0.1
    """Of all weights but biases and normalisation."""
    clip: float = 1.0
    """Largest norm of the gradient."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, steps=0, batch=0, context=0, clip=0, strength=0, memory=0)
        replayed = round(self.replay * self.batch)
        if not 0 <= self.replay < 1 or (self.replay and not 0 < replayed < self.batch):
            raise UsageError(
                f"A replay of {self.replay:g} is {replayed} of {self.batch} windows: it must be a share from "
                "0 to below 1 that leaves windows of both kinds in a batch."
            )
        if self.replay and self.against == "gdumb":
            raise UsageError("gdumb trains on its memory alone: leave replay at 0.")
        if self.weight_decay < 0:
            raise UsageError(f"weight_decay is {self.weight_decay:g}; it must be at least 0.")


class Windows(NamedTuple):
    """Where the tokens of a batch come from."""

    tokens: Sequence[np.ndarray]
    """Of each domain."""
    starts: Sequence[np.ndarray] | None = None
    """Where windows may begin, by domain; None is anywhere."""

    def batch(self, run: Run, task: int, n: int, settings: ContinualTraining) -> torch.Tensor:
        """Return the windows [B, T + 1] of update `n` of a domain: a function of the seed and these alone."""
        rng, size, length = run.rng("windows", task, n), settings.batch, settings.context
        if self.starts is not None:
            domains = rng.integers(task + 1, size=size)
            begins = [int(rng.choice(self.starts[domain])) for domain in domains]
        else:
            replayed = round(settings.replay * size) if task else 0
            domains = np.concatenate(
                [np.full(size - replayed, task), rng.integers(max(task, 1), size=replayed)]
            )
            begins = [int(rng.integers(len(self.tokens[domain]) - length)) for domain in domains]
        rows = [
            self.tokens[domain][begin : begin + length + 1]
            for domain, begin in zip(domains, begins, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))


def windows_of(run: Run, domains: Sequence[np.ndarray], k: int, settings: ContinualTraining) -> Windows:
    """Return what domain `k` is trained on: the domains up to it, or where "gdumb" remembers them."""
    if settings.against != "gdumb":
        return Windows(domains)
    lengths = [len(tokens) for tokens in domains[: k + 1]]
    starts = balanced_memory(
        lengths, settings.memory, settings.context + 1, lambda task: run.rng("memory", task)
    )
    return Windows(domains, starts)
