"""Losses as pure functions of tensors."""

from __future__ import annotations

import torch


def masked_mse(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the sum of squared errors where there is a target.

    Args:
        values: any shape.
        targets: the same shape; nan where there is none.

    >>> masked_mse(torch.tensor([0.0, 5.0, 1.0]), torch.tensor([0.5, torch.nan, 0.0]))
    tensor(1.2500)
    """
    known = ~targets.isnan()
    # Selected before the difference is taken: a masked nan would still give a nan gradient.
    return (values[known] - targets[known]).square().sum()
