"""Cheap trainings that tell how good an update program is: small perceptrons on numbers with labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.random import generator
from selfstudy.search.program_running import RunningProgram
from selfstudy.search.update_programs import UpdateProgram

LOOK = 20  # steps between two looks at whether a training has come to nothing

Split = tuple[torch.Tensor, torch.Tensor]
"""Inputs [n, d] and labels [n]."""


class ProxyTask(Protocol):
    """What a program is judged by."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def samples(self) -> int:
        """Inputs that one training sees."""

    @property
    def flops(self) -> float:
        """Operations of one training."""

    def loss(self, program: UpdateProgram, seed: int) -> float:
        """Train with the program and return the loss on held-out data, infinite where nothing came of it."""


@dataclass(frozen=True, kw_only=True)
class PerceptronProxy:
    """A perceptron with one hidden layer; the rate's share of its peak falls along half a cosine.

    Attributes:
        name: for messages.
        train: inputs and labels to train on.
        held: inputs and labels that the loss is told of.
        hidden: width.
        steps: of a training.
        batch: inputs a step.
        seconds: after which a training is given up; far above what one takes, because a training that is
            given up by the clock is not the same on another machine.
    """

    name: str
    train: Split
    held: Split
    hidden: int = 32
    steps: int = 60
    batch: int = 64
    seconds: float = 10.0
    _starts: dict[int, tuple[torch.Tensor, np.ndarray]] = field(default_factory=dict, compare=False)

    @property
    def samples(self) -> int:
        """Inputs that one training sees."""
        return self.steps * self.batch

    @property
    def flops(self) -> float:
        """Operations of one training: six for each weight of a product and each input."""
        return 6.0 * self.samples * sum(size for size in self.sizes[::2])

    @property
    def sizes(self) -> list[int]:
        """Numbers of weights: a matrix and a vector a layer."""
        inputs, classes = self.train[0].shape[1], self.classes
        return [inputs * self.hidden, self.hidden, self.hidden * classes, classes]

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(max(labels.max() for _, labels in (self.train, self.held))) + 1

    def loss(self, program: UpdateProgram, seed: int) -> float:
        """Train with the program and return the cross-entropy on held-out data."""
        weights = self.trained(program, seed)
        if weights is None:
            return math.inf
        with torch.no_grad():
            found = self._loss(weights, *self.held).item()
        return found if math.isfinite(found) else math.inf

    def trained(self, program: UpdateProgram, seed: int) -> torch.Tensor | None:
        """Return the weights [N] after training; None where they are no numbers or it took too long."""
        first, order = self._start(seed)
        rule = RunningProgram(program, self.sizes)
        inputs, labels = self.train
        w, m, v = first.clone(), torch.zeros_like(first), torch.zeros_like(first)
        begun = time.monotonic()
        for step in range(self.steps):
            at = torch.from_numpy(order[step])
            w.requires_grad_(True)
            (g,) = torch.autograd.grad(self._loss(w, inputs[at], labels[at]), w)
            w = w.detach()
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            update, m, v = rule(w, g, m, v, torch.tensor(share))
            w = w - update
            last = step == self.steps - 1
            if (last or step % LOOK == LOOK - 1) and not bool(torch.isfinite(w).all()):
                return None
            if time.monotonic() - begun > self.seconds:
                return None
        return w

    def _start(self, seed: int) -> tuple[torch.Tensor, np.ndarray]:
        """Return the first weights [N] and the inputs of each step [steps, batch] of a seed."""
        if seed not in self._starts:
            rng = generator("proxy", self.name, self.hidden, seed)
            scales = [math.sqrt(2 / self.train[0].shape[1]), 0.0, math.sqrt(1 / self.hidden), 0.0]
            parts = [
                scale * rng.standard_normal(size) for scale, size in zip(scales, self.sizes, strict=True)
            ]
            passes = -(-self.samples // len(self.train[0]))
            order = np.concatenate([rng.permutation(len(self.train[0])) for _ in range(passes)])
            order = order[: self.samples].reshape(self.steps, self.batch)
            self._starts[seed] = torch.tensor(np.concatenate(parts), dtype=torch.float32), order
        return self._starts[seed]

    def _loss(self, weights: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        first, first_bias, last, last_bias = weights.split(self.sizes)
        hidden = torch.addmm(first_bias, inputs, first.view(-1, self.hidden)).relu()
        return functional.cross_entropy(torch.addmm(last_bias, hidden, last.view(self.hidden, -1)), labels)


def standardised(train: np.ndarray, *others: np.ndarray) -> list[torch.Tensor]:
    """Return inputs of mean 0 and deviation 1 by what the training inputs have."""
    mean, deviation = train.mean(0), np.maximum(train.std(0), 1e-3)
    return [torch.tensor((part - mean) / deviation, dtype=torch.float32) for part in (train, *others)]


def fitness_of(tasks: list[Any], seeds: tuple[int, ...]) -> Callable[[UpdateProgram], float]:
    """Return a function of a program: minus its mean loss over tasks and seeds."""

    def fitness(program: UpdateProgram) -> float:
        return -float(np.mean([task.loss(program, seed) for task in tasks for seed in seeds]))

    return fitness
