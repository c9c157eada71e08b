"""The small networks of the workloads that training algorithms compete on, with a detail or two to change.

Each is made with torch's own first weights, drawn from the stream of a key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

Activation = Literal["relu", "tanh", "gelu"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def drawn(key: int, make: Callable[[], nn.Module]) -> nn.Module:
    """Return what `make` returns, its first weights drawn from the stream of `key`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key >> 1)
        return make()


def perceptron(
    inputs: int,
    classes: int,
    *,
    width: int = 64,
    layers: int = 3,
    activation: Activation = "relu",
    normalised: bool = True,
) -> nn.Sequential:
    """Return fully connected layers on flat inputs, batch-normalised or not: scores [B, classes]."""
    parts: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise([inputs, *[width] * layers]):
        parts.append(nn.Linear(before, after))
        if normalised:
            parts.append(nn.BatchNorm1d(after))
        parts.append(ACTIVATIONS[activation]())
    return nn.Sequential(*parts, nn.Linear(width, classes))


def convolutions(
    channels: int,
    classes: int,
    *,
    first: int = 8,
    stages: int = 2,
    activation: Activation = "relu",
    normalised: bool = True,
) -> nn.Sequential:
    """Return convolutions of 3 x 3, each at half the pixels of the one before: scores [B, classes]."""
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise([channels, *[first * 2**stage for stage in range(stages)]]):
        parts.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
        if normalised:
            parts.append(nn.BatchNorm2d(after))
        parts.append(ACTIVATIONS[activation]())
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(after, classes))


class HashedTable(nn.Module):
    """Numbers as they are and categories by embeddings, then fully connected layers, as in DLRM.

    Args:
        numbers: columns of numbers, the first of the inputs.
        categories: columns of hashed categories, the others.
        buckets: that categories are hashed to.
        classes: that are told.
        embedded: width of an embedding.
        more: of `perceptron`.
    """

    def __init__(
        self, numbers: int, categories: int, buckets: int, classes: int, *, embedded: int = 4, **more: object
    ) -> None:
        super().__init__()
        self.numbers = numbers
        self.embedding = nn.Embedding(buckets, embedded)
        inputs = numbers + categories * embedded
        self.network = perceptron(inputs, classes, **more)  # type: ignore[arg-type]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, classes] of rows [B, numbers + categories]; buckets are whole numbers."""
        embedded = self.embedding(rows[:, self.numbers :].long()).flatten(1)
        return self.network(torch.cat([rows[:, : self.numbers], embedded], 1))


class WordLstm(nn.Module):
    """The class of a text from the last state of an LSTM over its words.

    Args:
        words: that there are; 0 fills the end of a text.
        classes: that are told.
        width: of embeddings and states.
        layers: of the LSTM.
    """

    def __init__(self, words: int, classes: int, *, width: int = 32, layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, classes] of texts [B, T] of words."""
        states, _ = self.lstm(self.embedding(texts))
        last = (texts != 0).sum(1).clamp(min=1) - 1
        return self.head(states[torch.arange(len(texts)), last])


class CharacterDecoder(nn.Module):
    """A small causal transformer on characters.

    Args:
        characters: that there are.
        length: of the longest text.
        width: of the tokens.
        layers: of attention.
        heads: of each.
        pre_norm: normalise before each part; else after it, as the first transformers did.
        activation: of the feed-forward parts.
    """

    def __init__(
        self,
        characters: int,
        length: int,
        *,
        width: int = 64,
        layers: int = 2,
        heads: int = 2,
        pre_norm: bool = True,
        activation: Literal["relu", "gelu"] = "gelu",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, activation, batch_first=True, norm_first=pre_norm
        )
        final = nn.LayerNorm(width) if pre_norm else None
        self.blocks = nn.TransformerEncoder(block, layers, final, enable_nested_tensor=False)
        self.head = nn.Linear(width, characters)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, T, characters] of what follows each character of texts [B, T]."""
        length = texts.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        tokens = self.embedding(texts) + self.places[:length]
        return self.head(self.blocks(tokens, mask=mask, is_causal=True))


class NodeConvolutions(nn.Module):
    """Two graph convolutions over the whole graph, read at the nodes that are asked for (Kipf, Welling 2017).

    Args:
        features: [N, F] of the nodes, sparse.
        adjacency: [N, N] sparse, normalised.
        classes: that are told.
        width: of the layer between.
        activation: of the layer between.
    """

    def __init__(
        self,
        features: torch.Tensor,
        adjacency: torch.Tensor,
        classes: int,
        *,
        width: int = 32,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self._features, self._adjacency = features, adjacency  # data, not state
        self.first = nn.Parameter(nn.init.xavier_uniform_(torch.empty(features.shape[1], width)))
        self.second = nn.Linear(width, classes)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, classes] of nodes [B]."""
        hidden = self.activation(
            torch.sparse.mm(self._adjacency, torch.sparse.mm(self._features, self.first))
        )
        return torch.sparse.mm(self._adjacency, self.second(hidden))[nodes]
