"""The forward pass of a Llama that is learned from, and its gradient, on processors in float32.

transformers' module gives the same, in twice the time where a model is small: texts are padded, those that
share their beginning are kept apart by a mask over all pairs, every operation writes to fresh memory, and
some processors run torch's products at half of their speed. Here tokens lie one after the other, whatever
text they are of, each text looks at its own tokens and at those of the one that it goes on from, and
everything is compiled loops over memory that is kept from pass to pass.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from selfstudy.models.language.decoder import can_decode
from selfstudy.models.language.inference import one_dnn
from selfstudy.models.language.memory import Room
from selfstudy.models.language.operations import GATES, WHOLE, activation, can_compile
from selfstudy.models.language.packed_texts import Packed

THREADS = 2  # with more torch may be the faster: compiled loops have one
NARROW = 256  # columns; with more, products are most of the time, and MKL may compute them as fast
PER_LAYER = 9  # weights


def can_train(module: nn.Module) -> bool:
    """Tell whether `packed_logits` gives what the module gives, with all that its training wants, and sooner.

    For a plain Llama whose weights are all trained, in float32 on a processor; not with adapters, hooks,
    dropout, gradient checkpoints or mixed precision. Nor where nothing is differentiated: a pass keeps all
    that its gradient needs.
    """
    config: Any = getattr(module, "config", None)
    if not isinstance(module, PreTrainedModel) or config.model_type != "llama" or config.hidden_size % WHOLE:
        return False
    if torch.get_num_threads() > THREADS or (config.hidden_size > NARROW and not one_dnn()):
        return False
    if torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
        return False
    return can_decode(module) and can_compile(module) and _is_plain(module)


def _is_plain(module: PreTrainedModel) -> bool:
    blocks: Any = module.base_model.layers
    dropping = any(block.self_attn.attention_dropout for block in blocks)
    if module.training and (dropping or module.is_activation_checkpointing):
        return False
    return not any(
        layer._backward_hooks
        or layer._backward_pre_hooks
        or any(_differs(name, weight) for name, weight in layer._parameters.items() if weight is not None)
        for layer in module.modules()
    )


def _differs(name: str, weight: torch.Tensor) -> bool:
    usual = type(weight) is nn.Parameter and weight.dtype == torch.float32 and name == "weight"
    return not (usual and weight.requires_grad and weight.is_contiguous())


def packed_logits(module: Any, packed: Packed) -> torch.Tensor:
    """Return the logits [M, V] after the tokens at `packed.places`; differentiable.

    Args:
        module: one that `can_train`.
        packed: what is read.
    """
    found = _Function.apply(module, packed, *_weights(module))
    assert isinstance(found, torch.Tensor)
    return found


def _weights(module: Any) -> list[torch.Tensor]:
    """Return the embeddings, the nine weights of each layer, the last norm, and the vocabulary layer."""
    weights = [module.base_model.embed_tokens.weight]
    for block in module.base_model.layers:
        attention, mlp = block.self_attn, block.mlp
        weights += [block.input_layernorm.weight]
        weights += [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        weights += [attention.o_proj.weight, block.post_attention_layernorm.weight]
        weights += [mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight]
    return [*weights, module.base_model.norm.weight, module.get_output_embeddings().weight]


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, module: Any, packed: Packed, *weights: torch.Tensor) -> torch.Tensor:
        ctx.run = _Pass(module, packed, [weight.detach().numpy() for weight in weights])
        ctx.save_for_backward(*weights)
        return torch.from_numpy(ctx.run.logits())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: torch.Tensor) -> Any:
        _ = ctx.saved_tensors  # torch refuses where a weight was written to since
        return None, None, *map(torch.from_numpy, ctx.run.gradients(given.contiguous().numpy()))


class _Pass:
    """One pass over packed tokens, forwards and back.

    Matrices are filled up to whole panels on the right, with anything where it is not read.
    """

    def __init__(self, module: Any, packed: Packed, weights: list[np.ndarray]) -> None:
        # Only here, for the compiler's import takes half a second.
        from selfstudy.models.language import kernels, product_kernels, training_kernels

        self.do, self.products, self.back = kernels, product_kernels, training_kernels
        config, attention = module.config, module.base_model.layers[0].self_attn
        self.texts, self.positions = packed.texts, packed.positions
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.width, self.inside = attention.head_dim, config.intermediate_size
        self.eps, self.scaling = np.float32(config.rms_norm_eps), np.float32(attention.scaling)
        self.gate = tuple(map(np.float32, GATES[activation(module)]))
        self.none = np.zeros(0, dtype=np.float32)
        self.cosine, self.sine = _tables(module, int(packed.positions.max()) + 1)
        self._packed = packed
        self._embeddings, *inside, self._norm, self._head = weights
        self.room = Room(module)
        self._layers = [_Layer(self, inside[i : i + PER_LAYER]) for i in range(0, len(inside), PER_LAYER)]
        self._silent = module.base_model.embed_tokens.padding_idx

    def logits(self) -> np.ndarray:
        """Return [M, V]."""
        state = self._embeddings[self._packed.tokens]
        for layer in self._layers:
            state = layer.forward(self, state)
        self._last = state[self._packed.places]
        self._inner = self.normed(self._last, self._norm)
        out = self.product(self._inner, self.columns(self._head))
        return out[:, : len(self._head)].copy()

    def gradients(self, given: np.ndarray) -> list[np.ndarray]:
        """Return the gradients of all weights, in their order, from that of the logits [M, V]."""
        given = self.padded(given)
        of_head = self.product_turned(given, self._inner)[: len(self._head)].copy()
        of_inner = self.product(given, self.rows(self._head))
        of_last = self.room.take(*self._last.shape)
        of_last[:] = 0
        of_norm = self.normed_back(self._last, self._norm, of_inner, of_last)
        state = self.room.take(len(self._packed.tokens), of_last.shape[1])
        state[:] = 0
        self.back.add_rows(of_last, self._packed.places, state)
        inside: list[np.ndarray] = []
        for layer in reversed(self._layers):
            with self.room:
                inside = [*layer.backward(self, state), *inside]
        of_embeddings = np.zeros_like(self._embeddings)
        self.back.add_rows(state, self._packed.tokens, of_embeddings)
        if self._silent is not None:
            of_embeddings[self._silent] = 0
        return [of_embeddings, *inside, of_norm, of_head]

    def padded(self, matrix: np.ndarray) -> np.ndarray:
        """Return a copy of a matrix with zeros on the right, so that its columns fill panels."""
        out = self.room.take(len(matrix), self.wide(matrix.shape[1]))
        out[:, : matrix.shape[1]], out[:, matrix.shape[1] :] = matrix, 0
        return out

    def wide(self, columns: int) -> int:
        """Return how many columns whole panels have."""
        return -(-columns // self.products.COLUMNS) * self.products.COLUMNS

    def _panels(self, columns: int, depth: int) -> np.ndarray:
        step = self.products.COLUMNS
        return self.room.take(-(-columns // step), depth, step)

    def rows(self, weight: np.ndarray) -> np.ndarray:
        """Return a matrix [K, C] as panels."""
        panels = self._panels(weight.shape[1], len(weight))
        self.products.arrange(weight, panels)
        return panels

    def columns(self, weight: np.ndarray) -> np.ndarray:
        """Return the transpose of a matrix [C, K] as panels."""
        panels = self._panels(*weight.shape)
        self.products.arrange_turned(weight, panels)
        return panels

    def product(self, rows: np.ndarray, panels: np.ndarray, more: np.ndarray | None = None) -> np.ndarray:
        """Return rows [N, K] times panels of a matrix [K, C], [N, C or more], and `more` added."""
        out = self.room.take(len(rows), len(panels) * panels.shape[2])
        if more is not None:
            out[:] = more
        self.products.multiply(rows, panels, out, more is not None)
        return out

    def product_turned(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the transpose of rows [N, A] times others [N, B], [A, B or more]."""
        panels = self.rows(others)
        out = self.room.take(rows.shape[1], len(panels) * panels.shape[2])
        self.products.multiply_turned(rows, panels, out, False)
        return out

    def normed(self, state: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return rows normalised by their root mean square, times weight."""
        out = self.room.take(*state.shape)
        self.do.normed(state, weight, self.eps, out)
        return out

    def normed_back(
        self, state: np.ndarray, weight: np.ndarray, given: np.ndarray, out: np.ndarray
    ) -> np.ndarray:
        """Add the gradient of what was normalised to `out`; return that of the weight."""
        of_weight = np.zeros_like(weight)
        self.back.normed_back(state, weight, self.eps, given, out, of_weight)
        return of_weight

    def apart(self, rows: np.ndarray, heads: int) -> np.ndarray:
        """Return rows [N, heads * D or more] by head, [N, heads, D]."""
        return rows[:, : heads * self.width].reshape(len(rows), heads, self.width)


class _Layer:
    """A layer of a pass."""

    def __init__(self, of: _Pass, weights: list[np.ndarray]) -> None:
        self._before, query, key, value, self._out, self._middle, gate, up, self._down = weights
        self._ends = np.cumsum([0, len(query), len(key), len(value)]).tolist()
        self._mixing = np.concatenate((query, key, value))
        self._gate_up = np.zeros((2 * of.wide(len(gate)), gate.shape[1]), dtype=np.float32)
        self._gate_up[: len(gate)], self._gate_up[len(self._gate_up) // 2 :][: len(up)] = gate, up

    def forward(self, of: _Pass, state: np.ndarray) -> np.ndarray:
        """Return the state [N, H] after the layer; what its gradient needs is kept."""
        all_heads = of.heads + 2 * of.key_heads
        inner = of.normed(state, self._before)
        mixed = of.apart(of.product(inner, of.columns(self._mixing)), all_heads)
        turns = (of.positions, of.cosine, of.sine, of.none, of.none, of.eps)
        of.do.turn(mixed, of.heads, *turns)
        taken = of.room.take(len(state), of.wide(of.heads * of.width))
        logs = of.room.take(len(state), of.heads)
        of.back.attend(mixed, of.texts, of.heads, of.scaling, of.apart(taken, of.heads), logs)
        middle = of.product(taken, of.columns(self._out), state)
        inner_middle = of.normed(middle, self._middle)
        gate_up = of.product(inner_middle, of.columns(self._gate_up))
        made = of.room.take(len(state), gate_up.shape[1] // 2)
        of.do.gated(gate_up, *of.gate, made)
        self._kept = state, inner, mixed, taken, logs, middle, inner_middle, gate_up, made
        return of.product(made, of.columns(self._down), middle)

    def backward(self, of: _Pass, given: np.ndarray) -> list[np.ndarray]:
        """Turn the gradient of the state after the layer into that before it; return those of its weights."""
        state, inner, mixed, taken, logs, middle, inner_middle, gate_up, made = self._kept
        of_down = of.product_turned(given, made)[:, : of.inside]
        of_gate_up = of.room.take(*gate_up.shape)
        of.back.gated_back(gate_up, *of.gate, of.product(given, of.rows(self._down)), of_gate_up)
        of_pair = of.product_turned(of_gate_up, inner_middle)
        of_inner = of.product(of_gate_up, of.rows(self._gate_up))
        of_middle = of.normed_back(middle, self._middle, of_inner, given)
        of_out = of.product_turned(given, taken)[:, : of.heads * of.width]
        of_taken = of.apart(of.product(given, of.rows(self._out)), of.heads)
        of_rows = of.room.take(len(state), of.wide(self._ends[-1]))
        of_mixed = of.apart(of_rows, mixed.shape[1])
        of.back.attend_back(
            mixed, of.texts, of.heads, of.scaling, of.apart(taken, of.heads), logs, of_taken, of_mixed
        )
        of.do.turn(of_mixed, of.heads, of.positions, of.cosine, -of.sine, of.none, of.none, of.eps)
        of_mixing = of.product_turned(of_rows, inner)
        of_inner = of.product(of_rows, of.rows(self._mixing))
        of_before = of.normed_back(state, self._before, of_inner, given)
        half = len(of_pair) // 2
        of_gate, of_up = of_pair[: of.inside], of_pair[half : half + of.inside]
        mixing = [of_mixing[a:b] for a, b in itertools.pairwise(self._ends)]
        # Copies, for the memory of the pass is used again.
        found = [of_before, *mixing, of_out, of_middle, of_gate, of_up, of_down]
        return [np.array(one, order="C") for one in found]


def _tables(module: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine [T, D] of at least `count` positions, as `kernels.turn` wants them."""
    known = _TABLES.get(module)
    if known is None or len(known[0]) < count:
        cosine, sine = module.base_model.rotary_emb(torch.empty(()), torch.arange(2 * count)[None])
        signed = torch.cat((-sine[0][:, : sine.shape[2] // 2], sine[0][:, sine.shape[2] // 2 :]), 1)
        known = _TABLES[module] = cosine[0].contiguous().numpy(), signed.numpy()
    return known


_TABLES: weakref.WeakKeyDictionary[nn.Module, tuple[np.ndarray, np.ndarray]] = weakref.WeakKeyDictionary()
"""Of modules that were trained."""
