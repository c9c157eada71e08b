"""Attention over shared prompts against attention over each row's own keys and values."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.models.language.cache import Store, reading_cache
from selfstudy.models.language.shared_cache import SharedCache

HEADS, WIDTH = 2, 4


def read_prompts(lengths: list[int], layers: int, draw: torch.Generator):
    """A reading of prompts padded on the right with numbers that must not matter."""
    read = reading_cache()
    for layer in range(layers):
        keys, values = torch.randn(2, len(lengths), HEADS, max(lengths), WIDTH, generator=draw)
        read.update(keys, values, layer)
    return read


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1, max_size=6),
    st.sampled_from([1, 2]),
    st.integers(0, 2**31),
)
def test_equals_attention_over_each_rows_own_columns(prompts, group, seed):
    """Law: rows in any number beside each other, leaving in any order, attend to what came before them."""
    draw = torch.Generator().manual_seed(seed)
    repeats, lengths = [list(part) for part in zip(*prompts, strict=True)]
    steps = 4
    cache = SharedCache(Store(), torch.tensor(repeats), torch.tensor(lengths), steps)
    history = [[torch.zeros(HEADS, 0, WIDTH)] * 2 for _ in range(sum(repeats))]
    if max(lengths):
        read = read_prompts(lengths, 1, draw)
        cache.place(0, read)
        of_row = [p for p, count in enumerate(repeats) for _ in range(count)]
        for row, p in enumerate(of_row):
            layer = read.layers[0]
            history[row] = [side[p, :, : lengths[p]] for side in (layer.keys, layer.values)]
    for _ in range(steps):
        rows = cache.rows
        new = torch.randn(2, rows, HEADS, 1, WIDTH, generator=draw)
        history = [
            [torch.cat([old, side[row]], 1) for old, side in zip(history[row], new, strict=True)]
            for row in range(rows)
        ]
        query = torch.randn(rows, HEADS * group, 1, WIDTH, generator=draw)
        layer, _ = cache.update(new[0], new[1], 0)
        out = layer.attend(query, 0.5)  # [rows, 1, heads, D]
        for row, (keys, values) in enumerate(history):
            asked = query[row].view(HEADS, group, WIDTH)
            weights = (0.5 * asked @ keys.transpose(1, 2)).softmax(-1)
            expected = (weights @ values).reshape(1, HEADS * group, WIDTH)
            torch.testing.assert_close(out[row], expected, atol=1e-5, rtol=1e-4)
        cache.step()
        over = torch.rand(rows, generator=draw) < 0.4
        left = int((~over).sum())
        if not left:
            break
        if left < rows:
            target = over.nonzero()[:, 0]
            target = target[target < left]
            source = (~over[left:]).nonzero()[:, 0] + left
            cache.keep(source, target, left)
            for to, origin in zip(target.tolist(), source.tolist(), strict=True):
                history[to] = history[origin]
            history = history[:left]


def test_one_popular_prompt_does_not_blow_the_grid_up():
    """The grid of seats stays within twice the rows and prompts, however unevenly rows share."""
    repeats = [100, *[1] * 40]
    cache = SharedCache(Store(), torch.tensor(repeats), torch.full((41,), 7), 3)
    assert cache.prompts * cache.beside <= 2 * (140 + 41)
    assert len(set(zip(cache.prompt.tolist(), cache.place_beside.tolist(), strict=True))) == 140


def test_prompts_nobody_continues_are_forgotten():
    """Law: work per step goes with the rows that are left."""
    cache = SharedCache(Store(), torch.tensor([2, 2, 2, 2]), torch.tensor([3, 3, 3, 3]), 2)
    cache.place(0, read_prompts([3, 3, 3, 3], 1, torch.Generator().manual_seed(0)))
    cache.update(*torch.zeros(2, 8, HEADS, 1, WIDTH), 0)
    cache.step()
    cache.keep(torch.tensor([6, 7]), torch.tensor([0, 1]), 4)  # prompts 3, 3, 1, 1 are left
    assert cache.prompts == 2 and cache.prompt.tolist() == [1, 1, 0, 0]
