"""A transformer over the columns of a table: one token for each column, and some that belong to none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.torch
import torch
from torch import nn

from selfstudy.core.errors import MachineError, UsageError, nearest
from selfstudy.core.files import read_json, write_json
from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.data.table_columns import Rows, TableColumns
from selfstudy.models.encoders.attention_blocks import blocks
from selfstudy.models.encoders.table_tokens import Tokeniser
from selfstudy.models.small import CONFIG, WEIGHTS, SmallModel

COLUMNS = "columns.json"
LARGEST_BATCH = 2048  # rows encoded at once
POOLINGS = ("flatten", "mean", "max", "registers")


class TabularTransformer(SmallModel):
    """Encodes rows of numbers and categories into a vector for each column (Gorishniy et al. 2021, with REG).

    The tokens of a row are [registers, numeric columns, categorical columns]; a register (REG in T-JEPA)
    belongs to no column. What the columns are, `made_for` learns from training rows; it is saved as JSON.

    Args:
        width: H, of a token.
        layers: of the transformer, normalised after each addition.
        heads: of its attention; must divide `width`.
        hidden: width of its feed-forward layers.
        registers: r, tokens that belong to no column; without any, T-JEPA may collapse.
        types: whether tokens also learn an embedding of "numeric" or "categorical".
        dropout: in the transformer and at its end.
        base: of the sinusoidal code of a token's place.
        pooling: what `embed` makes of the tokens: "flatten", "mean", "max", or "registers" alone.
        keep_registers: whether registers are among the tokens that `embed` takes.
        seed: of the first weights.

    Raises:
        UsageError: sizes that cannot be.
    """

    kind: ClassVar[str] = "tabular-transformer"

    def __init__(
        self,
        *,
        width: int = 32,
        layers: int = 3,
        heads: int = 4,
        hidden: int = 64,
        registers: int = 1,
        types: bool = False,
        dropout: float = 0.0,
        base: float = 100.0,
        pooling: str = "flatten",
        keep_registers: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            width=width,
            layers=layers,
            heads=heads,
            hidden=hidden,
            registers=registers,
            types=types,
            dropout=dropout,
            base=base,
            pooling=pooling,
            keep_registers=keep_registers,
            seed=seed,
        )
        if min(width, layers, heads, hidden) < 1 or registers < 0 or width % heads or width % 2:
            raise UsageError(
                f"The model {self.kind!r} has width {width}, layers {layers}, heads {heads}, hidden "
                f"{hidden} and registers {registers}: all but the last must be at least 1, width even and a "
                "multiple of heads."
            )
        if not 0 <= dropout < 1 or base <= 1:
            raise UsageError(
                f"dropout is {dropout} and base {base}: they must be from 0 to below 1, and above 1."
            )
        if pooling not in POOLINGS:
            raise UsageError(f"There is no pooling {pooling!r}. {nearest(pooling, POOLINGS)}")
        if pooling == "registers" and not (registers and keep_registers):
            raise UsageError("pooling=registers needs registers of at least 1, and keep_registers=true.")
        self.token_width, self.registers, self.pooling = width, registers, pooling
        self._columns: TableColumns | None = None

    @property
    def columns(self) -> TableColumns:
        """What the columns are.

        Raises:
            UsageError: it was made for no table yet.
        """
        if self._columns is None:
            raise UsageError(
                "This encoder was made for no table yet. Fit it on a task, or call made_for(table) with "
                "training rows."
            )
        return self._columns

    def made_for(self, table: Table) -> Self:
        """Return the encoder for the columns of `table`, with first weights by its seed.

        Ranges, medians and categories are learned from these rows alone. An encoder that was made for a table
        already is returned as it is.

        Raises:
            UsageError: it was made for a table with other columns.
        """
        if self._columns is None:
            return type(self)(**self.config)._built(TableColumns.fitted(table))
        missing = [name for name in self._columns.sources if name not in table.cells]
        if missing:
            raise UsageError(
                f"This encoder reads the columns {', '.join(self._columns.sources)}, and {table.name} has no "
                f"{missing[0]!r}. {nearest(missing[0], table.cells)}"
            )
        return self

    def _built(self, columns: TableColumns) -> Self:
        self._columns = columns
        config, width = self.config, self.token_width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.generator().initial_seed())
            self.tokeniser = Tokeniser(
                columns, width, self.registers, base=config["base"], types=config["types"]
            )
            self.transformer = blocks(
                config["layers"], width, config["heads"], config["hidden"], config["dropout"]
            )
            self.end = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.Dropout(config["dropout"]),
                nn.LayerNorm(width),
            )
        return self

    def rows(self, inputs: Any) -> Rows:
        """Return rows as numbers and codes; `inputs` as in `embed`."""
        return inputs if isinstance(inputs, Rows) else self.columns.rows(table_of(inputs))

    def tokens(self, rows: Rows) -> torch.Tensor:
        """Return the tokens of rows before any attention: [B, r+D, H]; column j is token r+j."""
        return self.tokeniser(rows)

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the encoded tokens [B, T, H] of any of a row's tokens [B, T, H]."""
        return self.end(self.transformer(tokens))

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of numbers [B, D_n] and codes [B, D_c]."""
        return self.pooled(self.encode(self.tokens(Rows(numbers, codes))))

    def pooled(self, encoded: torch.Tensor) -> torch.Tensor:
        """Return features [B, width] of encoded tokens [B, r+D, H]."""
        if self.pooling == "registers":
            return encoded[:, : self.registers].flatten(1)
        kept = encoded if self.config["keep_registers"] else encoded[:, self.registers :]
        if self.pooling == "flatten":
            return kept.flatten(1)
        return kept.mean(1) if self.pooling == "mean" else kept.amax(1)

    @property
    def width(self) -> int:
        """Number of features that `embed` gives a row."""
        if self.pooling in ("mean", "max"):
            return self.token_width
        registers = self.registers if self.config["keep_registers"] else 0
        columns = 0 if self.pooling == "registers" else len(self.columns)
        return (registers + columns) * self.token_width

    def transform(self, inputs: Any) -> np.ndarray:
        """Return the encoded tokens of rows: [N, r+D, H], float32; `inputs` as in `embed`."""
        return self.encoded(self.rows(inputs)).numpy()

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the features of rows: [N, width], float32.

        Args:
            inputs: a data frame, a dictionary of columns, the path of a .csv, .parquet or .jsonl file, or a
                `Table`; columns that were not there in training are ignored.

        Raises:
            DataError: they are none of these, lack a column, or have cells that cannot be read.
        """
        return self.embed_rows(self.rows(inputs)).numpy()

    def encoded(self, rows: Rows) -> torch.Tensor:
        """Return the encoded tokens [N, r+D, H] of rows, in evaluation mode and without gradient."""
        return self._in_batches(rows, lambda encoded: encoded)

    def embed_rows(self, rows: Rows) -> torch.Tensor:
        """Return the features [N, width] of rows, in evaluation mode and without gradient."""
        return self._in_batches(rows, self.pooled)

    def embed_columns(self, rows: Rows, columns: list[int]) -> torch.Tensor:
        """Return what only these columns say: the registers and their tokens, encoded and flattened.

        Args:
            rows: N rows.
            columns: which, from 0; the encoder sees no other.

        Returns:
            [N, (r + number of columns) H].
        """
        seen = [*range(self.registers), *(self.registers + column for column in columns)]
        return self._in_batches(rows, lambda encoded: encoded.flatten(1), seen)

    def _in_batches(self, rows: Rows, then: Any, seen: list[int] | None = None) -> torch.Tensor:
        training = self.training
        self.eval()
        found = []
        with torch.inference_mode():
            for start in range(0, len(rows.codes), LARGEST_BATCH):
                tokens = self.tokens(rows.at(slice(start, start + LARGEST_BATCH)))
                found.append(then(self.encode(tokens if seen is None else tokens[:, seen])))
        self.train(training)
        return torch.cat(found).clone()

    def save(self, folder: Path) -> None:
        """Write configuration and columns (JSON), and weights (safetensors)."""
        super().save(folder)
        write_json(Path(folder) / COLUMNS, self.columns.to_json())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MachineError: the folder holds a model of another kind.
        """
        config = read_json(Path(folder) / CONFIG)
        kind = config.pop("kind")
        if kind != cls.kind:
            raise MachineError(f"{folder} holds a model {kind!r}, not {cls.kind!r}.")
        model = cls(**config)._built(TableColumns.from_json(read_json(Path(folder) / COLUMNS)))
        model.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS))
        return model.eval()
