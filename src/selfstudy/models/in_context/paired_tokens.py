"""Attention on tokens that hold an input or a target, not both: x_1, y_1, x_2, y_2, ..., x_q.

von Oswald et al. 2022, arXiv 2212.07677, section 5: here it takes two layers. The first, with softmax, copies
each target into the token of its input, as induction heads do; the second then takes the step of descent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Context
from selfstudy.models.in_context.parts import attend, check_width, first_weights
from selfstudy.models.small import SmallModel

CODES = 10  # coordinates of a position's code
PERIOD = 1000.0  # of the slowest code


class PairedTokens(SmallModel):
    """Two layers of attention, softmax in the first only, on tokens [content, position code].

    The content has d + 1 coordinates: (x_i, 0) or (0, y_i); codes are sinusoidal. Keys and values come from
    all tokens but the query's. The prediction is minus the query's target coordinate after both layers.

    Args:
        dimensions: d, of an input.
        positions: tokens there is room for; n examples and a query take 2n + 1.
        heads: of the first layer; the second has one.
        scale: of the first weights: their variance is scale / width.
        seed: names the first weights.
    """

    kind = "paired-tokens"

    def __init__(
        self, *, dimensions: int = 10, positions: int = 101, heads: int = 1, scale: float = 0.2, seed: int = 0
    ) -> None:
        super().__init__(dimensions=dimensions, positions=positions, heads=heads, scale=scale, seed=seed)
        if min(dimensions, heads) < 1 or positions < 3 or not scale > 0:
            raise UsageError(
                f"dimensions={dimensions} and heads={heads} must be at least 1, positions={positions} at "
                f"least 3, scale={scale:g} above 0."
            )
        self.dimensions, self.positions, self.layers, self.descent_steps = dimensions, positions, 2, 1
        width, stream = dimensions + 1 + CODES, self.generator()
        self.copy_weights = nn.Parameter(first_weights((4, heads, width, width), scale / width, stream))
        self.step_weights = nn.Parameter(first_weights((4, 1, width, width), scale / width, stream))

    def check_room(self, context: int) -> None:
        """Refuse a context that is longer than the positions.

        Raises:
            UsageError: 2n + 1 tokens are more than there are positions.
        """
        if 2 * context + 1 > self.positions:
            raise UsageError(
                f"A context of {context} examples takes {2 * context + 1} positions, and the model has "
                f"{self.positions}. Give the model positions={2 * context + 1}, or the task a smaller "
                "context."
            )

    def forward(self, context: Context, query: Tensor) -> Tensor:
        """Predict the answers of `query` [B, d]: [B]."""
        check_width(self.dimensions, query.shape[-1])
        seen = self._first_layer(self.sequence(context, query))
        q, k, v, p = self.step_weights
        after = seen[:, -1:] + attend(seen[:, -1:], seen[:, :-1], q @ k.mT, v @ p)
        return -after[:, 0, self.dimensions]

    def sequence(self, context: Context, query: Tensor) -> Tensor:
        """Return the tokens: [B, 2n + 1, d + 1 + codes]."""
        size, n, d = context.inputs.shape
        self.check_room(n)
        content = torch.zeros(size, 2 * n + 1, d + 1)
        content[:, 0:-1:2, :d] = context.inputs
        content[:, 1::2, d] = context.targets
        content[:, -1, :d] = query
        return torch.cat([content, position_codes(2 * n + 1).expand(size, -1, -1)], -1)

    def _first_layer(self, tokens: Tensor) -> Tensor:
        q, k, v, p = self.copy_weights
        return tokens + attend(tokens, tokens[:, :-1], q @ k.mT, v @ p, softmax=True)

    def copying(self, context: Context, query: Tensor) -> dict[str, float]:
        """Return how much the tokens of inputs take from others in the first layer.

        Mean norms of the gradient of a token's output: "own" with respect to itself (without the residual
        path), "next" to the token after it, which holds its target, "other" to all others, each a token.
        """
        tokens = self.sequence(context, query).detach().requires_grad_()
        inputs = tokens[:, 0:-1:2]
        n = inputs.shape[1]
        change = self._first_layer(tokens) - tokens
        # One random direction a token stands for all directions of its output.
        direction = torch.linspace(-1, 1, tokens.shape[-1])
        own, following, other = [], [], []
        for i in range(n):
            (gradient,) = torch.autograd.grad((change[:, 2 * i] @ direction).sum(), tokens, retain_graph=True)
            norms = gradient.norm(dim=-1).mean(0)
            own.append(float(norms[2 * i]))
            following.append(float(norms[2 * i + 1]))
            other.append(float((norms.sum() - norms[2 * i] - norms[2 * i + 1]) / (len(norms) - 2)))
        return {"own": sum(own) / n, "next": sum(following) / n, "other": sum(other) / n}


def position_codes(count: int) -> Tensor:
    """Return sines and cosines of the positions 0, 1, ...: [count, CODES] (Vaswani et al. 2017)."""
    places = torch.arange(count)[:, None]
    rates = torch.exp(-math.log(PERIOD) * torch.arange(0, CODES, 2) / CODES)
    return torch.cat([torch.sin(places * rates), torch.cos(places * rates)], -1)
