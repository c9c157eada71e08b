"""Training a model to regress in context: fresh problems at every step, and the weights along the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.run import Run
from selfstudy.data.regression import Batch
from selfstudy.learning.loops import check_positive, update

KIND, SEEN = "kind.json", "snapshots.safetensors"
LOGGED = 300  # points of the curve of the loss, at least


@dataclass(frozen=True, kw_only=True)
class ContextTraining:
    """Settings of the training of a regressor in context."""

    steps: int
    """Optimiser steps."""
    batch: int
    """Problems in a step, drawn afresh."""
    learning_rate: float
    """Of Adam, at its highest."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of Adam's moments."""
    clip: float = math.inf
    """Largest norm of the gradient of half the squared error."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes: it stays, or falls to 0 along half a cosine."""
    snapshots: int = 24
    """Times, evenly spaced, at which the weights are kept; first and last are more."""

    def check(self) -> None:
        """Raise a UsageError for a setting out of range."""
        check_positive(self, steps=0, batch=0, learning_rate=0, clip=0, snapshots=0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas are {self.betas}; each must be 0 or more and below 1.")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step.

        >>> training = ContextTraining(steps=4, batch=1, learning_rate=1.0, schedule="cosine")
        >>> [round(training.rate(step), 2) for step in range(4)]
        [1.0, 0.85, 0.5, 0.15]
        """
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class Trajectory:
    """A trained model and its weights along the way.

    Attributes:
        model: with its last weights.
        snapshots: step -> weights by name, from step 0 (before training) on.
        done: steps taken.
    """

    def __init__(self, model: Any, snapshots: dict[int, dict[str, Tensor]]) -> None:
        self.model, self.snapshots, self.done = model, snapshots, 0

    def at(self, step: int) -> Any:
        """Return a model with the weights before step `step`."""
        model = self.model.copy()
        model.load_state_dict(self.snapshots[step])
        return model

    def keep(self, step: int) -> None:
        """Add the weights of now as those of `step`."""
        weights = self.model.state_dict()
        self.snapshots[step] = {name: value.detach().clone() for name, value in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots and the count of steps, for a checkpoint."""
        seen = {str(step): weights for step, weights in self.snapshots.items()}
        return {"snapshots": seen, "done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.snapshots = {int(step): weights for step, weights in state_dict["snapshots"].items()}
        self.done = state_dict["done"]

    def save(self, folder: Path) -> None:
        """Write the model and the snapshots."""
        self.model.save(folder / "model")
        write_json(folder / KIND, name_class(type(self.model)))
        flat = {
            f"{step}/{name}": value.contiguous()
            for step, weights in self.snapshots.items()
            for name, value in weights.items()
        }
        safetensors.torch.save_file(flat, folder / SEEN)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        kind = find_class(read_json(folder / KIND), folder / KIND)
        snapshots: dict[int, dict[str, Tensor]] = {}
        for name, value in safetensors.torch.load_file(folder / SEEN).items():
            step, _, weight = name.partition("/")
            snapshots.setdefault(int(step), {})[weight] = value
        path = cls(kind.load(folder / "model"), dict(sorted(snapshots.items())))
        path.done = max(snapshots)
        return path


def train_in_context(
    model: Any,
    draw: Callable[[int, np.random.Generator], Batch],
    settings: ContextTraining,
    context: int,
    run: Run,
    name: str = "train",
) -> Trajectory:
    """Train a copy of `model` on fresh problems of every step.

    The gradient is that of half the squared error; the log has the squared error. Ends early, with the
    weights so far, where the budget ends.

    Args:
        model: (context, query) -> predictions, a torch module with `copy`.
        draw: (problems, generator) -> batch.
        settings: see there.
        context: examples in a problem, for what a step costs.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.

    Raises:
        UsageError: the loss or a gradient is not finite; names the step.
    """
    settings.check()
    trained = model.copy()
    trained.train()
    path = Trajectory(trained, {})
    optimizer = _adam(trained, settings)
    kept = {round(i * settings.steps / settings.snapshots) for i in range(settings.snapshots)}
    state = {"weights": trained, "optimizer": optimizer, "path": path}
    logged = max(1, settings.steps // LOGGED)
    for step in run.steps(settings.steps, state=state, desc=name, cost=step_cost(model, settings, context)):
        if step in kept:
            path.keep(step)
        batch = draw(settings.batch, run.rng(name, "batch", step))
        loss, norm = _step(trained, optimizer, batch, settings, step)
        if not (math.isfinite(norm) and math.isfinite(loss)):
            raise UsageError(
                f"At step {step} of {name!r} the loss ({loss:g}) or its gradient is not "
                "finite. Deep models with shared weights blow up where activations are not cut: give the "
                "model clip=10. Else lower the learning rate, or check the scale of the inputs."
            )
        if step % logged == 0:
            run.log(part=name, step=step, loss=loss, norm=norm)
        path.done = step + 1
    path.keep(path.done)
    trained.eval()
    return path


def trial_step(
    model: Any, draw: Callable[[int, np.random.Generator], Batch], settings: ContextTraining
) -> Callable[[], object]:
    """Return a callable that does one step on a copy of `model`, to be timed."""
    copy = model.copy()
    optimizer = _adam(copy, settings)
    rng = np.random.default_rng(0)  # of problems that are thrown away
    return lambda: _step(copy, optimizer, draw(settings.batch, rng), settings, 0)


def _adam(model: Any, settings: ContextTraining) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, betas=settings.betas)


def _step(
    model: Any, optimizer: torch.optim.Adam, batch: Batch, settings: ContextTraining, step: int
) -> tuple[float, float]:
    """Take one step; return the squared error before it, and the norm of the gradient of its half."""
    loss = nn.functional.mse_loss(model(batch.context, batch.query), batch.answer)
    (loss / 2).backward()
    norm = update(optimizer, settings.rate(step), settings.clip)
    return float(loss.detach()), norm


def step_cost(model: Any, settings: ContextTraining, context: int) -> dict[str, float]:
    """Return what a step spends: problems, and FLOPs by the usual rule, 6 a weight and token.

    Weights that several layers share count once for each of them.
    """
    used = model.weights * getattr(model, "reuse", 1)
    return {"samples": settings.batch, "flops": 6.0 * used * (context + 1) * settings.batch}
