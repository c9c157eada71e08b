"""One stage of training: items and what is to be told of them, a loss, a learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.best_weights import BestWeights
from selfstudy.learning.loops import batch_indices, check_positive, learning_rate, seeded, update
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer

CLIP = 1.0  # of the gradient's norm
WARMUP = 0.1  # share of the steps of the linear schedule
LOOKS = 10  # times that held-out items are looked at


def class_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return -(1/n) sum q_c log p_c of logits [n, C] and probabilities q [n, C]; hard labels are one-hot."""
    return functional.cross_entropy(scores, targets)


def number_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of [n, d]."""
    return functional.mse_loss(scores, targets)


def tag_loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over tokens, of [n, T, C]; tokens whose target is all 0 are left out."""
    told = -(targets * scores.log_softmax(2)).sum(2)
    return told.sum() / targets.sum().clamp(min=1)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "classes": class_loss,
    "numbers": number_loss,
    "tags": tag_loss,
}


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """How long and how a stage trains."""

    steps: int = 600
    """Optimiser steps; 0 leaves the network as it is."""
    learning_rate: float = 1e-3
    """Its peak."""
    batch: int = 64
    """Items a step; all, where there are fewer."""
    schedule: Literal["constant", "linear"] = "constant"
    """Of the learning rate: the same throughout, or up over a tenth of the steps and then down to 0."""
    weight_decay: float = 0.01
    """Of all weights."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, batch=0)
        check_optimizer(self.optimizer, self.betas)
        if not (self.steps >= 0 and self.learning_rate >= 0 and self.weight_decay >= 0):
            raise UsageError(
                f"StageTraining has steps {self.steps}, learning-rate {self.learning_rate} and weight-decay "
                f"{self.weight_decay}: all must be at least 0."
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if self.schedule == "constant":
            return self.learning_rate
        return learning_rate(step, self.steps, self.learning_rate, WARMUP)


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: of the stage in the run.
        stream: of its random streams: stages that differ in their data alone share it.
        places: [n], of the items that are trained on; an item may be there more than once.
        targets: [n, C] probabilities of classes, [n, d] numbers or [n, T, C] probabilities of tags.
        training: how long and how.
        loss: a key of `LOSSES`.
        hidden: share of each input that is hidden from the network.
    """

    name: str
    stream: str
    places: np.ndarray
    targets: torch.Tensor
    training: StageTraining
    loss: str = "classes"
    hidden: float = 0.0


def train_stage(
    run: Run,
    network: nn.Module,
    scores: Callable[[np.ndarray], torch.Tensor],
    stage: Stage,
    *,
    quality: Callable[[], float] | None = None,
    beside: Callable[[int, np.ndarray], torch.Tensor] | None = None,
) -> dict[str, Any]:
    """Train `network` in place; within a stage of the run.

    Args:
        run: within a stage of its own.
        network: all that is trained.
        scores: from places [B] to what the network says of those items.
        stage: what is trained on.
        quality: a figure of held-out items, from 0; the weights with the best are kept, those at the start
            among them. None keeps the last.
        beside: of a step and the places of its items, a loss that is added.

    Returns:
        "steps" done; with `quality` also "kept_at" and "accuracy".

    Raises:
        UsageError: a loss that there is not.
        DataError: the loss is not finite.
    """
    if stage.loss not in LOSSES:
        raise UsageError(f"There is no loss {stage.loss!r} of a stage: take {', '.join(LOSSES)}.")
    plan, best = stage.training, BestWeights(network)
    optimizer = named_optimizer(
        plan.optimizer, network.parameters(), plan.betas, weight_decay=plan.weight_decay, fused=False
    )
    batch, every, done = min(plan.batch, len(stage.places)), max(1, plan.steps // LOOKS), 0
    if quality:
        best.offer(quality(), 0)
    state: dict[str, Stateful] = {"network": network, "optimizer": optimizer, "best": best}
    for step in run.steps(plan.steps, state=state, desc=stage.stream, cost={"samples": batch}):
        at = batch_indices(run, stage.stream, step, len(stage.places), batch)
        network.train()
        with seeded(run.key(stage.stream, "noise", step)):
            loss = LOSSES[stage.loss](scores(stage.places[at]), stage.targets[torch.from_numpy(at)])
            if beside:
                loss = loss + beside(step, stage.places[at])
        if not torch.isfinite(loss):
            raise DataError(
                f"The loss of stage {stage.name!r} is {loss.item()} at step {step}. Lower the learning rate "
                f"({plan.learning_rate:g}), and look at the inputs."
            )
        loss.backward()
        update(optimizer, plan.rate(step), CLIP)
        run.log(step=step, loss=loss.item())
        done = step + 1
        if quality and (done % every == 0 or done == plan.steps):
            best.offer(quality(), done)
    network.eval()
    return {"steps": done, **best.bring_back()}
