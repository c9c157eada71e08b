"""The compiled loops of the decoder and the sampler, for float32 on processors.

A step of sampling is a few thousand numbers and would be some two hundred operations of torch, each of which
costs more than its arithmetic. Everything between two products of matrices is one loop here; products are
torch's, or, in small models, those of `product_kernels`. What a loop gives for a row depends on that row
alone. Numbers that are not finite stay so: the sampler refuses them.

Arrays are NumPy's, by rows, float32 unless it says otherwise. The compiler's cache notices a change in the
file of a loop alone: after one here, touch `product_kernels`, `step_kernels` and `training_kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic as untyped_intrinsic

from selfstudy.models.language.memory import LINE

intrinsic: Any = untyped_intrinsic
_F = np.float32
_SUMS = {"reassoc", "contract", "arcp", "nsz"}  # sums may be reordered; nan and infinity remain what they are


def compiled(function: Callable[..., Any], fastmath: Any = _SUMS) -> Any:
    """Compile on first use, and keep the machine code on disk where some folder for it can be written."""
    how = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **how)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**how)(function)


@compiled
def exp(x):
    """Return e**x to 2e-7 of it for x <= 0, and 0 below 1e-38; without branches, which could not be vectors.

    The polynomial is that of Cephes (Moshier): e**x = 2**k * e**r, with |r| <= log(2) / 2.
    """
    inside = _F(-87.0) if x < _F(-87.0) else x
    k = np.floor(inside * _F(1.44269504088896341) + _F(0.5))
    r = (inside - k * _F(0.693359375)) + k * _F(2.12194440e-4)
    p = _F(1.9875691500e-4) * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    two_to_k = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return _F(0.0) if x < _F(-87.0) else (p * r * r + r + _F(1.0)) * two_to_k


@compiled
def _normed(row, weight, eps, out):
    """Root mean square normalisation of one row."""
    squares = _F(0.0)
    for i in range(len(row)):
        squares += row[i] * row[i]
    inverse = _F(1.0) / np.sqrt(squares / _F(len(row)) + eps)
    for i in range(len(row)):
        out[i] = row[i] * inverse * weight[i]


@compiled
def normed(state, weight, eps, out):
    """Normalise each row [N, H] by its root mean square, times weight [H]."""
    for n in range(len(state)):
        _normed(state[n], weight, eps, out[n])


@compiled
def add_normed(state, added, after, before, eps, out):
    """Add rows to a state, and normalise the sum for the next product.

    Args:
        state: [N, H], changed.
        added: [N, H]; overwritten where it is normalised first.
        after: weight [H] of the norm of what is added; [0] for none.
        before: weight [H] of the norm of the sum.
        eps: of both norms.
        out: [N, H] the normalised sum.
    """
    for n in range(len(state)):
        row, more = state[n], added[n]
        if len(after):
            _normed(more, after, eps, more)
        for i in range(len(row)):
            row[i] += more[i]
        _normed(row, before, eps, out[n])


@compiled
def turn(mixed, heads, positions, cosine, sine, query_norm, key_norm, eps):
    """Turn queries and keys by their positions.

    Args:
        mixed: [N, heads + 2 key heads, D], of which all but the values are changed.
        heads: of the queries.
        positions: int64 [N].
        cosine: [T, D], by position.
        sine: [T, D]; the first half is negative.
        query_norm: weight [D] of the norm of queries before; [0] for none.
        key_norm: of keys.
        eps: of the norms.
    """
    turned, half = (mixed.shape[1] + heads) // 2, mixed.shape[2] // 2
    for n in range(len(mixed)):
        cos, sin = cosine[positions[n]], sine[positions[n]]
        for h in range(turned):
            head = mixed[n, h]
            if len(query_norm):
                _normed(head, query_norm if h < heads else key_norm, eps, head)
            for i in range(half):
                x, y = head[i], head[half + i]
                head[i] = x * cos[i] + y * sin[i]
                head[half + i] = y * cos[half + i] + x * sin[half + i]


def largest(row):
    """Return the largest number of a row."""
    most = row[0]
    for i in range(1, len(row)):
        most = max(most, row[i])
    return most


largest = compiled(largest, {*_SUMS, "nnan"})  # a number that is not one shows in what follows


@compiled
def _fetch(array, first, count):
    """Ask for `count` numbers of an array, in the order of memory, that will be read soon."""
    for i in range(first, first + count, LINE):
        _ask_for_line(array, i)


@intrinsic
def _ask_for_line(typing, array, index):
    """Ask for the line of memory that holds a number of an array; what reads it later need not wait."""

    def written(context, builder, signature, given):
        numbers = context.make_array(signature.args[0])(context, builder, given[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(builder.gep(numbers, [given[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        # To read, in all caches, data.
        builder.call(prefetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), written


@compiled
def _softmax(row):
    """Turn scores into shares that sum to one, in place."""
    most, total = largest(row), _F(0.0)
    for i in range(len(row)):
        row[i] = exp(row[i] - most)
        total += row[i]
    inverse = _F(1.0) / total
    for i in range(len(row)):
        row[i] *= inverse


@compiled
def attend(mixed, text, positions, slots, keys, values, heads, window, scaling, out):
    """Keep the keys and values of tokens, and let each look back along its text.

    Keys and values come from all over memory, which is slow to begin and fast to go on: all heads look at a
    token before the next, and what the next row will look at is asked for meanwhile.

    Args:
        mixed: [N, heads + 2 key heads, D] queries, keys and values; tokens of one text in their order.
        text: int64 [N] whose token each is.
        positions: int64 [N] of the tokens in their texts.
        slots: int64 [B, W] where the tokens of each text lie.
        keys: [S, key heads, D] by slot; those of the tokens are written first.
        values: the same.
        heads: of the queries, a multiple of the key heads.
        window: tokens that a token sees, itself included; 0 for all.
        scaling: of the products of queries and keys.
        out: [N, heads * D].
    """
    key_heads, width = keys.shape[1:]
    group = heads // key_heads
    for n in range(len(mixed)):
        slot = slots[text[n], positions[n]]
        for h in range(key_heads):
            for i in range(width):
                keys[slot, h, i] = mixed[n, heads + h, i]
                values[slot, h, i] = mixed[n, heads + key_heads + h, i]
    weights = np.empty((heads, slots.shape[1]), np.float32)

    def seen_by(n):
        first = max(0, positions[n] + 1 - window) if window else 0
        return slots[text[n], first : positions[n] + 1]

    for n in range(len(mixed)):
        seen = seen_by(n)
        next_seen = seen_by(n + 1) if n + 1 < len(mixed) else seen[:0]
        count = len(seen)
        for t in range(count):
            if t < len(next_seen):
                _fetch(keys, next_seen[t] * key_heads * width, key_heads * width)
                _fetch(values, next_seen[t] * key_heads * width, key_heads * width)
            for h in range(heads):
                query, key = mixed[n, h], keys[seen[t], h // group]
                product = _F(0.0)
                for i in range(width):
                    product += query[i] * key[i]
                weights[h, t] = product * scaling
        for h in range(heads):
            _softmax(weights[h, :count])
        out[n] = _F(0.0)
        whole = count // 4 * 4
        for t in range(0, whole, 4):  # four at once, for a sum is read and written once then
            for h in range(heads):
                of, taken = h // group, out[n, h * width : (h + 1) * width]
                w0, w1, w2, w3 = weights[h, t], weights[h, t + 1], weights[h, t + 2], weights[h, t + 3]
                v0, v1 = values[seen[t], of], values[seen[t + 1], of]
                v2, v3 = values[seen[t + 2], of], values[seen[t + 3], of]
                for i in range(width):
                    taken[i] += (w0 * v0[i] + w1 * v1[i]) + (w2 * v2[i] + w3 * v3[i])
        for t in range(whole, count):
            for h in range(heads):
                w, value = weights[h, t], values[seen[t], h // group]
                taken = out[n, h * width : (h + 1) * width]
                for i in range(width):
                    taken[i] += w * value[i]


@compiled
def gated(gate_up, linear, cubic, out):
    """Return x * sigmoid(linear * x + cubic * x**3) times the other half of the row.

    (1, 0) is the sigmoid linear unit; 2 sqrt(2 / pi) * (1, 0.044715) is GELU by the hyperbolic tangent.

    Args:
        gate_up: [N, 2 I], x and then the other half.
        linear: of the sigmoid.
        cubic: of the sigmoid.
        out: [N, I].
    """
    width = out.shape[1]
    for n in range(len(out)):
        gate, up, row = gate_up[n, :width], gate_up[n, width:], out[n]
        for i in range(width):
            x = gate[i]
            y = x * (linear + cubic * x * x)
            small = exp(-abs(y))  # of both signs, the one that cannot overflow
            share = _F(1.0) / (_F(1.0) + small)
            row[i] = x * (share if y >= 0 else small * share) * up[i]


@compiled
def _read(numbers, out):
    """Copy float32 numbers, or those of bfloat16 by their bits, uint16."""
    halves = numbers.itemsize == 2
    for i in range(len(numbers)):
        if halves:
            out[i] = np.uint32(np.uint32(numbers[i]) << np.uint32(16)).view(np.float32)
        else:
            out[i] = _F(numbers[i])


@compiled
def _total(row, top, divisor):
    """Return the sum of exp((row - top) / divisor), float64."""
    total = 0.0
    for i in range(len(row)):
        total += exp((row[i] - top) / divisor)
    return total


@compiled
def _past(ends, target):
    """Return where running sums first pass the target."""
    i = 0
    # Rounding may carry the target past the last that adds anything.
    while ends[i] <= target and ends[i] < ends[-1]:
        i += 1
    return i


@compiled
def choose(logits, temperature, row, uniform, block, token, logprob):
    """See `choosing.choose`. Of large vocabularies, sums of blocks are kept, and one block is looked at anew.

    Args:
        logits: [B, V], float32 or the bits of bfloat16, uint16.
        temperature: float64 [B].
        row: int64 [N].
        uniform: float64 [N].
        block: tokens of a block.
        token: int64 [N], is filled.
        logprob: float64 [N], is filled.
    """
    rows, size = logits.shape
    several = size > block
    tops, totals, likeliest = np.empty(rows, np.float32), np.empty(rows), np.empty(rows, np.int64)
    ends = np.empty((rows, -(-size // block)))
    inside, sums = np.empty(block, np.float32), np.empty(block)
    for b in range(rows):
        tops[b], best = _F(-np.inf), 0
        for first in range(0, size, block):
            here = inside[: min(block, size - first)]
            _read(logits[b, first : first + block], here)
            most = largest(here)
            if most > tops[b]:
                tops[b], best = most, first
        here = inside[: min(block, size - best)]
        if several:
            _read(logits[b, best : best + block], here)
        likeliest[b] = best
        while likeliest[b] < best + len(here) - 1 and here[likeliest[b] - best] != tops[b]:
            likeliest[b] += 1
        divisor = _F(temperature[b]) if temperature[b] > 0 else _F(1.0)
        running = totals[b] = 0.0
        for first in range(0, size, block):
            here = inside[: min(block, size - first)]
            if several:
                _read(logits[b, first : first + block], here)
            total = _total(here, tops[b], _F(1.0))
            totals[b] += total
            running += total if divisor == 1 else _total(here, tops[b], divisor)
            ends[b, first // block] = running
    for n in range(len(row)):
        b = row[n]
        top, t = tops[b], likeliest[b]
        if temperature[b] > 0:
            target = uniform[n] * ends[b, -1]
            k = _past(ends[b], target)
            here = inside[: min(block, size - k * block)]
            _read(logits[b, k * block : (k + 1) * block], here)
            running, divisor = ends[b, k - 1] if k else 0.0, _F(temperature[b])
            for i in range(len(here)):
                here[i] = exp((here[i] - top) / divisor)
            for i in range(len(here)):
                running += here[i]
                sums[i] = running
            t = k * block + _past(sums[: len(here)], target)
        _read(logits[b, t : t + 1], inside[:1])
        token[n], logprob[n] = t, np.float64(inside[0] - top) - np.log(totals[b])
