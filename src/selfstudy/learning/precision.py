"""Numbers of enough precision for a loss, whatever the networks compute in."""

from __future__ import annotations

import torch


def full(tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` in float32, or as it is where it is wider.

    >>> full(torch.ones(1, dtype=torch.bfloat16)).dtype, full(torch.ones(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return a context in which products on the device of `tensor` keep the precision of their factors.

    Within autocast a product of float32 factors is computed in bfloat16, so losses need this around them.
    """
    return torch.autocast(tensor.device.type, enabled=False)
