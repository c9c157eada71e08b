"""Heads on the tokens of a table's encoder: an adapter that makes a vector of them, and a network on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.files import read_json, write_json
from selfstudy.data.mixed_tables import table_of
from selfstudy.data.table_columns import Rows
from selfstudy.models.encoders.tables import TabularTransformer

ADAPTERS = ("whole", "flatten", "per-feature", "mean", "max", "conv")
NETWORKS = ("linear", "mlp", "resnet")
HEAD, PREDICTOR = "head.safetensors", "predictor.json"
TINY = 1e-6  # features that deviate less are constant, and are left in their scale


class TableHead(nn.Module):
    """Tells outputs [B, C] from tokens [B, T, H], which it standardises feature by feature first.

    Args:
        tokens: T.
        width: H.
        outputs: C.
        adapter: "whole" takes all T H features as they are, "flatten" makes T of them by one linear map,
            "per-feature" one number of each token, "conv" one of each token and its two neighbours, "mean"
            and "max" are over tokens.
        network: "linear", "mlp" or "resnet" (both as in Gorishniy et al. 2021).
        hidden: width of the network's layers.
        layers: of the perceptron, or blocks of the residual network.
        dropout: in the network.
        key: of the stream of its first weights.

    Raises:
        UsageError: no such adapter or network.
    """

    def __init__(
        self,
        tokens: int,
        width: int,
        outputs: int,
        *,
        adapter: str = "whole",
        network: str = "mlp",
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.0,
        key: int = 0,
    ) -> None:
        super().__init__()
        for what, given, known in (("adapter", adapter, ADAPTERS), ("network", network, NETWORKS)):
            if given not in known:
                raise UsageError(f"There is no {what} {given!r} of a head. {nearest(given, known)}")
        self.config = {
            "tokens": tokens,
            "width": width,
            "outputs": outputs,
            "adapter": adapter,
            "network": network,
            "hidden": hidden,
            "layers": layers,
            "dropout": dropout,
        }
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(tokens, width))
        self.register_buffer("deviation", torch.ones(tokens, width))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            self.adapter, size = _adapter(adapter, tokens, width)
            self.network = _network(network, size, outputs, hidden, layers, dropout)

    def standardise(self, tokens: torch.Tensor) -> None:
        """Take mean and deviation of each feature from tokens [N, T, H]."""
        self.mean = tokens.mean(0)
        deviation = tokens.std(0, correction=0)
        # Else a category that the few labelled rows do not have would be blown up where it comes.
        self.deviation = torch.where(deviation > TINY, deviation, torch.ones_like(deviation))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return outputs [B, C] of tokens [B, T, H]."""
        return self.network(self.adapter((tokens - self.mean) / self.deviation))


class PerFeature(nn.Module):
    """A linear map of its own for each token, to one number."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(tokens, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(tokens))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return [B, T] of tokens [B, T, H]."""
        return (tokens * self.weight).sum(2) + self.bias


class Reduced(nn.Module):
    """The mean, or the largest, of each feature over tokens."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return [B, H] of tokens [B, T, H]."""
        return tokens.mean(1) if self._how == "mean" else tokens.amax(1)


class Neighbours(nn.Conv1d):
    """One number of each token and its two neighbours."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1, 3, padding=1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return [B, T] of tokens [B, T, H]."""
        return super().forward(tokens.transpose(1, 2))[:, 0]


class ResidualBlock(nn.Module):
    """Normalise, widen, and add (Gorishniy et al. 2021, section 3.2, with layer normalisation)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = dropout

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return [B, width] of [B, width]."""
        hidden = functional.dropout(torch.relu(self.up(self.norm(inputs))), self.dropout, self.training)
        return inputs + self.down(hidden)


def _adapter(kind: str, tokens: int, width: int) -> tuple[nn.Module, int]:
    match kind:
        case "whole":
            return nn.Flatten(), tokens * width
        case "flatten":
            return nn.Sequential(nn.Flatten(), nn.Linear(tokens * width, tokens)), tokens
        case "per-feature":
            return PerFeature(tokens, width), tokens
        case "conv":
            return Neighbours(width), tokens
        case _:
            return Reduced(kind), width


def _network(kind: str, size: int, outputs: int, hidden: int, layers: int, dropout: float) -> nn.Module:
    if kind == "linear":
        return nn.Linear(size, outputs)
    parts: list[nn.Module] = []
    if kind == "resnet":
        parts += [nn.Linear(size, hidden), *(ResidualBlock(hidden, dropout) for _ in range(layers))]
        return nn.Sequential(*parts, nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    for _ in range(layers):
        parts += [nn.Linear(size, hidden), nn.ReLU(), nn.Dropout(dropout)]
        size = hidden
    return nn.Sequential(*parts, nn.Linear(size, outputs))


class TablePredictor(nn.Module):
    """An encoder with a head: tells the class, or the number, of rows.

    Args:
        encoder: of rows.
        head: on its tokens.
        classes: names; none where a number is told.
        centre, scale: the number is centre + scale * output.
    """

    def __init__(
        self,
        encoder: TabularTransformer,
        head: TableHead,
        classes: tuple[str, ...] = (),
        centre: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.classes, self.centre, self.scale = tuple(classes), centre, scale

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return outputs [B, C] of rows as numbers [B, D_n] and codes [B, D_c]."""
        return self.head(self.encoder.encode(self.encoder.tokens(Rows(numbers, codes))))

    def outputs(self, inputs: Any) -> torch.Tensor:
        """Return outputs [N, C] of rows as `TabularTransformer.embed` takes them."""
        tokens = self.encoder.encoded(self.encoder.rows(table_of(inputs)))
        self.head.eval()
        with torch.inference_mode():
            return self.head(tokens)

    def classify(self, inputs: Any) -> np.ndarray:
        """Return the place of each row's class in `classes`: [N]."""
        return self.outputs(inputs).argmax(1).numpy()

    def estimate(self, inputs: Any) -> np.ndarray:
        """Return the number told of each row: [N]."""
        return (self.centre + self.scale * self.outputs(inputs)[:, 0]).numpy()

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the name of each row's class, or its number: [N]."""
        if not self.classes:
            return self.estimate(inputs)
        return np.array(self.classes)[self.classify(inputs)]

    def save(self, folder: Path) -> None:
        """Write encoder, head and classes."""
        folder = Path(folder)
        self.encoder.save(folder / "encoder")
        safetensors.torch.save_file(
            {name: value.contiguous() for name, value in self.head.state_dict().items()}, folder / HEAD
        )
        told = {"classes": self.classes, "centre": self.centre, "scale": self.scale}
        write_json(folder / PREDICTOR, {**told, "head": self.head.config})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        content = read_json(Path(folder) / PREDICTOR)
        head = TableHead(**content.pop("head"))
        head.load_state_dict(safetensors.torch.load_file(Path(folder) / HEAD))
        return cls(TabularTransformer.load(Path(folder) / "encoder"), head.eval(), **content)
