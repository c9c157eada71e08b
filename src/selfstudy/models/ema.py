"""A network that follows another as a running mean of its weights."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def follower(student: Network) -> Network:
    """Return a copy of `student` that takes no gradient."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, keep: float) -> None:
    """Set each weight of `teacher` to keep * itself + (1 - keep) * that of `student`.

    Buffers, such as the running statistics of batch normalisation, are copied.

    Args:
        teacher: changed in place.
        student: of the same shape.
        keep: from 0, which copies, to 1, which leaves the teacher as it is.
    """
    own: list[torch.Tensor] = list(teacher.parameters())
    others: list[torch.Tensor] = list(student.parameters())
    torch._foreach_mul_(own, keep)
    torch._foreach_add_(own, others, alpha=1 - keep)
    for mine, other in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(other)


def rising(step: int, steps: int, first: float, last: float = 1.0) -> float:
    """Return what lies on the line from `first` at step 0 to `last` after the final step.

    >>> [round(rising(step, 4, 0.996), 3) for step in range(5)]
    [0.996, 0.997, 0.998, 0.999, 1.0]
    """
    return first + (last - first) * step / steps
