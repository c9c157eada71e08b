"""Predicting what a teacher says of hidden parts of an input from what a student says of the shown ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from selfstudy.learning.precision import full
from selfstudy.models.encoders.attention_blocks import blocks
from selfstudy.models.encoders.table_tokens import sinusoids

BASE = 10000.0  # of the predictor's code of a column


class LatentPredictor(nn.Module):
    """A small transformer that is told the encoded context and asked for columns by their place alone.

    Args:
        width: H of the encoder's tokens.
        columns: D.
        registers: r, tokens of the context that belong to no column.
        inner: H_p, its own width.
        layers: of the transformer.
        heads: of its attention; must divide H_p.
        key: of the stream of its first weights.
    """

    def __init__(
        self, width: int, columns: int, registers: int, *, inner: int, layers: int, heads: int, key: int
    ) -> None:
        super().__init__()
        self.registers = registers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            self.enter = nn.Linear(width, inner)
            self.query = nn.Parameter(nn.init.trunc_normal_(torch.empty(inner), std=0.02))
            self.transformer = blocks(layers, inner, heads, 4 * inner)
            self.leave = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, width))
        self.places: torch.Tensor
        self.register_buffer("places", sinusoids(columns, inner, BASE), persistent=False)

    def forward(self, encoded: torch.Tensor, context: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return what the teacher may say of the columns of each mask.

        Args:
            encoded: [B, r + n_ctx, H], the registers first.
            context: [B, n_ctx], the columns that were encoded.
            targets: [M, B, n_tgt], the columns asked for.

        Returns:
            [M, B, n_tgt, H]; a mask does not see the others.
        """
        masks, batch, asked = targets.shape
        known = self.enter(encoded)
        shown = functional.pad(self.places[context], (0, 0, self.registers, 0))
        known = (known + shown).expand(masks, *known.shape)
        asking = self.query + self.places[targets]
        # All masks of all rows are one batch.
        found = self.transformer(torch.cat([known, asking], 2).flatten(0, 1))
        return self.leave(found[:, -asked:]).view(masks, batch, asked, -1)


def taken(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the tokens at some places of each row: [B, n, H].

    Args:
        tokens: [B, T, H].
        places: [B, n], int64.
    """
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def latent_loss(predicted: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference, over masks, rows, columns and features; in float32 or wider.

    Args:
        predicted: [M, B, n_tgt, H].
        told: likewise, by the teacher; no gradient flows into it.
    """
    return functional.mse_loss(full(predicted), full(told.detach()))
