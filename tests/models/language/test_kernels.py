"""The compiled loops against float64, against torch, and alone against in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.models.language import kernels
from selfstudy.models.language.operations import GATES

EPS = np.float32(1e-6)
NONE = np.zeros(0, dtype=np.float32)
WIDTHS = st.sampled_from([2, 6, 8, 20, 32, 34, 50, 64, 96])
quick = settings(max_examples=40, deadline=None, derandomize=True)


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def close(got: np.ndarray, exact: torch.Tensor, atol: float = 4e-6) -> None:
    torch.testing.assert_close(torch.from_numpy(got).double(), exact, rtol=0, atol=atol)


def exact_norm(state: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    return F.rms_norm(torch.from_numpy(state).double(), weight.shape, torch.from_numpy(weight).double(), 1e-6)


@given(rows=st.integers(0, 9), width=st.integers(1, 300), sandwich=st.booleans(), seed=st.integers(0, 99))
@quick
def test_norms(rows: int, width: int, sandwich: bool, seed: int) -> None:
    """Oracle: torch's rms_norm in float64, of what is added and of the sum."""
    rng = np.random.default_rng(seed)
    state, added, out = (
        numbers(rng, rows, width),
        numbers(rng, rows, width),
        np.empty((rows, width), np.float32),
    )
    before, after = numbers(rng, width), numbers(rng, width) if sandwich else NONE
    kernels.normed(state, before, EPS, out)
    close(out, exact_norm(state, before), 2e-5)
    total = torch.from_numpy(state).double() + (
        exact_norm(added, after) if sandwich else torch.from_numpy(added)
    )
    kernels.add_normed(state, added, after, before, EPS, out)
    close(state, total, 2e-5)
    close(out, exact_norm(state, before), 2e-5)


@given(rows=st.integers(0, 9), half=st.integers(1, 48), normed=st.booleans(), seed=st.integers(0, 99))
@quick
def test_turned_heads(rows: int, half: int, normed: bool, seed: int) -> None:
    """Oracle: the rotation as complex numbers in float64; values, the last head, stay as they are."""
    rng = np.random.default_rng(seed)
    heads, width = 3, 2 * half
    mixed, positions = numbers(rng, rows, heads + 2, width), rng.integers(0, 30, rows)
    angle = np.arange(30)[:, None] * rng.random(half)
    cosine, sine = np.cos(angle), np.sin(angle)
    tables = [np.concatenate(each, 1).astype(np.float32) for each in ((cosine, cosine), (-sine, sine))]
    norms = [numbers(rng, width) if normed else NONE for _ in range(2)]
    given_heads = [mixed[:, :heads], mixed[:, heads : heads + 1]]
    if normed:
        given_heads = [exact_norm(each, norm).numpy() for each, norm in zip(given_heads, norms, strict=True)]
    before = np.concatenate(given_heads, 1).astype(np.float64)
    turned = (before[..., :half] + 1j * before[..., half:]) * np.exp(1j * angle[positions])[:, None]
    expected = np.concatenate(
        [
            turned.real,
            turned.imag,
        ],
        -1,
    )
    value = mixed[:, heads + 1 :].copy()
    kernels.turn(mixed, heads, positions, *tables, *norms, EPS)
    close(mixed[:, : heads + 1].copy(), torch.from_numpy(expected), 2e-5)
    assert (mixed[:, heads + 1 :] == value).all()


@pytest.mark.parametrize("name", GATES)
@given(rows=st.integers(0, 5), width=st.integers(1, 90), scale=st.sampled_from([1.0, 30.0, 1e4]))
@quick
def test_gates(name: str, rows: int, width: int, scale: float) -> None:
    """Oracle: torch's activations in float64; large numbers of both signs too."""
    both = (scale * numbers(np.random.default_rng(width), rows, 2 * width)).astype(np.float32)
    out = np.empty((rows, width), np.float32)
    kernels.gated(both, *map(np.float32, GATES[name]), out)
    gate, up = torch.from_numpy(both).double().chunk(2, -1)
    activated = F.silu(gate) if name == "silu" else F.gelu(gate, approximate="tanh")
    torch.testing.assert_close(torch.from_numpy(out).double(), activated * up, rtol=2e-6, atol=1e-6 * scale)


