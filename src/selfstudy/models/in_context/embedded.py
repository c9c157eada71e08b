"""Linear attention on learned features of the inputs, and one explicit step of descent on such features.

von Oswald et al. 2022, arXiv 2212.07677, section 4: with an MLP below it, a layer of linear attention does
regression on deep features, as a step of gradient descent on the last layer of a learned network does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Context
from selfstudy.models.in_context.linear_attention import LinearSelfAttention
from selfstudy.models.in_context.parts import check_width
from selfstudy.models.in_context.predictors import gradient_descent
from selfstudy.models.small import SmallModel

WIDENING = 4  # of the MLP's hidden layer


class Features(nn.Module):
    """φ(x) = h + W_2 gelu(W_1 h) with h = W_0 x, all with biases: [..., d] -> [..., width]."""

    def __init__(self, dimensions: int, width: int, stream: torch.Generator) -> None:
        super().__init__()
        self.embed = nn.Linear(dimensions, width)
        self.widen = nn.Linear(width, WIDENING * width)
        self.narrow = nn.Linear(WIDENING * width, width)
        with torch.no_grad():
            for layer in (self.embed, self.widen, self.narrow):
                reach = 1 / math.sqrt(layer.in_features)
                layer.weight.uniform_(-reach, reach, generator=stream)
                layer.bias.uniform_(-reach, reach, generator=stream)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features of `x`."""
        h = self.embed(x)
        return h + self.narrow(nn.functional.gelu(self.widen(h)))

    def of(self, context: Context, query: Tensor) -> tuple[Context, Tensor]:
        """Return the problem in terms of its features."""
        return Context(self(context.inputs), context.targets), self(query)


class EmbeddedAttention(SmallModel):
    """Tokens (φ(x_i), y_i) with learned features φ, and one layer of linear attention.

    Args:
        dimensions: of an input.
        width: of the features.
        seed: names the first weights.
    """

    kind = "embedded-attention"

    def __init__(self, *, dimensions: int = 1, width: int = 40, seed: int = 0) -> None:
        super().__init__(dimensions=dimensions, width=width, seed=seed)
        check_sizes(dimensions, width)
        self.dimensions, self.width, self.layers, self.descent_steps = dimensions, width, 1, 1
        self.features = Features(dimensions, width, self.generator())
        self.attention = LinearSelfAttention(dimensions=width, seed=seed)

    def forward(self, context: Context, query: Tensor) -> Tensor:
        """Predict the answers of `query` [B, d]: [B]."""
        check_width(self.dimensions, query.shape[-1])
        return self.attention(*self.features.of(context, query))


class FeatureDescent(SmallModel):
    """One step of gradient descent from 0 on the last layer over learned features, with a learned step.

    ŷ = s Σ_i y_i φ(x_i)·φ(x_q); what `EmbeddedAttention` is compared with.

    Args:
        dimensions: of an input.
        width: of the features.
        seed: names the first weights.
    """

    kind = "feature-descent"

    def __init__(self, *, dimensions: int = 1, width: int = 40, seed: int = 0) -> None:
        super().__init__(dimensions=dimensions, width=width, seed=seed)
        check_sizes(dimensions, width)
        self.dimensions, self.layers, self.descent_steps = dimensions, 1, 1
        self.features = Features(dimensions, width, self.generator())
        self.step = nn.Parameter(torch.tensor(0.001))

    def forward(self, context: Context, query: Tensor) -> Tensor:
        """Predict the answers of `query` [B, d]: [B]."""
        check_width(self.dimensions, query.shape[-1])
        return gradient_descent(self.step)(*self.features.of(context, query))


def check_sizes(dimensions: int, width: int) -> None:
    """Raise a UsageError for a size below 1."""
    if min(dimensions, width) < 1:
        raise UsageError(f"dimensions={dimensions} and width={width} must be at least 1.")
