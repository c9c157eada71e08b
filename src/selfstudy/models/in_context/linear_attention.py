"""Linear self-attention that regresses in context, with weights one can read.

Tokens are e_i = (x_i, y_i) for the examples and e_q = (x_q, 0) for the query, row vectors of width D = d + 1.
Keys and values come from the examples only; the query is no key. von Oswald et al. 2022, arXiv 2212.07677
(four matrices a head); Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576 (one vector and one matrix).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from selfstudy.core.errors import UsageError
from selfstudy.data.regression import Context
from selfstudy.models.in_context.parts import DEEP, attend, check_width, first_weights, tokens
from selfstudy.models.small import SmallModel

DEEP_CLIP = 10.0
AUTOMATIC = 0.0  # the value of `clip` that leaves it to the depth
MATRICES = ("query", "key", "value", "projection")


class Bilinear(NamedTuple):
    """A layer of H heads as Σ_h Σ_i (u_h·v_i)(v_i^T M_h x_q), with v_i = (x_i, y_i)."""

    u: Tensor  # [H, d + 1]
    matrix: Tensor  # [H, d + 1, d]


class LinearSelfAttention(SmallModel):
    """K layers of linear self-attention; each head h has W_Q, W_K, W_V, P [D, D].

    E <- E + Σ_h (E W_Q)(E_ctx W_K)^T (E_ctx W_V) P, without softmax, scale, mask, bias or MLP. The prediction
    is MINUS the last coordinate of the query's token after the last layer.

    Args:
        dimensions: d, of an input; tokens are one wider.
        layers: K.
        recurrent: all layers share one set of weights.
        heads: a layer; their outputs are added.
        softmax: softmax over the examples; needs two heads or more to come near gradient descent.
        layer_norm: normalise the tokens that enter each layer.
        clip: activations are cut to [-clip, clip] after each layer; 0 is 10 for more than three layers and
            none for fewer, inf is none.
        scale: of the first weights: their variance is scale / (layers D).
        seed: names the first weights.
    """

    kind = "linear-attention"
    query: nn.Parameter
    key: nn.Parameter
    value: nn.Parameter
    projection: nn.Parameter

    def __init__(
        self,
        *,
        dimensions: int = 10,
        layers: int = 1,
        recurrent: bool = True,
        heads: int = 1,
        softmax: bool = False,
        layer_norm: bool = False,
        clip: float = AUTOMATIC,
        scale: float = 0.002,
        seed: int = 0,
    ) -> None:
        super().__init__(
            dimensions=dimensions,
            layers=layers,
            recurrent=recurrent,
            heads=heads,
            softmax=softmax,
            layer_norm=layer_norm,
            clip=clip,
            scale=scale,
            seed=seed,
        )
        if min(dimensions, layers, heads) < 1 or not scale > 0 or not clip >= 0:
            raise UsageError(
                f"dimensions={dimensions}, layers={layers} and heads={heads} must be at least 1, "
                f"scale={scale:g} above 0, and clip={clip:g} 0 or more."
            )
        self.dimensions, self.layers, self.softmax = dimensions, layers, softmax
        self.reuse = layers if recurrent else 1
        self.descent_steps = layers
        self.clip = (DEEP_CLIP if layers > DEEP else math.inf) if clip == AUTOMATIC else clip
        width = dimensions + 1
        stream = self.generator()
        for name in MATRICES:
            shape = (1 if recurrent else layers, heads, width, width)
            setattr(self, name, nn.Parameter(first_weights(shape, scale / (layers * width), stream)))
        self.norm = nn.LayerNorm(width) if layer_norm else None

    def products(self) -> tuple[Tensor, Tensor]:
        """Return QK = W_Q W_K^T and VP = W_V P, on which alone the function depends: [sets, H, D, D] each."""
        return self.query @ self.key.mT, self.value @ self.projection

    def forward(self, context: Context, query: Tensor) -> Tensor:
        """Predict the answers of `query` [B, d]: [B]."""
        check_width(self.dimensions, query.shape[-1])
        qk, vp = self.products()
        examples, asked = tokens(context, query)
        for k in range(self.layers):
            i = k % len(qk)
            seen = torch.cat([examples, asked], 1) if k < self.layers - 1 else asked
            seen = self._layer(seen, examples, qk[i], vp[i])
            examples, asked = seen[:, :-1], seen[:, -1:]
        return -asked[:, 0, -1]

    def layerwise(self, context: Context, query: Tensor) -> Tensor:
        """Return what would be read off after 0, 1, ..., K layers: [K + 1, B]."""
        qk, vp = self.products()
        examples, asked = tokens(context, query)
        everything = torch.cat([examples, asked], 1)
        read = [-everything[:, -1, -1]]
        for k in range(self.layers):
            i = k % len(qk)
            everything = self._layer(everything, everything[:, :-1], qk[i], vp[i])
            read.append(-everything[:, -1, -1])
        return torch.stack(read)

    def repeated(self, context: Context, query: Tensor, times: int, damping: float = 0.75) -> Tensor:
        """Apply the first layer again and again, to y alone, by `damping` of its update: [times + 1, B]."""
        qk, vp = self.products()
        examples, asked = tokens(context, query)
        everything = torch.cat([examples, asked], 1)
        y_only = torch.zeros(everything.shape[-1])
        y_only[-1] = damping
        read = [-everything[:, -1, -1]]
        for _ in range(times):
            after = self._layer(everything, everything[:, :-1], qk[0], vp[0])
            everything = everything + y_only * (after - everything)
            read.append(-everything[:, -1, -1])
        return torch.stack(read)

    def _layer(self, seen: Tensor, examples: Tensor, qk: Tensor, vp: Tensor) -> Tensor:
        """Update the tokens `seen` [B, T, D] by attention to `examples` [B, n, D]."""
        left, right = (seen, examples) if self.norm is None else (self.norm(seen), self.norm(examples))
        after = seen + attend(left, right, qk, vp, softmax=self.softmax)
        return after if math.isinf(self.clip) else after.clamp(-self.clip, self.clip)

    def bilinear(self) -> Bilinear:
        """Return the one layer in the (u, M) form: u = VP e_D and M = -QK^T without its last column.

        Raises:
            UsageError: there is more than one layer, a softmax or a layer norm.
        """
        if self.layers > 1 or self.softmax or self.norm is not None:
            raise UsageError(
                "Only one layer of linear attention is a bilinear map; this model has "
                f"layers={self.layers}, softmax={self.softmax}, layer_norm={self.norm is not None}. "
                "Predictions and sensitivities can be compared for every model."
            )
        qk, vp = self.products()
        return Bilinear(vp[0, :, :, -1], -qk[0].mT[:, :, :-1])


class BilinearAttention(SmallModel):
    """One layer of linear attention as f = Σ_i (u·v_i)(v_i^T M v_q), v_i = (x_i, y_i), v_q = (x_q, 0).

    With u = (p, c) and M = [[A, b], [a^T, e]] this is Σ_i (p·x_i + c y_i)(x_i^T A + y_i a^T) x_q; b and e
    change nothing. First weights: c = 0.3; p, and all of M, N(0, scale²).

    Args:
        dimensions: d, of an input.
        scale: deviation of the first p and M.
        seed: names the first weights.
    """

    kind = "bilinear-attention"

    def __init__(self, *, dimensions: int = 5, scale: float = 0.02, seed: int = 0) -> None:
        super().__init__(dimensions=dimensions, scale=scale, seed=seed)
        if dimensions < 1 or not scale > 0:
            raise UsageError(f"dimensions={dimensions} must be at least 1 and scale={scale:g} above 0.")
        self.dimensions, self.layers, self.descent_steps = dimensions, 1, 1
        stream = self.generator()
        p = scale * torch.randn(dimensions, generator=stream)
        self.u = nn.Parameter(torch.cat([p, torch.tensor([0.3])]))
        self.matrix = nn.Parameter(scale * torch.randn(dimensions + 1, dimensions + 1, generator=stream))

    def forward(self, context: Context, query: Tensor) -> Tensor:
        """Predict the answers of `query` [B, d]: [B]."""
        check_width(self.dimensions, query.shape[-1])
        v = torch.cat([context.inputs, context.targets[..., None]], -1)
        weighted = (v @ self.u)[:, None] @ v  # Σ_i (u·v_i) v_i, [B, 1, D]
        return (weighted[:, 0] @ self.matrix[:, :-1] * query).sum(-1)

    def bilinear(self) -> Bilinear:
        """Return u and M, without the last column of M, which meets the 0 of the query."""
        return Bilinear(self.u[None], self.matrix[None, :, :-1])
