from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from selfstudy.core.random import derive, generator, stream_key, uniforms

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
words = st.integers(0, MASK)


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def splitmix(key: int, counter: int) -> int:
    """The same stream on plain integers: the counter-th output of splitmix64 seeded by a mixed key."""
    state = mix(key + GOLDEN & MASK)
    return mix(state + (counter + 1) * GOLDEN & MASK)


def test_mix_is_the_published_finaliser():
    """Oracle: the first outputs of splitmix64 from state 0 in its author's C code."""
    assert [mix(n * GOLDEN & MASK) for n in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@given(words, words)
def test_derive_and_uniforms_equal_plain_integers(key, counter):
    """Oracle: a second implementation on Python integers, over the whole range."""
    expected = splitmix(key, counter)
    assert int(derive(np.array([key], np.uint64), np.array([counter], np.uint64))[0]) == expected
    assert uniforms(key, counter) == (expected >> 11) / 2**53


def test_derive_broadcasts():
    """Oracle: each entry of a [3, 1] by [4] call equals the call on its own pair."""
    keys = np.array([[1], [2], [MASK]], np.uint64)
    counters = np.arange(4)
    table = uniforms(keys, counters)
    assert table.shape == (3, 4)
    assert table.dtype == np.float64
    for i, j in np.ndindex(3, 4):
        assert table[i, j] == uniforms(keys[i, 0], int(counters[j]))


@pytest.mark.parametrize("varied", ["counters", "keys"])
def test_uniforms_are_uniform(varied):
    """Oracle: chi-square over 64 cells, balance of each bit; false alarm once in a million, seeds fixed."""
    n = 1 << 16
    many, one = np.arange(n, dtype=np.uint64), stream_key(0, "uniformity")
    keys, counters = (one, many) if varied == "counters" else (many, 7)
    values = uniforms(keys, counters)
    assert values.min() >= 0
    assert values.max() < 1
    observed = np.bincount((values * 64).astype(int), minlength=64)
    statistic = ((observed - n / 64) ** 2 / (n / 64)).sum()
    assert chi2.ppf(1e-6, 63) < statistic < chi2.ppf(1 - 1e-6, 63)
    bits = derive(keys, counters)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
    # 5.9 standard deviations: once in a million over all 64 bits.
    assert np.abs(bits.mean(0) - 0.5).max() < 5.9 * 0.5 / np.sqrt(n)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / np.sqrt(n)


def test_streams_of_near_keys_do_not_share_draws():
    """Oracle: 65,536 words of 64 bits collide by chance with probability 2^-33."""
    table = derive(np.arange(256)[:, None], np.arange(256))
    assert len(np.unique(table)) == 256 * 256


def test_a_stream_does_not_depend_on_the_order_of_calls():
    """Oracle: drawing other streams before, between and after changes nothing."""
    alone = generator(5, "batch", 3).random(4)
    other = generator(5, "batch", 2)
    other.random(100)
    mine = generator(5, "batch", 3)
    first = mine.random(2)
    other.random(7)
    assert [*first, *mine.random(2)] == list(alone)
    assert uniforms(9, np.arange(10))[7] == uniforms(9, 7)


parts = st.lists(st.one_of(st.integers(), st.text(), st.booleans()), max_size=4)


def typed(values):
    return [(type(value), value) for value in values]


@given(parts, parts)
def test_stream_keys_tell_names_apart(one, other):
    """Oracle: equal keys if and only if equal names, types included."""
    assert (stream_key(*one) == stream_key(*other)) == (typed(one) == typed(other))


def test_names_cannot_imitate_the_separator():
    """Oracle: a text with the separator in it is not two parts."""
    assert stream_key("a\x1fstr:b") != stream_key("a", "b")
    assert stream_key("a\x1f", "b") != stream_key("a", "\x1fb")


def test_numpy_numbers_name_the_same_stream_as_plain_ones():
    """Oracle: an index read back from JSON is a plain number, and must draw the same."""
    assert stream_key(0, np.int64(3), np.float64(0.5), np.str_("x")) == stream_key(0, 3, 0.5, "x")
    assert stream_key(1) != stream_key("1")
    assert stream_key(1) != stream_key(1.0)


def test_stream_key_is_pinned():
    """Oracle: values recorded once; another platform or version must find the same streams."""
    assert stream_key(0, "batch", 1) == 13349285942621691757
    assert generator(0, "batch", 1).integers(0, 1000, 4).tolist() == [322, 226, 374, 80]
