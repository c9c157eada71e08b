"""Matrices over pairs of tokens, whole or as a product of two thin ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Pairs(nn.Module):
    """A matrix W over pairs of tokens, whole or as a product.

    Args:
        size: M; W is [M, M].
        width: inner size of `W = post @ pre`; 0 keeps W whole.
        spread: standard deviation of first weights; at 0 W starts as zero.
        generator: draws them.
    """

    def __init__(self, size: int, width: int, spread: float, generator: torch.Generator) -> None:
        super().__init__()

        def draw(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=generator))

        if width:
            self.post = draw(size, width, scale=spread)
            # Columns of length 1 on average: a step then moves the product as it would move a whole W.
            self.pre = draw(width, size, scale=1 / math.sqrt(width))
        else:
            self.whole = draw(size, size, scale=spread)
        self.factored = bool(width)

    def matrix(self) -> torch.Tensor:
        """Return W [M, M]."""
        return self.post @ self.pre if self.factored else self.whole

    def columns(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the columns of W that `tokens` [n] name, [M, n]."""
        return self.post @ self.pre[:, tokens] if self.factored else self.whole[:, tokens]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return W x for x [..., M]."""
        return F.linear(F.linear(x, self.pre), self.post) if self.factored else F.linear(x, self.whole)

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what stands for tokens [B, T] in the sums that `finish` completes, [B, T, width or M]."""
        return F.embedding(tokens, self.pre.T if self.factored else self.whole.T)

    def finish(self, x: torch.Tensor) -> torch.Tensor:
        """Return W e for x, the same sum of `rows` as e is of one-hot tokens."""
        return F.linear(x, self.post) if self.factored else x

    def of_tokens(self, keys: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Return W[key, query] for tokens: keys [B, K], queries [B, Q]; the result is [B, Q, K]."""
        rows = self.rows(queries)
        if self.factored:
            return rows @ F.embedding(keys, self.post).mT
        return rows.gather(2, keys[:, None].expand(-1, queries.shape[1], -1))

    def of_vectors(self, keys: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Return key^T W query: keys [B, K, M], queries [B, Q, M]; the result is [B, Q, K]."""
        if self.factored:
            return F.linear(queries, self.pre) @ (keys @ self.post).mT
        return F.linear(queries, self.whole) @ keys.mT


class Block(nn.Module):
    """Z and Y of a layer: what is attended, and what is said about it."""

    def __init__(self, size: int, width: int, spread: float, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = Pairs(size, width, spread, generator)
        self.decoder = Pairs(size, width, spread, generator)
