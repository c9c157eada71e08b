"""What holds a language model back from forgetting, beside the learning rate: MAS, LwF, memories.

MAS: Aljundi et al. 2018, arXiv 1711.09601. LwF: Li and Hoiem 2016, arXiv 1606.09282. GDumb: Prabhu et al.
2020 (ECCV). Each was made for classifiers; here their output is that of a language model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

from selfstudy.models.language.model import LanguageModel

WEIGHTS = "importance.safetensors"


class Importance:
    """How much the output depends on each weight, summed over the tasks so far.

    Attributes:
        by_weight: of every weight's name, a tensor of its shape.
    """

    def __init__(self, by_weight: dict[str, torch.Tensor]) -> None:
        self.by_weight = by_weight

    def save(self, folder: Path) -> None:
        """Write the tensors."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.cpu().contiguous() for name, value in self.by_weight.items()}
        safetensors.torch.save_file(tensors, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Importance:
        """Read what `save` wrote."""
        return cls(safetensors.torch.load_file(folder / WEIGHTS))


def memory_importance(
    model: LanguageModel, batches: Iterable[torch.Tensor], before: Importance | None = None
) -> Importance:
    """Return MAS's importance: the mean size of the gradient of the squared length of the scores.

    Args:
        model: whose weights.
        batches: tokens [B, T] of the task that was learnt.
        before: of earlier tasks, to which it is added.
    """
    model = model.copy()
    weights = dict(model.module.named_parameters())
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    for tokens in batches:
        scores = model.module(input_ids=tokens.to(model.device), use_cache=False).logits
        gradients = torch.autograd.grad(scores.square().sum(-1).mean(), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            total[name] += gradient.abs()
        count += 1
    earlier = before.by_weight if before else {}
    return Importance({name: value / count + earlier.get(name, 0.0) for name, value in total.items()})


Guard = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""From the module in training, its tokens [B, T] and last hidden states [B, T, d], a term of the loss."""


def importance_guard(importance: Importance, start: LanguageModel) -> Guard:
    """Return MAS's penalty: the sum over weights of importance times the squared way from `start`."""
    anchors = {name: weight.detach().clone() for name, weight in start.module.named_parameters()}
    by_weight = {name: value.to(anchors[name].device) for name, value in importance.by_weight.items()}

    def guard(module: Any, tokens: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        ways = (
            (by_weight[name] * (w - anchors[name]).square()).sum() for name, w in module.named_parameters()
        )
        return torch.stack(list(ways)).sum()

    return guard


def feature_guard(teacher: LanguageModel) -> Guard:
    """Return LwF on features: the mean squared distance of hidden states from those of the earlier model."""

    def guard(module: Any, tokens: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            told = teacher.module(input_ids=tokens, output_hidden_states=True, use_cache=False)
        return functional.mse_loss(hidden, told.hidden_states[-1])

    return guard


def balanced_memory(
    lengths: Sequence[int], memory: int, window: int, rng: Callable[[int], np.random.Generator]
) -> list[np.ndarray]:
    """Return GDumb's memory: where its windows begin, as many of each task.

    >>> found = balanced_memory([50, 90], 6, 10, np.random.default_rng)
    >>> [len(starts) for starts in found]
    [3, 3]

    Args:
        lengths: tokens of each task so far.
        memory: windows in all; what does not share evenly is left out.
        window: tokens of one.
        rng: the stream of a task.
    """
    each = memory // len(lengths)
    return [rng(task).integers(length - window, size=each) for task, length in enumerate(lengths)]
