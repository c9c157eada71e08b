"""Tasks of tables: many rows without labels, some with, and what features are worth on held-out rows."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.data.mixed_tables import Table
from selfstudy.data.table_answers import Answers
from selfstudy.evaluation.collapse import effective_rank, least_variance, uniformity
from selfstudy.evaluation.embedding_map import SHOWN, embedding_map
from selfstudy.evaluation.hidden_columns import hidden_column_errors
from selfstudy.evaluation.probes import linear_probe, nearest_neighbours, ridge_probe
from selfstudy.evaluation.scores import ACCURACY, Measured, Metric
from selfstudy.models.encoders.tables import TabularTransformer
from selfstudy.tasks.base import HeldOutTask, require_held

UNEXPLAINED = Metric(name="unexplained variance", lower_is_better=True)
HIDDEN = Metric(name="unexplained variance of hidden columns", lower_is_better=True)
LOOKED_AT = 2000  # rows that rank and uniformity are measured on, and a probe of hidden columns is fitted on
TINY = 1e-6  # added to the deviation of a feature
QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")


class Labelled(NamedTuple):
    """Rows with what is to be told of them."""

    table: Table
    answers: Answers


class TableTask(HeldOutTask):
    """Unlabelled rows to learn from, a labelled subset to probe with, and held-out rows to judge on.

    A model is judged by a linear classifier of its frozen features, fitted on the labelled subset alone;
    where a number is to be told, by a ridge regression and the squared error over the variance of the
    labelled rows. Without labels it is judged by what the embedding of half of the columns tells of the
    other half.

    Attributes:
        name: the specification that makes this task again.
        metric: accuracy, unexplained variance, or that of hidden columns.
        train: the rows to learn from; their labels are not in it.
        labelled: the labelled subset; None where nothing is labelled.
        classes: the names of the labels; none where a number is to be told.
        meter: where labels are counted; this task gives out none beside the subset.
    """

    def __init__(self, name: str, train: Table, labelled: Labelled | None, held: dict[str, Labelled]) -> None:
        self.name, self.train, self.labelled = name, train, labelled
        self.classes = labelled.answers.classes if labelled else ()
        self.metric = ACCURACY if self.classes else UNEXPLAINED if labelled else HIDDEN
        self.meter = Meter()
        self._held = held

    def held(self, split: str) -> int:
        """Return how many items a split holds."""
        return len(self._held[split].table)

    def limited(self, train: int) -> Self:
        """Return the task with the first `train` unlabelled rows."""
        bound = copy.copy(self)
        bound.train = self.train.only(slice(train))
        return bound

    def prepared(self, model: Any) -> Any:
        """Return a model made for these columns: their ranges, medians and categories in training rows.

        A kernel model also learns the mean of the labels, beside which a fit is judged.
        """
        made = model.made_for(self.train)
        if self.labelled is not None and hasattr(made, "starting_at"):
            return made.starting_at(self.labelled.answers.one_hot(), self.classes)
        return made

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return the figure of each of the first `limit` rows of a split; None is all.

        Args:
            model: an encoder, whose features are probed; or what has `classify(table)`, the places [N] of
                classes, or where a number is to be told `estimate(table)`, the numbers [N].
            split: "test", or "validation", which a method may look at.
            limit: how many rows.
        """
        require_held(split)
        table, answers = self._held[split]
        table, truth = table.only(slice(limit)), answers.values[slice(limit)]
        if self.labelled is None:
            known = model.rows(self.train.only(slice(LOOKED_AT)))
            return Measured(tuple(hidden_column_errors(model, known, model.rows(table)).tolist()))
        tell = getattr(model, "classify" if self.classes else "estimate", None)
        told = np.asarray(tell(table) if tell else self._probed(model, table))
        if self.classes:
            return Measured(tuple((told == truth).astype(float).tolist()))
        return Measured(tuple(((told - truth) ** 2 / self.labelled.answers.values.var()).tolist()))

    def _probed(self, model: TabularTransformer, table: Table) -> torch.Tensor:
        probe = self.probe(model)
        return probe.predict(model.embed_rows(model.rows(table)))

    def required_labels(self) -> Labelled:
        """Return the labelled rows.

        Raises:
            DataError: nothing is labelled.
        """
        if self.labelled is None:
            raise DataError(
                f"The task {self.name} has no labels to fit to. Name the column that is to be told, as in "
                "label=price."
            )
        return self.labelled

    def probe(self, model: TabularTransformer) -> Any:
        """Return a linear classifier, or a ridge regression, of the encoder's features of the labelled rows.

        Raises:
            DataError: nothing is labelled.
        """
        table, answers = self.required_labels()
        features = model.embed_rows(model.rows(table))
        values = torch.from_numpy(answers.values)
        if self.classes:
            return linear_probe(features, values.long(), len(self.classes))
        return ridge_probe(features, values.float())

    def look(self, before: Any, after: Any, parts: Any = None) -> dict[str, Any]:
        """Return what else there is to say of two encoders: `metrics` by name, and `pictures`."""
        if not (isinstance(before, TabularTransformer) and isinstance(after, TabularTransformer)):
            return {"metrics": {}, "pictures": []}
        table, answers = self._held["test"]
        table = table.only(slice(LOOKED_AT))
        features = {
            "before": before.embed_rows(before.rows(table)),
            "after": after.embed_rows(after.rows(table)),
        }
        metrics: dict[str, Any] = {}
        for when, model in (("before", before), ("after", after)):
            if self.classes:
                right = self._neighbours(model, features[when]).numpy() == answers.values[: len(table)]
                metrics[f"nearest neighbours, {when}"] = self.metric.row(right.astype(float).tolist())
            metrics |= {f"{name}, {when}": figure for name, figure in _monitors(features[when]).items()}
        for name, part in (parts or {}).items():
            if hasattr(part, "classify") or hasattr(part, "estimate"):
                metrics[name] = self.metric.row(self.evaluate(part).values)
        if len(table) < 2:
            return {"metrics": metrics, "pictures": []}
        groups, names = self._groups(answers.values[: len(table)][:SHOWN])
        shown = embedding_map(
            features["before"][:SHOWN].numpy(), features["after"][:SHOWN].numpy(), groups, names
        )
        return {"metrics": metrics, "pictures": [shown]}

    def _neighbours(self, model: TabularTransformer, queries: torch.Tensor) -> torch.Tensor:
        table, answers = self.labelled or self._held["test"]
        known = model.embed_rows(model.rows(table))
        # Tokens differ by column more than by row: until that is taken off, all rows point the same way.
        mean, deviation = known.mean(0), known.std(0, correction=0) + TINY
        scaled = ((known - mean) / deviation, (queries - mean) / deviation)
        labels = torch.from_numpy(answers.values).long()
        return nearest_neighbours(scaled[0], labels, scaled[1], len(self.classes))

    def _groups(self, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return what colours the map: classes, quarters of the numbers, or nothing."""
        if self.classes:
            return values.astype(np.int64), self.classes
        if self.labelled is None:
            return np.full(len(values), -1), ()
        return np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values), QUARTERS


def _monitors(features: torch.Tensor) -> dict[str, float]:
    return {
        "effective rank": effective_rank(features),
        "spread over rows": float(features.std(0).mean()),
        "least variance": least_variance(features),
        "uniformity": uniformity(features - features.mean(0)),
    }
