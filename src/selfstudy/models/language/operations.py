"""What a decoder does between two products of matrices: by torch, or compiled for processors, in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

_GELU = 2 * math.sqrt(2 / math.pi)
GATES = {"silu": (1.0, 0.0), "gelu_pytorch_tanh": (_GELU, 0.044715 * _GELU)}
"""Activations that are x * sigmoid(a x + b x**3): a and b."""
WHOLE = 32
"""Columns of a state come in so many where products are compiled loops: these know nothing less."""

Tables = tuple[torch.Tensor, torch.Tensor]
"""Cosine and sine [T, D] by position; the first half of a sine is negative."""


class TorchOperations:
    """On any device, in any precision.

    Args:
        module: whose norms and activation these are.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        blocks: Any = module.base_model.layers
        self._eps, self._activation = module.config.rms_norm_eps, blocks[0].mlp.act_fn

    def normed(self, state: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return rows [..., H] by their root mean square, times weight [H]."""
        return F.rms_norm(state, weight.shape, weight, self._eps)

    def add_normed(
        self, state: torch.Tensor, added: torch.Tensor, after: torch.Tensor | None, before: torch.Tensor
    ) -> torch.Tensor:
        """Add rows to a state [N, H] in place, and return the sum as the next product wants it.

        Args:
            state: is changed.
            added: may be overwritten.
            after: weight of the norm of what is added, if any.
            before: weight of the norm of the sum.
        """
        state += added if after is None else self.normed(added, after)
        return self.normed(state, before)

    def rotation(self, tables: Tables, positions: torch.Tensor) -> Any:
        """Return the rotation to positions [N], for `turn`."""
        return tuple(table[positions][:, None] for table in tables)

    def turn(
        self, mixed: torch.Tensor, heads: int, rotation: Any, norms: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """Turn queries and keys in place.

        Args:
            mixed: [N, heads + 2 key heads, D] queries, keys and values.
            heads: of the queries.
            rotation: see there.
            norms: weights of the norms of queries and of keys before, if any.
        """
        turned = mixed[:, : (mixed.shape[1] + heads) // 2]
        given = turned
        if norms is not None:
            query, key = turned[:, :heads], turned[:, heads:]
            given = torch.cat([self.normed(query, norms[0]), self.normed(key, norms[1])], 1)
        cosine, sine = rotation
        # Rolled by half a head, the halves are swapped.
        torch.addcmul(given * cosine, given.roll(mixed.shape[2] // 2, -1), sine, out=turned)

    def gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """Return the activation of the first half of each row [N, 2 I] times the second, [N, I]."""
        gate, up = gate_up.chunk(2, -1)
        activated: torch.Tensor = self._activation(gate).mul_(up)
        return activated


class CompiledOperations:
    """On processors, in float32 for weights of bfloat16 too; the interface of `TorchOperations`."""

    def __init__(self, module: PreTrainedModel) -> None:
        # Only here, for the compiler's import takes half a second.
        from selfstudy.models.language import kernels

        self._kernels = kernels
        self._eps = np.float32(module.config.rms_norm_eps)
        linear, cubic = GATES[activation(module)]
        self._linear, self._cubic = np.float32(linear), np.float32(cubic)
        self._none = np.zeros(0, dtype=np.float32)

    def normed(self, state: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See `TorchOperations.normed`."""
        out = torch.empty_like(state)
        self._kernels.normed(state.numpy(), weight.numpy(), self._eps, out.numpy())
        return out

    def add_normed(
        self, state: torch.Tensor, added: torch.Tensor, after: torch.Tensor | None, before: torch.Tensor
    ) -> torch.Tensor:
        """See `TorchOperations.add_normed`."""
        out = torch.empty_like(state)
        weight = self._none if after is None else after.numpy()
        arrays = (state.numpy(), added.numpy(), weight, before.numpy())
        self._kernels.add_normed(*arrays, self._eps, out.numpy())
        return out

    def rotation(self, tables: Tables, positions: torch.Tensor) -> Any:
        """See `TorchOperations.rotation`."""
        cosine, sine = tables
        return positions.contiguous().numpy(), cosine.numpy(), sine.numpy()

    def turn(
        self, mixed: torch.Tensor, heads: int, rotation: Any, norms: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """See `TorchOperations.turn`."""
        weights = (self._none, self._none) if norms is None else (norm.numpy() for norm in norms)
        self._kernels.turn(mixed.numpy(), heads, *rotation, *weights, self._eps)

    def gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See `TorchOperations.gated`."""
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        self._kernels.gated(gate_up.numpy(), self._linear, self._cubic, out.numpy())
        return out


def activation(module: PreTrainedModel) -> str:
    """Return the name of a decoder's activation."""
    config = module.config
    return str(getattr(config, "hidden_activation", None) or config.hidden_act)


def can_compile(module: PreTrainedModel) -> bool:
    """Tell whether `CompiledOperations` does what a decoder wants."""
    precise = module.dtype in (torch.float32, torch.bfloat16)
    return module.device.type == "cpu" and precise and activation(module) in GATES
