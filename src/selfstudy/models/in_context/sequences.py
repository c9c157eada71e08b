"""Sequence models that learn from labelled examples in their context, and the transformer among them.

Kirsch et al. 2022, arXiv 2212.04458. A sequence is x_1, y_1, x_2, y_2, ... in L tokens: token j holds x_j and
the label before it, y_(j-1), so that position j tells y_j from all labelled examples before it and from x_j.
The label is moved on inside the models: no caller can show a model the label that it is asked for.

The transformer smears its keys unless told otherwise: the key of a token is a mix of its own and of the one
before, as in Olsson et al. 2022, arXiv 2209.11895. An example and its label are in neighbouring tokens, so
that a query like x_j then finds y_j in one layer; a plain transformer has to build that out of two.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import UsageError, nearest
from selfstudy.models.small import SmallModel

HEAD_SCALE = 0.02  # of the first weights of the output, so that the first loss is log C


class SequenceModel(SmallModel):
    """What the models share: tokens of inputs and earlier labels, and scores of classes.

    Attributes:
        inputs: m', the length of an input.
        classes: C.
        positions: most examples of a sequence, the last one included.
        width: of what is known at a position.
    """

    inputs: int
    classes: int
    positions: int
    width: int

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        for name, value in config.items():
            if name in ("seed", "smear", "memory"):
                continue
            if value < 1:
                raise UsageError(
                    f"The field {name} of model {self.kind!r} is {value}; it must be at least 1."
                )
        self.inputs, self.classes = config["inputs"], config["classes"]
        self.positions = config["positions"]

    @classmethod
    def like(cls, other: SequenceModel, **fields: Any) -> Self:
        """Return the widest of no more weights than `other`, for the same sequences; else one of width 1.

        Args:
            other: gives inputs, classes, positions and seed, and the number of weights.
            fields: of the new model, beside the width.

        >>> from selfstudy.models.in_context.sequence_baselines import SequenceLstm
        >>> transformer = SequenceTransformer()
        >>> 0.97 < SequenceLstm.like(transformer).weights / transformer.weights <= 1
        True
        """
        fields |= {name: other.config[name] for name in ("inputs", "classes", "positions", "seed")}

        def weights(width: int) -> int:
            return cls(**fields, width=width).weights

        limit = 2
        while weights(limit) <= other.weights:
            limit *= 2
        return cls(**fields, width=max(1, bisect_right(range(1, limit), other.weights, key=weights)))

    def _ends(self, width: int, token: int | None = None) -> None:
        self.width, token = width, token or width
        self.see = nn.Linear(self.inputs, token)
        self.told = nn.Embedding(self.classes + 1, token)  # the last row: nothing is known before the first
        self.tell = nn.Linear(width, self.classes)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scores of the classes at each position: [B, L, C].

        Args:
            inputs: [B, L, m'], float32.
            labels: [B, L], int64; the label of a position is seen from the next position on, the last never.

        Raises:
            UsageError: inputs of another length, or more than `positions` examples.
        """
        length, features = inputs.shape[1:]
        if features != self.inputs:
            raise UsageError(
                f"The model {self.name!r} takes inputs of {self.inputs} numbers, not {features}."
            )
        if length > self.positions:
            raise UsageError(
                f"A context of {length - 1} examples and one to tell is longer than the {self.positions} "
                f"positions of the model {self.name!r}. Give fewer examples, or a model with more positions."
            )
        earlier = functional.pad(labels[:, :-1], (1, 0), value=self.classes)
        return self.tell(self._read(self.see(inputs) + self.told(earlier)))

    @abstractmethod
    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what is known at each position, [B, L, width], from the tokens up to there."""

    @abstractmethod
    def accessible_state(self, context: int) -> int:
        """Return how many numbers it can carry from `context` past examples to the present."""

    def _draw_weights(self) -> None:
        """Draw matrices from N(0, 1/fan-in), with biases of 0; the output's are small."""
        generator = self.generator()
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() < 2 or name.endswith("mix"):
                    weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                else:
                    scale = HEAD_SCALE if name.startswith("tell") else 1 / math.sqrt(weight.shape[1])
                    weight.normal_(0.0, scale, generator=generator)


class SequenceTransformer(SequenceModel):
    """A causal transformer with learned positions, norms before each part, and GELU.

    Args:
        inputs: m'.
        classes: C.
        layers: blocks of attention and a network of two layers.
        width: of a token.
        heads: of attention; they divide the width.
        positions: N + 1, which bounds the context for good.
        smear: whether keys are mixed with the ones before; without, it is a plain transformer.
        memory: "attention" keeps all keys and values; "outer-products" adds them up in one matrix a head.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "sequence-transformer"

    def __init__(
        self,
        *,
        inputs: int = 64,
        classes: int = 5,
        layers: int = 3,
        width: int = 64,
        heads: int = 2,
        positions: int = 31,
        smear: bool = True,
        memory: str = "attention",
        seed: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs,
            classes=classes,
            layers=layers,
            width=width,
            heads=heads,
            positions=positions,
            smear=smear,
            memory=memory,
            seed=seed,
        )
        if width % heads:
            raise UsageError(f"width {width} must be a multiple of heads, {heads}.")
        if memory not in _MEMORIES:
            raise UsageError(f"memory={memory} is unknown. {nearest(memory, _MEMORIES)}")
        self.heads, self.memory = heads, memory
        self._ends(width)
        self.place = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(_Block(width, heads, smear, memory) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self._draw_weights()

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def accessible_state(self, context: int) -> int:
        """Return the numbers kept: keys and values of the past, 2 * layers * N * width, or the matrices."""
        layers, each = len(self.blocks), self.width // self.heads
        if self.memory == "outer-products":
            return layers * self.heads * each * (each + 1)
        return 2 * layers * context * self.width


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def _outer_products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Read W_j q_j, where W_j = W_(j-1) + v_j k_j^T is the fast weights, divided by the same sum of keys.

    Katharopoulos et al. 2020, arXiv 2006.16236, on positive features; Schlag et al. 2021, arXiv 2102.11174,
    say why these are the fast weights of Schmidhuber 1992. All positions at once, as a masked product.
    """
    weights = ((functional.elu(query) + 1) @ (functional.elu(key) + 1).transpose(-2, -1)).tril()
    return weights @ value / weights.sum(-1, keepdim=True)


_MEMORIES = {"attention": _attention, "outer-products": _outer_products}


class _Block(nn.Module):
    """Attention to what came before, then a network of two layers."""

    def __init__(self, width: int, heads: int, smear: bool, memory: str) -> None:
        super().__init__()
        self.heads, self.recall = heads, _MEMORIES[memory]
        self.mix = nn.Parameter(torch.zeros(heads, 1, 1)) if smear else None
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.give = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, length, width = tokens.shape
        heads = self.ask(self.norm_attention(tokens)).view(batch, length, 3, self.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, L, width / heads]
        if self.mix is not None:
            key = torch.lerp(functional.pad(key[:, :, :-1], (0, 0, 1, 0)), key, self.mix.sigmoid())
        seen = self.recall(query, key, value)
        tokens = tokens + self.give(seen.transpose(1, 2).reshape(batch, length, width))
        return tokens + self.narrow(functional.gelu(self.widen(self.norm_network(tokens))))
