"""What the embedding of some columns of a row tells of its others: how encoders are judged without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from selfstudy.core.random import generator
from selfstudy.data.table_columns import Rows, TableColumns
from selfstudy.models.encoders.tables import TabularTransformer

PENALTIES = tuple(10.0**power for power in range(-4, 2))
HELD_OUT = 0.2  # of the known rows, to choose the penalty on
TINY = 1e-6


def hidden_column_errors(model: TabularTransformer, known: Rows, asked: Rows) -> np.ndarray:
    """Return for each asked row how much of its hidden columns stays unexplained: [N], 0 is perfect.

    The columns are cut into two halves, the same for every model. Each half is hidden in turn, and told by a
    ridge regression on the encoded tokens of the other half, fitted on the known rows. An error is the
    squared distance over the column's variance, so that telling the mean gives 1, and is averaged over
    columns.

    Args:
        model: which encodes half of the columns at a time.
        known: rows to fit on.
        asked: rows to judge on.
    """
    columns = model.columns
    order = generator("hidden columns", len(columns)).permutation(len(columns)).tolist()
    half = (len(order) + 1) // 2
    errors = []
    for hidden in filter(None, (order[:half], order[half:])):
        shown = [column for column in order if column not in hidden]
        features, queries = (model.embed_columns(rows, shown) for rows in (known, asked))
        for told, truth, scale in zip(
            _told(features, queries, [_column(columns, known, column) for column in hidden]),
            [_column(columns, asked, column) for column in hidden],
            [_column(columns, known, column).var(0, correction=0).sum() for column in hidden],
            strict=True,
        ):
            errors.append((told - truth).square().sum(1) / scale.clamp(min=TINY))
    return torch.stack(errors, 1).mean(1).numpy()


def _column(columns: TableColumns, rows: Rows, place: int) -> torch.Tensor:
    """Return one column as numbers: [N, 1], or [N, cardinality] for categories."""
    numeric = rows.numbers.shape[1]
    if place < numeric:
        return rows.numbers[:, place : place + 1]
    count = columns.cardinalities[place - numeric]
    return torch.nn.functional.one_hot(rows.codes[:, place - numeric], count).float()


def _told(
    features: torch.Tensor, queries: torch.Tensor, targets: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    """Return the targets of `queries` by a ridge regression, its penalty chosen on a fifth of `features`."""
    mean, deviation = features.mean(0), features.std(0, correction=0) + TINY
    inputs = ((features - mean) / deviation).double()
    scale = torch.cat([target.std(0, correction=0).norm().expand(target.shape[1]) for target in targets])
    answers = torch.cat(list(targets), 1).double() / scale.clamp(min=TINY)
    held = max(1, round(HELD_OUT * len(inputs)))
    fit, choose = slice(held, None), slice(held)
    found = [
        float((_ridge(inputs[fit], answers[fit], inputs[choose], penalty) - answers[choose]).square().mean())
        for penalty in PENALTIES
    ]
    best = PENALTIES[found.index(min(found))]
    told = _ridge(inputs, answers, ((queries - mean) / deviation).double(), best) * scale
    return told.float().split([target.shape[1] for target in targets], 1)


def _ridge(
    inputs: torch.Tensor, answers: torch.Tensor, queries: torch.Tensor, penalty: float
) -> torch.Tensor:
    centre, middle = inputs.mean(0), answers.mean(0)
    centred = inputs - centre
    gram = centred.T @ centred / len(centred) + penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weight = torch.linalg.solve(gram, centred.T @ (answers - middle) / len(centred))
    return (queries - centre) @ weight + middle
