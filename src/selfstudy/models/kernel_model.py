"""Kernel regression of table rows as a model: what was fitted, with the rows that it compares new ones to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.torch
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.data.table_columns import TableColumns
from selfstudy.models.encoders.tables import COLUMNS
from selfstudy.models.kernels import Kernel, median_gamma, named_kernel
from selfstudy.models.small import CONFIG, WEIGHTS, SmallModel

LEARNED = ("middle", "spread", "anchors", "coefficients", "offset")
CLASSES = "classes"
AT_ONCE = 4096  # rows told at once
TINY = 1e-9  # deviation below which a feature is taken to be constant


class KernelModel(SmallModel):
    """Tells a number, or one of C classes, of rows of a table: f(x) = offset + sum_i k(x, x_i) c_i.

    Numbers of a row are standardised, categories become one-hot, by the training rows. Until it is fitted it
    tells the mean of the labels, or the most frequent class, once it knows them (`starting_at`).

    Args:
        kernel: "rbf", exp(-gamma |a - b|^2), or "linear".
        gamma: of "rbf"; 0 is one over the median squared distance of the rows that it is fitted to.
    """

    kind: ClassVar[str] = "kernel"

    def __init__(self, *, kernel: str = "rbf", gamma: float = 0.0) -> None:
        super().__init__(kernel=kernel, gamma=gamma)
        named_kernel(kernel, gamma or 1.0)
        self.gamma = gamma
        self.classes: tuple[str, ...] = ()
        self._columns: TableColumns | None = None
        self.middle: torch.Tensor
        self.spread: torch.Tensor
        self.anchors: torch.Tensor
        self.coefficients: torch.Tensor
        self.offset: torch.Tensor
        for name in LEARNED:
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))

    @property
    def columns(self) -> TableColumns:
        """What the columns are.

        Raises:
            UsageError: it was made for no table yet.
        """
        if self._columns is None:
            raise UsageError("This kernel model was made for no table yet. Fit it on a task of a table.")
        return self._columns

    @property
    def function(self) -> Kernel:
        """The kernel; its gamma is known once it is fitted."""
        return named_kernel(self.config["kernel"], self.gamma or 1.0)

    def made_for(self, table: Table) -> Self:
        """Return the model for the columns of `table`, standardised by its rows.

        A model that was made for a table already is returned as it is.
        """
        if self._columns is not None:
            self._columns.require(table)
            return self
        made = type(self)(**self.config)
        made._columns = TableColumns.fitted(table)
        raw = made._raw(table)
        made.middle, made.spread = raw.mean(0), raw.std(0, correction=0)
        made.spread[made.spread < TINY] = 1.0
        return made

    def starting_at(self, outputs: np.ndarray, classes: tuple[str, ...]) -> Self:
        """Return a copy that tells the mean of labels [N, C] or [N, 1]; itself where it is fitted."""
        if len(self.anchors):
            return self
        made = self.copy()
        made.offset, made.classes = torch.from_numpy(outputs.mean(0)), classes
        return made

    def features(self, inputs: Any) -> np.ndarray:
        """Return rows as standardised features: [N, d], float64; `inputs` as in `predict`."""
        return ((self._raw(table_of(inputs)) - self.middle) / self.spread).numpy()

    def resolved(self, rows: np.ndarray) -> Self:
        """Return a copy that knows its gamma: its own, or that of rows [n, d] by the median heuristic."""
        made = self.copy()
        made.gamma = self.gamma or median_gamma(rows)
        return made

    def fitted(
        self, anchors: np.ndarray, coefficients: np.ndarray, offset: np.ndarray, classes: tuple[str, ...] = ()
    ) -> Self:
        """Return a copy that tells what these say.

        Args:
            anchors: features of rows, [a, d].
            coefficients: [a, C], or [a, 1] for a number.
            offset: [C] or [1].
            classes: names; none for a number.
        """
        made = self.copy()
        made.anchors, made.coefficients, made.offset = map(torch.from_numpy, (anchors, coefficients, offset))
        made.classes = classes
        return made

    def outputs(self, inputs: Any) -> np.ndarray:
        """Return f of rows: [N, C] or [N, 1]."""
        rows = self.features(inputs)
        if not len(self.anchors):
            return np.zeros((len(rows), 1)) + (self.offset.numpy() if len(self.offset) else 0.0)
        anchors, weights = self.anchors.numpy(), self.coefficients.numpy()
        parts = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
        return (
            np.concatenate([self.function(part, anchors) @ weights for part in parts]) + self.offset.numpy()
        )

    def estimate(self, inputs: Any) -> np.ndarray:
        """Return the number told of each row: [N]."""
        return self.outputs(inputs)[:, 0]

    def classify(self, inputs: Any) -> np.ndarray:
        """Return the place of the class told of each row: [N]."""
        return self.outputs(inputs).argmax(1)

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the number, or the name of the class, told of each row: [N].

        Args:
            inputs: a data frame, a dictionary of columns, the path of a .csv, .parquet or .jsonl file, or a
                `Table`; other columns are ignored.
        """
        return np.array(self.classes)[self.classify(inputs)] if self.classes else self.estimate(inputs)

    def _raw(self, table: Table) -> torch.Tensor:
        columns = self.columns
        return columns.one_hot(columns.rows(table)).double()

    def save(self, folder: Path) -> None:
        """Write configuration, columns and classes (JSON), and what was learned (safetensors)."""
        super().save(folder)
        said = {**read_json(Path(folder) / CONFIG), "fitted_gamma": self.gamma, CLASSES: list(self.classes)}
        write_json(Path(folder) / CONFIG, said)
        write_json(Path(folder) / COLUMNS, self.columns.to_json())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / CONFIG)
        model = cls(kernel=said["kernel"], gamma=said["gamma"])
        model.gamma, model.classes = said["fitted_gamma"], tuple(said[CLASSES])
        model._columns = TableColumns.from_json(read_json(Path(folder) / COLUMNS))
        for name, value in safetensors.torch.load_file(Path(folder) / WEIGHTS).items():
            setattr(model, name, value)
        return model
