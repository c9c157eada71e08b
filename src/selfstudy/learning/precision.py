"""Numbers of enough precision for a loss and for weights that learn, whatever the networks compute in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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


def raise_weights(module: PreTrainedModel) -> None:
    """Make reduced weights fit for training: float32 ones, with which products are computed as before.

    A step of an optimiser is often smaller than the distance to the next number of bfloat16, and would be
    lost. `lower_weights` undoes it. Weights of float32 or more stay as they are.
    """
    dtype = module.dtype
    if not dtype.itemsize < torch.float32.itemsize:
        return
    _turn(module, torch.float32)
    for part in (module.base_model, module.get_output_embeddings()):
        part.forward = torch.autocast(module.device.type, dtype)(part.forward)


def lower_weights(module: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round weights that `raise_weights` raised to their former `dtype`."""
    if module.dtype == dtype:
        return
    for part in (module.base_model, module.get_output_embeddings()):
        del part.forward  # the class's own comes to light again
    _turn(module, dtype)


def _turn(module: PreTrainedModel, dtype: torch.dtype) -> None:
    for weight in module.parameters():  # not the buffers: rotary frequencies are float32 in every model
        weight.data = weight.data.to(dtype)
