"""Attention of a step on GPUs, compiled by Triton, which comes with torch for them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

COLUMNS = 32  # tokens of a text that are looked at together
_FAR = 2**30  # tokens; no text is longer


def attend(
    mixed: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    kept: torch.Tensor,
    heads: int,
    window: int | None,
    scaling: float,
) -> torch.Tensor:
    """Keep the keys and values of one new token a row, and let it look back along its text.

    Args:
        mixed: [N, heads + 2 key heads, D] queries, keys and values.
        positions: int64 [N] of the tokens in their texts.
        slots: int32 [N or more, W] where the tokens of each text lie, the new one's too.
        kept: [2, S, key heads, D] keys and values by slot; those of the new tokens are written.
        heads: of the queries, a multiple of the key heads.
        window: tokens that a token sees, itself included; None for all.
        scaling: of the products of queries and keys.

    Returns:
        what each query takes, [N, heads * D]; sums are float32.
    """
    key_heads, width = kept.shape[2:]
    out = mixed.new_empty(len(mixed), heads * width)
    _attend[(len(mixed), heads)](
        mixed,
        positions,
        slots,
        kept,
        out,
        slots.stride(0),
        kept.stride(0),
        window or _FAR,
        scaling,
        heads,
        key_heads,
        width,
        triton.next_power_of_2(width),
        COLUMNS,
    )
    return out


@triton.jit
def _attend(
    mixed,
    positions,
    slots,
    kept,
    out,
    text_stride,
    values_from,
    window,
    scaling,
    HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One row and head: a softmax whose maximum and sum are brought up to date block by block."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    of = head // (HEADS // KEY_HEADS)
    position = tl.load(positions + row)
    text = slots + row * text_stride
    channel = tl.arange(0, BLOCK)
    inside = channel < WIDTH
    own = mixed + row * (HEADS + 2 * KEY_HEADS) * WIDTH + channel
    query = tl.load(own + head * WIDTH, mask=inside, other=0.0).to(tl.float32) * scaling
    key = tl.load(own + (HEADS + of) * WIDTH, mask=inside, other=0.0)
    value = tl.load(own + (HEADS + KEY_HEADS + of) * WIDTH, mask=inside, other=0.0)
    if head % (HEADS // KEY_HEADS) == 0:
        here = kept + (tl.load(text + position).to(tl.int64) * KEY_HEADS + of) * WIDTH + channel
        tl.store(here, key, mask=inside)
        tl.store(here + values_from, value, mask=inside)
    # The token itself, which need not be read back.
    top = tl.sum(query * key.to(tl.float32), 0)
    total = tl.full([], 1.0, tl.float32)
    taken = value.to(tl.float32)
    first = tl.maximum(position - window + 1, 0)
    for start in range(first, position, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        seen = column < position
        slot = tl.load(text + column, mask=seen, other=0).to(tl.int64)
        at = kept + (slot * KEY_HEADS + of)[:, None] * WIDTH + channel[None, :]
        both = seen[:, None] & inside[None, :]
        keys = tl.load(at, mask=both, other=0.0).to(tl.float32)
        score = tl.where(seen, tl.sum(query[None, :] * keys, 1), float("-inf"))
        most = tl.maximum(top, tl.max(score, 0))
        weight, fade = tl.exp(score - most), tl.exp(top - most)
        values = tl.load(at + values_from, mask=both, other=0.0).to(tl.float32)
        taken = taken * fade + tl.sum(weight[:, None] * values, 0)
        total = total * fade + tl.sum(weight, 0)
        top = most
    tl.store(out + (row * HEADS + head) * WIDTH + channel, taken / total, mask=inside)
