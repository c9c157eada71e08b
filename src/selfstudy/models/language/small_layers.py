"""The layers of a small decoder over tokens whose keys and values lie at slots: one compiled loop each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.operations import GATES, WHOLE, activation


class SmallLayers:
    """Layers as `step_kernels` computes them.

    Args:
        decoder: one that `fits`.
    """

    def __init__(self, decoder: Decoder) -> None:
        # Only here, for the compiler's import takes half a second.
        from selfstudy.models.language import kernels, step_kernels

        self._decoder, self._version = decoder, -1
        self._normed, self._layer = kernels.normed, step_kernels.layer
        config = decoder.module.config
        self._eps, self._scaling = np.float32(config.rms_norm_eps), np.float32(decoder.scaling)
        self._gate = tuple(map(np.float32, GATES[activation(decoder.module)]))

    @staticmethod
    def fits(decoder: Decoder) -> bool:
        """Tell whether a decoder's layers can be computed so."""
        return decoder.small and decoder.hidden_size % WHOLE == 0

    def hidden(
        self,
        tokens: np.ndarray,
        positions: np.ndarray,
        slots: np.ndarray,
        keys: Sequence[np.ndarray],
        values: Sequence[np.ndarray],
    ) -> np.ndarray:
        """Feed a token of each text; return the last hidden states [N, H]. Keys and values are kept.

        Args:
            tokens: int64 [N].
            positions: int64 [N].
            slots: int64 [N, W] where the tokens of each text lie, up to the new one.
            keys: of each layer, [S, key heads, D].
            values: of each layer.
        """
        self._decoder.reach(int(positions.max()) + 1)
        if self._version != self._decoder.version:
            self._read()
        # By the module, for some scale their embeddings.
        embed: Any = self._decoder.module.base_model.embed_tokens
        state = embed(torch.from_numpy(tokens)).numpy()
        inner = np.empty_like(state)
        self._normed(state, self._first, self._eps, inner)
        text, heads = np.arange(len(tokens)), self._decoder.heads
        for of_layer, rotation, window, *kept in zip(
            self._layers, self._rotations, self._windows, keys, values, strict=True
        ):
            self._layer(
                state,
                inner,
                *of_layer,
                self._eps,
                heads,
                positions,
                rotation,
                text,
                slots,
                tuple(kept),
                window,
                self._scaling,
                self._gate,
            )
        return inner

    def _read(self) -> None:
        """Take over the weights, and what belongs to positions."""
        decoder, self._version = self._decoder, self._decoder.version
        self._first = decoder.norms_before[0].numpy()
        none = np.zeros(0, dtype=np.float32)

        def given(tensor: torch.Tensor | None) -> np.ndarray:
            return none if tensor is None else tensor.numpy()

        self._layers: list[tuple[Any, ...]] = []
        for block, after in zip(decoder.blocks, decoder.norms_before[1:], strict=True):
            products = (block.query_key_value, block.out, block.gate_up, block.down)
            norms = (
                *(block.turned_norms or (None, None)),
                block.after_attention,
                block.before_mlp,
                block.after_mlp,
                after,
            )
            panels, biases = (
                tuple(each.panels for each in products),
                tuple(given(each.bias) for each in products),
            )
            self._layers.append((panels, biases, tuple(map(given, norms))))
        tables = [decoder.tables[block.rotary] for block in decoder.blocks]
        self._rotations = [(cosine.numpy(), sine.numpy()) for cosine, sine in tables]
        self._windows = [window or 0 for window in decoder.windows]
