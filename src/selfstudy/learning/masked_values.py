"""Telling the values of hidden columns themselves: the older objective that latents are compared with."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from selfstudy.data.table_columns import Rows, TableColumns
from selfstudy.learning.precision import full

TINY = 1e-4  # added to the variance of a column


class ValueReader(nn.Module):
    """Reads values off predicted tokens of columns: a number by a linear map, a category by a softmax.

    Args:
        columns: D.
        rows: of training, which give the variance of each column of numbers.
        width: H of the predicted tokens.
    """

    def __init__(self, columns: TableColumns, rows: Rows, width: int) -> None:
        super().__init__()
        counts = columns.cardinalities
        self.numeric = rows.numbers.shape[1]
        self.numbers = nn.Parameter(torch.zeros(self.numeric, width))
        self.middle = nn.Parameter(rows.numbers.mean(0))
        self.codes = nn.Parameter(torch.zeros(sum(counts), width))
        self.base = nn.Parameter(torch.zeros(sum(counts)))
        self.variance: torch.Tensor
        self.owner: torch.Tensor
        self.first: torch.Tensor
        self.register_buffer("variance", (rows.numbers - self.middle.detach()).square().mean(0) + TINY)
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
        self.register_buffer("owner", owner)
        self.register_buffer("first", torch.tensor([0, *counts], dtype=torch.int64).cumsum(0)[:-1])

    def forward(self, predicted: torch.Tensor, rows: Rows, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of the hidden cells: squared error over variance, or cross-entropy.

        Args:
            predicted: [M, B, n_tgt, H].
            rows: B of them.
            targets: [M, B, n_tgt], the hidden columns.
        """
        losses = []
        row = torch.arange(targets.shape[1], device=targets.device)[:, None].expand_as(targets)
        number = targets < self.numeric
        if number.any():
            column, of = targets[number], row[number]
            told = (full(predicted[number]) * self.numbers[column]).sum(1) + self.middle[column]
            losses.append((told - rows.numbers[of, column]).square() / self.variance[column])
        if not number.all():
            column, of = targets[~number] - self.numeric, row[~number]
            scores = full(predicted[~number]) @ self.codes.T + self.base
            scores = scores.masked_fill(self.owner != column[:, None], -torch.inf)
            truth = self.first[column] + rows.codes[of, column]
            losses.append(functional.cross_entropy(scores, truth, reduction="none"))
        return torch.cat(losses).mean()