class Texts:
    """Texts at random slots of a cache, with the keys and values of all but the last `new` tokens of each."""

    def __init__(
        self, rng: np.random.Generator, lengths: list[int], key_heads: int, group: int, width: int
    ) -> None:
        self.heads, self.lengths, self.width = key_heads * group, lengths, width
        total, longest = sum(lengths), max(lengths)
        self.keys, self.values = (
            numbers(rng, total + 3, key_heads, width),
            numbers(rng, total + 3, key_heads, width),
        )
        self.slots = np.full((len(lengths), longest), total)  # past the end of a text lies something else
        free = rng.permutation(total)
        for row, length in enumerate(lengths):
            self.slots[row, :length], free = free[:length], free[length:]

    def attend(self, mixed: np.ndarray, text: np.ndarray, positions: np.ndarray, window: int) -> np.ndarray:
        out = np.empty((len(mixed), self.heads * self.width), np.float32)
        scaling = np.float32(self.width**-0.5)
        arrays = (mixed, text, positions, self.slots, self.keys, self.values)
        kernels.attend(*arrays, self.heads, window, scaling, out)
        return out

    def exact(self, query: np.ndarray, text: int, position: int, window: int) -> torch.Tensor:
        """What one token takes from what lies at its text's slots, [heads * D]."""
        first = max(0, position + 1 - window) if window else 0
        seen = self.slots[text, first : position + 1]
        keys, values = (
            torch.from_numpy(each[seen]).double().transpose(0, 1) for each in (self.keys, self.values)
        )
        group = self.heads // keys.shape[0]
        keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)  # [heads, T, D]
        taken = F.scaled_dot_product_attention(torch.from_numpy(query).double()[:, None], keys, values)
        return taken.flatten()


@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    key_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    width=WIDTHS,
    window=st.sampled_from([0, 1, 5, 64]),
    new=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@quick
def test_attention(
    lengths: list[int], key_heads: int, group: int, width: int, window: int, new: int, seed: int
) -> None:
    """Oracle: torch's attention in float64 over each text's own tokens, several new ones of a text too."""
    rng = np.random.default_rng(seed)
    texts = Texts(rng, lengths, key_heads, group, width)
    text = np.repeat(np.arange(len(lengths)), np.minimum(new, lengths))
    positions = np.concatenate([np.arange(max(0, length - new), length) for length in lengths])
    mixed = numbers(rng, len(text), texts.heads + 2 * key_heads, width)
    got = texts.attend(mixed, text, positions, window)
    slots = texts.slots[text, positions]
    assert (texts.keys[slots] == mixed[:, texts.heads : -key_heads]).all()
    assert (texts.values[slots] == mixed[:, -key_heads:]).all()
    for n in range(len(text)):
        close(got[n], texts.exact(mixed[n, : texts.heads], text[n], positions[n], window))


def test_a_row_alone_is_what_it_is_among_256() -> None:
    """Law: bit by bit, for every loop of a layer."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 256).tolist()
    texts = Texts(rng, lengths, 4, 1, 32)
    text, positions = np.arange(256), np.array(lengths) - 1
    mixed, state = numbers(rng, 256, 12, 32), numbers(rng, 256, 128)
    weight, both = numbers(rng, 128), numbers(rng, 256, 688)
    cosine, sine = numbers(rng, 60, 32), numbers(rng, 60, 32)

    def layer(rows: np.ndarray) -> list[np.ndarray]:
        turned, total = mixed[rows].copy(), state[rows].copy()
        kernels.turn(turned, 4, positions[rows], cosine, sine, NONE, NONE, EPS)
        taken = texts.attend(turned, text[rows], positions[rows], 0)
        inner, gated = np.empty_like(total), np.empty((len(rows), 344), np.float32)
        kernels.add_normed(total, taken, NONE, weight, EPS, inner)
        kernels.gated(both[rows].copy(), np.float32(1), np.float32(0), gated)
        return [turned, taken, total, inner, gated]

    whole = layer(np.arange(256))
    for n in range(0, 256, 15):
        for alone, among in zip(layer(np.array([n])), whole, strict=True):
            assert (alone[0] == among[n]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_show(bad: float) -> None:
    """Limit: what follows from one is not finite in its own row, and as ever in the others."""
    rng = np.random.default_rng(0)
    texts = Texts(rng, [9, 20, 7], 2, 1, 32)
    mixed, state = numbers(rng, 3, 6, 32), numbers(rng, 3, 128)
    mixed[1, 0, 5] = state[1, 7] = bad
    taken = texts.attend(mixed, np.arange(3), np.array([8, 19, 6]), 0)
    inner, gated = np.empty_like(state), np.empty((3, 64), np.float32)
    kernels.normed(state, np.ones(128, np.float32), EPS, inner)
    kernels.gated(state, np.float32(1), np.float32(0), gated)
    for out in (taken, inner, gated):
        assert np.isfinite(out).all(1).tolist() == [True, False, True]
