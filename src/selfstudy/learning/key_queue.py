"""A network's slow copy, and the latest embeddings that it made: negatives beyond the batch.

He et al. 2020, "Momentum Contrast", arXiv 1911.05722.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from selfstudy.models.ema import follow, follower


class KeyQueue(nn.Module):
    """K keys of earlier inputs, the newest first, random at the start.

    Args:
        network: from inputs to embeddings [B, D]; copied.
        size: K.
        width: D.
        key: of the stream of the first keys.
        keep: share of itself that the slow copy keeps at a step.

    Attributes:
        keys: [K, D], unit rows.
    """

    def __init__(self, network: nn.Module, *, size: int, width: int, key: int, keep: float) -> None:
        super().__init__()
        self.network, self.keep = follower(network), keep
        self.keys: torch.Tensor
        drawn = torch.randn(size, width, generator=torch.Generator().manual_seed(key >> 1))
        self.register_buffer("keys", functional.normalize(drawn, dim=1))

    @torch.no_grad()
    def embed(self, inputs: torch.Tensor, network: nn.Module) -> torch.Tensor:
        """Let the slow copy follow `network`, and return its embeddings of `inputs`: [B, D]."""
        follow(self.network, network, self.keep)
        return self.network(inputs)

    @torch.no_grad()
    def push(self, keys: torch.Tensor) -> None:
        """Put `keys` [B, D] before the others and drop the oldest."""
        new = functional.normalize(keys.to(self.keys), dim=1)
        self.keys = torch.cat((new, self.keys))[: len(self.keys)]
