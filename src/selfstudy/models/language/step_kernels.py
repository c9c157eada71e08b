"""A layer of a small decoder over a few tokens of each text as one compiled loop, products included.

Arrays are NumPy's, by rows, float32 unless it says otherwise. What a row gets depends on that row alone. The
compiler's cache does not notice a change in `kernels` or `product_kernels`, of which functions are used here:
after one, touch this file.
"""

from __future__ import annotations

import numpy as np

from selfstudy.models.language.kernels import add_normed, attend, compiled, gated, turn
from selfstudy.models.language.product_kernels import COLUMNS, multiply


@compiled
def product(rows, panels, bias):
    """Return rows [N, K or more] times panels [P, K, COLUMNS], [N, P COLUMNS], and a bias; [0] for none."""
    out = np.empty((len(rows), len(panels) * COLUMNS), np.float32)
    multiply(rows, panels, out, False)
    for n in range(len(out) if len(bias) else 0):
        for i in range(len(bias)):
            out[n, i] += bias[i]
    return out


@compiled
def layer(
    state,
    inner,
    panels,
    biases,
    norms,
    eps,
    heads,
    positions,
    rotation,
    text,
    slots,
    kept,
    window,
    scaling,
    gate,
):
    """Take tokens through a layer.

    Args:
        state: [N, H], is changed.
        inner: [N, H] the state as normalised for this layer; becomes that for the next.
        panels: of queries, keys and values together, of what attention gives, of both halves of the unit
            together, and of what the unit gives.
        biases: of the four; [0] for none.
        norms: weights of those of queries, of keys, after attention, before the unit, after it, and before
            the next layer; [0] for none.
        eps: of the norms.
        heads: of the queries.
        positions: int64 [N] of the tokens in their texts.
        rotation: cosine and sine by position; see `kernels.turn`.
        text: see `kernels.attend`, as are `slots`, `window` and `scaling`.
        slots: see there.
        kept: keys and values by slot, [S, key heads, D] each.
        window: see there.
        scaling: see there.
        gate: what `kernels.gated` is told of the activation.
    """
    keys, values = kept
    width = keys.shape[2]
    mixed = product(inner, panels[0], biases[0])
    by_head = mixed[:, : (heads + 2 * keys.shape[1]) * width].copy().reshape((len(state), -1, width))
    turn(by_head, heads, positions, rotation[0], rotation[1], norms[0], norms[1], eps)
    taken = np.empty((len(state), heads * width), np.float32)
    attend(by_head, text, positions, slots, keys, values, heads, window, scaling, taken)
    added = product(taken, panels[1], biases[1])
    add_normed(state, added, norms[2], norms[3], eps, inner)
    gate_up = product(inner, panels[2], biases[2])
    made = np.empty((len(state), panels[3].shape[1]), np.float32)
    gated(gate_up, gate[0], gate[1], made)
    added = product(made, panels[3], biases[3])
    add_normed(state, added, norms[4], norms[5], eps, inner)
