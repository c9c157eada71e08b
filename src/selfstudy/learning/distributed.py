"""Reductions over the processes of one training, through which gradients flow.

Each process holds its own rows of a batch, as many as any other, and computes the loss of the whole batch
from what is reduced here. The gradient of a reduction sums the gradients of all processes. So the mean over
processes of a weight's gradient, which accelerate and DistributedDataParallel take, is the gradient of one
process that holds the whole batch.

Processes are those of torch.distributed's default group, which accelerate opens where it is launched by
`torchrun` or `accelerate launch`. Where there is none, every function here is its plain arithmetic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import distributed


class Moments(NamedTuple):
    """Mean and (biased) variance of each column [D]."""

    mean: torch.Tensor
    variance: torch.Tensor


def processes() -> int:
    """Return how many processes train together; 1 where none were opened."""
    return distributed.get_world_size() if _together() else 1


def total(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of `values` over processes, in the same shape.

    >>> total(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    return _Total.apply(values) if _together() else values


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows [B, ...] of all processes, in their order: [processes B, ...].

    The rows of this process begin at `first_row(len(rows))`.
    """
    return _Rows.apply(rows) if _together() else rows


def first_row(count: int) -> int:
    """Return where this process's rows begin among those of all, when each has `count`."""
    return distributed.get_rank() * count if _together() else 0


def column_moments(rows: torch.Tensor) -> Moments:
    """Return mean and variance of each column of the rows [B, D] of all processes."""
    if processes() == 1:
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        return Moments(mean, variance)
    count = processes() * len(rows)
    mean = total(rows.sum(0)) / count
    return Moments(mean, total((rows - mean).square().sum(0)) / count)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that is sharded over processes in one piece, in all of them; another one as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def sharded_like(tensor: torch.Tensor, weight: Any) -> torch.Tensor:
    """Return this process's shard of `tensor` where `weight`, of its shape, is sharded; else as it is."""
    if not hasattr(weight, "full_tensor") or tensor.shape != weight.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.detach().to(weight.device), weight.device_mesh, weight.placements)


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        summed = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return _Total.apply(gradients[0])


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        ctx.count = len(rows)
        everyone = rows.new_empty((processes() * len(rows), *rows.shape[1:]))
        distributed.all_gather_into_tensor(everyone, rows.contiguous())
        return everyone

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        start = first_row(ctx.count)
        return _Total.apply(gradients[0])[start : start + ctx.count]
