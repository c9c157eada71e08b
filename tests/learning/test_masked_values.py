"""Reading values off predicted tokens."""

from __future__ import annotations

import torch

from selfstudy.data.mixed_tables import table_of
from selfstudy.data.table_columns import TableColumns
from selfstudy.learning.masked_values import TINY, ValueReader


def test_the_loss_by_a_plain_loop() -> None:
    """Oracle: a loop over hidden cells: squared error over variance, or cross-entropy of codes."""
    torch.manual_seed(0)
    table = table_of({"a": [0.0, 1.0, 0.2], "b": [5, 5, 9], "c": ["x", "y", "x"], "d": ["u", "v", "w"]})
    columns = TableColumns.fitted(table)
    rows = columns.rows(table)
    reader = ValueReader(columns, rows, 6)
    for weight in reader.parameters():
        torch.nn.init.normal_(weight)
    targets = torch.tensor([[[0, 2], [3, 1], [2, 3]], [[1, 3], [0, 2], [0, 1]]])
    predicted = torch.randn(2, 3, 2, 6)
    variance, starts, counts = rows.numbers.var(0, correction=0) + TINY, [0, 4], columns.cardinalities
    losses = []
    for mask in range(2):
        for row in range(3):
            for at in range(2):
                column, token = int(targets[mask, row, at]), predicted[mask, row, at]
                if column < 2:
                    told = token @ reader.numbers[column] + reader.middle[column]
                    losses.append((told - rows.numbers[row, column]) ** 2 / variance[column])
                else:
                    own = slice(starts[column - 2], starts[column - 2] + counts[column - 2])
                    scores = reader.codes[own] @ token + reader.base[own]
                    losses.append(-scores.log_softmax(0)[rows.codes[row, column - 2]])
    assert torch.allclose(reader(predicted, rows, targets), torch.stack(losses).mean(), atol=1e-5)


def test_tables_of_one_kind() -> None:
    """Oracle: at the start numbers are told as their mean, which costs 1; categories as equally likely."""
    numbers = table_of({"a": [0.0, 1.0, 0.5, 0.5], "b": [3, 2, 1, 0]})
    columns = TableColumns.fitted(numbers)
    targets = torch.arange(2).expand(1, 4, 2)
    loss = ValueReader(columns, columns.rows(numbers), 3)(
        torch.randn(1, 4, 2, 3), columns.rows(numbers), targets
    )
    assert abs(loss.item() - 1) < 0.01
    words = table_of({"a": ["x", "y", "x", "y"], "b": ["u", "v", "w", "u"]})
    columns = TableColumns.fitted(words)
    loss = ValueReader(columns, columns.rows(words), 3)(torch.randn(1, 4, 2, 3), columns.rows(words), targets)
    expected = torch.tensor(columns.cardinalities).float().log().mean()
    assert torch.allclose(loss, expected)
