"""Targets that turn from the label to what the model itself said an epoch ago: PS-KD.

Kim, Ji, Yoon, Hwang 2021, "Self-Knowledge Distillation with Progressive Refinement of Targets",
arXiv 2006.12000. In all functions y are one-hot labels [B, C] and m the predictions of before [B, C].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.signals.prediction_memory import Precision, PredictionMemory

Shape = Literal["linear", "constant"]
# alpha of epoch t of T, as a share of the last one.
SHAPES: dict[str, Callable[[int, int], float]] = {
    "linear": lambda epoch, epochs: (epoch + 1) / epochs,
    "constant": lambda epoch, epochs: 1.0,
}


def alpha_at(epoch: int, epochs: int, last: float, shape: Shape = "linear") -> float:
    """Return the weight of the predictions in epoch t, from 0, of T: alpha_T (t + 1) / T, or alpha_T.

    >>> alpha_at(299, 300, 0.8)
    0.8
    """
    return last * SHAPES[shape](epoch, epochs)


def refined(hard: torch.Tensor, previous: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return (1 - alpha) y + alpha m: [B, C]."""
    return (1 - alpha) * hard + alpha * previous


def hard_targets(labels: torch.Tensor, classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """Return labels [B] as one-hot rows, of which `smoothing` is spread over all classes: [B, C], float32.

    Raises:
        DataError: labels that are no classes.
    """
    if labels.is_floating_point():
        raise DataError(
            "The labels are numbers, and targets are mixed from classes. For numbers to be told take "
            "guided-self-distillation."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"Labels go from {int(labels.min())} to {int(labels.max())}, and there are {classes} classes, 0 "
            f"to {classes - 1}."
        )
    hard = functional.one_hot(labels, classes).float()
    return (1 - smoothing) * hard + smoothing / classes if smoothing else hard


class PSKDTargets:
    """The targets of every epoch, with the memory of what was said of each item; a state for checkpoints.

        targets = PSKDTargets(len(labels), classes, epochs=60)
        wanted = targets.targets(places, labels[places], epoch)
        loss = soft_cross_entropy(scores, wanted).mean()
        targets.update(places, scores.softmax(1))

    In the first epoch, and for an item never seen, the target is the label itself.

    Args:
        n: number of items.
        c: number of classes.
        alpha_T: weight of the predictions in the last epoch, 0 to 1.
        epochs: T.
        storage: "dense", or "topk" for the `top` largest probabilities of each.
        shape: of alpha over the epochs.
        top: k.
        precision: of what is kept.
        smoothing: of the labels.

    Raises:
        UsageError: numbers that cannot be.
    """

    def __init__(
        self,
        n: int,
        c: int,
        alpha_T: float = 0.8,
        epochs: int = 1,
        storage: Literal["dense", "topk"] = "dense",
        *,
        shape: Shape = "linear",
        top: int = 10,
        precision: Precision = "float32",
        smoothing: float = 0.0,
    ) -> None:
        if not 0 <= alpha_T <= 1 or epochs < 1 or not 0 <= smoothing < 1:
            raise UsageError(
                f"Targets have alpha {alpha_T}, {epochs} epochs and smoothing {smoothing}: alpha is from 0 "
                "to 1, there is an epoch at least, and smoothing is from 0 to below 1."
            )
        self.alpha, self.epochs, self.shape, self.smoothing = alpha_T, epochs, shape, smoothing
        kept = min(top, c) if storage == "topk" else 0
        self.memory = PredictionMemory(n, c, top=kept, precision=precision)

    def targets(self, ids: np.ndarray, labels: torch.Tensor, epoch: int) -> torch.Tensor:
        """Return what the items at the places `ids` [B], of these labels [B], are held to: [B, C].

        Raises:
            DataError: a place that is none, or a label that is no class.
        """
        hard = hard_targets(labels, self.memory.classes, self.smoothing)
        rows = self.memory.read(ids)
        if epoch == 0:
            return hard
        known = self.memory.known[torch.from_numpy(np.asarray(ids))]
        previous = torch.where(known[:, None], rows, hard)
        return refined(hard, previous, alpha_at(epoch, self.epochs, self.alpha, self.shape))

    def update(self, ids: np.ndarray, probs: torch.Tensor) -> None:
        """Remember what was just said of the items at `ids`: [B, C]; no gradient is kept."""
        self.memory.write(ids, probs)

    def state_dict(self) -> dict[str, Any]:
        """Return the memory."""
        return self.memory.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; raises a DataError for data of another size."""
        self.memory.load_state_dict(state_dict)
