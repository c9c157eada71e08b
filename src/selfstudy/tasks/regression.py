"""in-context-regression: problems of a few examples and a query, drawn afresh or sampled from a table's rows.

`in-context-regression?inputs=gaussian&dimensions=5&context=20&noise=0.5`, or
`in-context-regression?table=houses.csv&target=price&context=20`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.regression import Batch, Context, Regression, Rows
from selfstudy.data.regression_tables import read_table
from selfstudy.data.splits import SPLITS
from selfstudy.evaluation.alignment import squared_errors
from selfstudy.evaluation.scores import Metric
from selfstudy.models.in_context.embedded import EmbeddedAttention, FeatureDescent
from selfstudy.models.in_context.linear_attention import BilinearAttention, LinearSelfAttention
from selfstudy.models.in_context.paired_tokens import PairedTokens
from selfstudy.models.in_context.parts import check_width
from selfstudy.tasks.sampled import SampledTask

REGRESSORS = (LinearSelfAttention, BilinearAttention, EmbeddedAttention, FeatureDescent, PairedTokens)
SQUARED_ERROR = Metric(name="squared error", lower_is_better=True)
BLOCK = 1000  # held-out problems are drawn so many at a time, so that fewer are a beginning of more
STREAM = "in-context-regression"


class InContextRegression(SampledTask):
    """Regression problems, each with a rule of its own.

    A model is any callable (context, query [B, d]) -> predictions [B]; its figure is the squared error
    (ŷ - y)² of a problem, without a half.

    Attributes:
        problems: the distribution of the training problems.
    """

    def __init__(
        self, name: str, problems: dict[str, Regression], *, items: int = 10_000, seed: int = 0
    ) -> None:
        """Take the distribution of each split; they differ where rows of a table are split."""
        super().__init__(name, SQUARED_ERROR, items)
        self._problems, self._seed = problems, seed

    @property
    def problems(self) -> Regression:
        """The distribution of the training problems."""
        return self._problems["train"]

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Return training problems."""
        return self.problems.draw(size, rng)

    def held_out(self, split: str, count: int, *, stream: str = "items", **changes: Any) -> Batch:
        """Return the first `count` problems of a split; they are the same at every call.

        Args:
            split: "validation" or "test".
            count: how many.
            stream: names other problems of the same split.
            changes: fields of the distribution that are to be others, such as scale=1.5.
        """
        problems = replace(self._problems[split], **changes)
        blocks = [
            problems.draw(BLOCK, generator(STREAM, self._seed, split, stream, i))
            for i in range(-(-count // BLOCK))
        ]
        context = Context(
            *(torch.cat(parts)[:count] for parts in zip(*(b.context for b in blocks), strict=True))
        )
        query, answer = (
            torch.cat([getattr(b, part) for b in blocks])[:count] for part in ("query", "answer")
        )
        return Batch(context, query, answer)

    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return the squared error of each problem."""
        return squared_errors(model, self.held_out(split, count)).tolist()


def in_context_regression(
    *,
    inputs: str = "uniform",
    dimensions: int = 10,
    context: int = 10,
    range: float = 1.0,
    covariance: str = "",
    responses: str = "",
    prior: str = "identity",
    weight_scale: float = 1.0,
    noise: float = 0.0,
    hidden: int = 16,
    corrupted: int = 0,
    table: str = "",
    target: str = "",
    columns: str = "",
    items: int = 10_000,
    seed: int = 0,
) -> InContextRegression:
    """Make the task.

    Args:
        inputs: "uniform", "gaussian", or "normal", "exponential", "laplace", scaled by norm.
        dimensions: d, of an input; with a table it is the number of its feature columns.
        context: n, examples in a problem.
        range: uniform inputs are within plus or minus half of it; a factor on others.
        covariance: variances of gaussian inputs, "4,2,1,0.5,0.25"; the identity where empty.
        responses: "linear", "relu", "absolute", "sine", or "column", the table's target; where empty "column"
            if there is a `target`, else "linear".
        prior: of linear weights: "identity" or "inverse" (of the covariance).
        weight_scale: a factor on the responses.
        noise: σ, added to every answer.
        hidden: units of the random networks of "relu".
        corrupted: targets of each context that are replaced by noise.
        table: a .csv, .parquet or .jsonl file whose rows are sampled as inputs, or scikit-learn's "diabetes".
            Rows are split by hash; features are standardised by the training rows.
        target: the table's column that is the answer (standardised); it is no feature.
        columns: feature columns, "a,b,c"; all numeric ones but the target where empty.
        items: test problems.
        seed: draws other held-out problems.

    Raises:
        UsageError: fields out of range or against each other.
        DataError: a table that cannot be used.
    """
    given = {name: value for name, value in locals().items()}
    name = "in-context-regression?" + "&".join(
        f"{field}={value}" for field, value in given.items() if value != ""
    )
    if items < 1:
        raise UsageError(f"items={items} must be at least 1.")
    shared: dict[str, Any] = {
        "context": context,
        "inputs": inputs,
        "scale": range,
        "responses": responses or ("column" if target else "linear"),
        "prior": prior,
        "weight_scale": weight_scale,
        "noise": noise,
        "hidden": hidden,
        "corrupted": corrupted,
    }
    if not table:
        if target or columns:
            raise UsageError("target and columns name columns of a table; give table=FILE too.")
        matrix = _diagonal(covariance)
        if matrix is not None and inputs != "gaussian":
            raise UsageError(f"A covariance belongs to inputs=gaussian, not to inputs={inputs}.")
        problems = Regression(**shared, dimensions=dimensions, covariance=matrix)
        return InContextRegression(name, dict.fromkeys(SPLITS, problems), items=items, seed=seed)
    if covariance:
        raise UsageError("With a table the covariance is that of its rows; leave covariance away.")
    read = read_table(table, target, [column.strip() for column in columns.split(",") if column.strip()])
    rows: dict[str, Rows] = read.splits
    moments = rows["train"].features.T @ rows["train"].features / len(rows["train"].features)
    shared |= {"dimensions": len(read.columns), "covariance": moments}
    splits = {split: Regression(**shared, rows=part) for split, part in rows.items()}
    return InContextRegression(name, splits, items=items, seed=seed)


def _diagonal(text: str) -> np.ndarray | None:
    if not text:
        return None
    try:
        return np.diag([float(value) for value in text.split(",")])
    except ValueError:
        raise UsageError(
            f"covariance={text} must be variances with commas, such as 4,2,1,0.5,0.25."
        ) from None


def require_fit(task: InContextRegression, model: Any) -> None:
    """Refuse a model that cannot read the problems of the task.

    Raises:
        UsageError: inputs of another width, with both numbers, or a context longer than its positions.
    """
    check_width(model.dimensions, task.problems.dimensions)
    if isinstance(model, PairedTokens):
        model.check_room(task.problems.context)
