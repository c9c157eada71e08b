"""The forward pass of Llama-like decoders where nothing is learned, in as few operations as it takes.

transformers' modules serve training and every other architecture. A step of sampling has so little arithmetic
that their many small operations cost more than it; here the products of a layer that share an input are one,
tokens lie in one row after the other without padding, and what belongs to positions is looked up. The
decoder reads a module's own weights, and knows when they have changed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from selfstudy.models.language.inference import Products
from selfstudy.models.language.operations import CompiledOperations, TorchOperations, can_compile

KINDS = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
PACKED_BYTES = 2**27  # larger models wait for their weights: their copy is arranged for few rows instead
SMALL_BYTES = 2**23  # of smaller models in float32, on processors, products are compiled loops as well
ARRANGED_BYTES = 2**31  # a copy of still larger models would cost memory that is needed elsewhere
_ROTARY = ("default", "linear", "llama3", "yarn")  # tables that do not depend on a text's length

Attend = Callable[[int, torch.Tensor], torch.Tensor]
"""(layer, queries, keys and values [N, heads + 2 key heads, D]) to what the queries take, [N, heads * D]."""


class Decoder:
    """A causal language model's forward pass over packed tokens.

    Args:
        module: one that `can_decode`.

    Attributes:
        module: the same.
        layers, heads, key_heads, width: of the attention; width is that of a head.
        hidden_size: width of a hidden state.
        version: another number whenever what a forward pass reads lies elsewhere.
        windows: tokens that each layer looks back, the own one included; None is all.
        scaling: of the products of queries and keys.
        device: of the weights, and of keys and values.
        dtype: of states, keys and values: that of the weights, or float32 where compiled loops compute them.
        compiled: whether they do, between products.
        small: whether they compute the products as well.
        blocks: the weights of each layer.
        norms_before: weights of the norm before each layer, and after the last.
        tables: cosine and sine by position, by kind of layer.
    """

    def __init__(self, module: PreTrainedModel) -> None:
        self.module: Any = module
        config = module.config
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.hidden_size = config.hidden_size
        blocks: Any = module.base_model.layers
        self.layers = len(blocks)
        everywhere = config.sliding_window if config.model_type == "mistral" else None
        self.windows = [getattr(block.self_attn, "sliding_window", everywhere) for block in blocks]
        self.scaling = float(blocks[0].self_attn.scaling)
        self._places = torch.empty(0)
        self.version = 0
        self.refresh()

    def refresh(self) -> bool:
        """Read the weights again if they have changed; return whether they had."""
        state = weights_state(self.module)
        if getattr(self, "_read", None) == state:
            return False
        self._read = state
        self.device, self.compiled = self.module.device, can_compile(self.module)
        self.dtype = torch.float32 if self.compiled else self.module.dtype
        self._operations = CompiledOperations(self.module) if self.compiled else TorchOperations(self.module)
        self._norm_shift = 1.0 if self.module.config.model_type == "gemma3_text" else 0.0
        with torch.inference_mode():
            size = sum(weight.numel() * weight.element_size() for weight in self.module.parameters())
            packed = size <= (ARRANGED_BYTES if self.device.type == "cuda" else PACKED_BYTES)
            self.small = self.compiled and self.module.dtype == torch.float32 and size <= SMALL_BYTES
            arranged = not packed and size <= ARRANGED_BYTES
            products = partial(Products, packed=packed, arranged=arranged, compiled=self.small)
            self.blocks = [_Block(block, self._norm, products) for block in self.module.base_model.layers]
            self.norms_before = [block.before_attention for block in self.blocks]
            self.norms_before.append(self._norm(self.module.base_model.norm))
            self._head = products(self.module.get_output_embeddings())
        self.version += 1
        return True

    def _norm(self, norm: nn.Module) -> torch.Tensor:
        weight = norm.weight
        assert isinstance(weight, torch.Tensor)
        weight = weight.detach().to(self.dtype)
        return weight + self._norm_shift if self._norm_shift else weight

    def hidden(self, tokens: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Return the last hidden states [N, H] of tokens [N] at positions [N]."""
        do = self._operations
        state = self.module.base_model.embed_tokens(tokens).to(self.dtype)  # [N, H]
        rotations = self._rotations(positions)
        inner = do.normed(state, self.norms_before[0])
        for index, block in enumerate(self.blocks):
            mixed = block.query_key_value(inner).view(len(state), -1, self.width)
            do.turn(mixed, self.heads, rotations[block.rotary], block.turned_norms)
            taken = block.out(attend(index, mixed))
            inner = do.add_normed(state, taken, block.after_attention, block.before_mlp)
            made = block.down(do.gated(block.gate_up(inner)))
            inner = do.add_normed(state, made, block.after_mlp, self.norms_before[index + 1])
        return inner

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits [..., V] after hidden states [..., H], in the precision of the weights."""
        return self._head(hidden.to(self.module.dtype))

    def _rotations(self, positions: torch.Tensor) -> dict[str, Any]:
        """Return the rotations to the positions [N], by kind of layer."""
        # What is recorded must not wait for a GPU: whoever records has called `reach`.
        if not (positions.is_cuda and torch.cuda.is_current_stream_capturing()):
            self.reach(int(positions.max()) + 1)
        return {kind: self._operations.rotation(table, positions) for kind, table in self.tables.items()}

    def reach(self, count: int) -> None:
        """Make ready for so many positions."""
        if count > len(self._places):
            self._make_tables(max(count, 2 * len(self._places)))
            self.version += 1

    def _make_tables(self, count: int) -> None:
        rotary = self.module.base_model.rotary_emb
        self._places = torch.arange(count, device=self.device)
        like = torch.empty((), dtype=self.dtype, device=self.device)
        sign = torch.ones(self.width, device=self.device, dtype=self.dtype)
        sign[: self.width // 2] = -1
        self.tables = {}
        for kind in {block.rotary for block in self.blocks}:
            cos, sin = rotary(like, self._places[None], *([kind] if kind else []))
            self.tables[kind] = cos[0].contiguous(), sin[0] * sign


class _Block:
    """The weights of one layer, as the forward pass wants them."""

    def __init__(
        self, block: Any, norm: Callable[[nn.Module], torch.Tensor], products: Callable[..., Products]
    ) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.query_key_value = products(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = products(attention.o_proj)
        self.gate_up = products(mlp.gate_proj, mlp.up_proj)
        self.down = products(mlp.down_proj)
        self.turned_norms: tuple[torch.Tensor, torch.Tensor] | None = None
        if hasattr(attention, "q_norm"):
            self.turned_norms = norm(attention.q_norm), norm(attention.k_norm)
        self.before_attention = norm(block.input_layernorm)
        sandwich = hasattr(block, "pre_feedforward_layernorm")
        self.after_attention = norm(block.post_attention_layernorm) if sandwich else None
        before_mlp = block.pre_feedforward_layernorm if sandwich else block.post_attention_layernorm
        self.before_mlp = norm(before_mlp)
        self.after_mlp = norm(block.post_feedforward_layernorm) if sandwich else None
        by_kind = sandwich and getattr(attention, "layer_type", None)
        self.rotary: str = by_kind or ""


def can_decode(module: PreTrainedModel) -> bool:
    """Tell whether `Decoder` computes what the module computes: its kind, and every layer a plain one."""
    config = module.config
    if config.model_type not in KINDS or module.get_output_embeddings() is None:
        return False
    layers = list(module.modules())
    if any(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer) for layer in layers):
        return False
    if not all(type(layer).__module__.startswith(("torch.nn.", "transformers.")) for layer in layers):
        return False
    linear = [layer for layer in layers if hasattr(layer, "in_features")]
    soft = [getattr(config, name, None) for name in ("attn_logit_softcapping", "final_logit_softcapping")]
    return (
        all(type(layer) is nn.Linear for layer in linear)
        and not any(soft)
        and not getattr(config, "use_bidirectional_attention", False)
        and all(kind in _ROTARY for kind in _rotary_kinds(module))
    )


def _rotary_kinds(module: PreTrainedModel) -> list[str]:
    rotary: Any = module.base_model.rotary_emb
    kinds = rotary.rope_type
    return list(kinds.values()) if isinstance(kinds, dict) else [kinds]


def weights_state(module: PreTrainedModel) -> tuple[object, ...]:
    """Return what differs when a weight was replaced or written in place.

    Fused optimisers write without counting versions, so a number of each weight is looked at too.
    """
    weights = list(module.parameters())
    where = [weight.data_ptr() for weight in weights]
    known = _MIDDLES.get(module)
    if known is None or known[0] != where:
        middles = [weight.detach()[tuple(size // 2 for size in weight.shape)] for weight in weights]
        known = _MIDDLES[module] = where, middles
    numbers = torch.stack([middle.float() for middle in known[1]])
    return (*where, *(weight._version for weight in weights), *numbers.tolist())


_MIDDLES: weakref.WeakKeyDictionary[nn.Module, tuple[list[int], list[torch.Tensor]]] = (
    weakref.WeakKeyDictionary()
)
"""Where the weights of a module lie, and views of a number in each of them."""
