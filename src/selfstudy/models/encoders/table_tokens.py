"""From rows of a table to one vector for each column."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from selfstudy.data.table_columns import FIRST, Rows, TableColumns


class Tokeniser(nn.Module):
    """Makes a vector of each column: x W_j + b_j of a number, E_j[x] + b_j of a category.

    Args:
        columns: D of them.
        width: H.
        registers: r.
        base: of the sinusoidal code of a token's place.
        types: whether an embedding of the column's kind is added; registers get none.
    """

    def __init__(
        self, columns: TableColumns, width: int, registers: int, *, base: float, types: bool
    ) -> None:
        super().__init__()
        numeric, counts = len(columns.numeric_names), columns.cardinalities
        self.slope = _uniform(registers + numeric, width)  # registers are numbers that are always 1
        self.bias = _uniform(numeric + len(counts), width)
        self.codes = _uniform(sum(counts), width)
        starts = np.cumsum([0, *counts])[:-1].astype(np.int64)
        with torch.no_grad():
            # Categories never seen, and gaps where training has none, add nothing to the column's bias.
            for start in starts.tolist():
                self.codes[start : start + FIRST].zero_()
        self.types = nn.Parameter(torch.zeros(2, width)) if types else None
        self.registers, self.numeric = registers, numeric
        self.starts: torch.Tensor
        self.place: torch.Tensor
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        place = sinusoids(registers + len(columns), width, base)
        self.register_buffer("place", place, persistent=False)

    def forward(self, rows: Rows) -> torch.Tensor:
        """Return the tokens of rows: [B, r+D, H]."""
        ones = rows.numbers.new_ones(rows.numbers.shape[0], self.registers)
        numbers = torch.cat([ones, rows.numbers], 1)[:, :, None] * self.slope
        codes = self.codes[rows.codes + self.starts]
        bias: torch.Tensor = self.bias
        if self.types is not None:
            kinds = torch.zeros(len(bias), dtype=torch.long, device=bias.device)
            kinds[self.numeric :] = 1
            bias = bias + self.types[kinds]
        bias = torch.cat([bias.new_zeros(self.registers, bias.shape[1]), bias])
        return torch.cat([numbers, codes], 1) + (bias + self.place)


def sinusoids(count: int, width: int, base: float) -> torch.Tensor:
    """Return the fixed codes of places 0 .. count-1: [count, width], sines and then cosines.

    Wavelengths rise from 2 pi to 2 pi `base` (Vaswani et al. 2017, section 3.5, where it is 10000).
    """
    rates = base ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def _uniform(count: int, width: int) -> nn.Parameter:
    bound = 1 / math.sqrt(width)
    return nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))
