"""Counter-based randomness: every draw is a function of a seed and a name, never of what ran before.

A resumed run therefore draws what the uninterrupted run would have drawn, and a tree searched alone
draws what it draws in a batch of hundreds.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_key(*parts: object) -> int:
    """Return the 64-bit key of the stream named by `parts` (numbers and strings).

    >>> stream_key(0, "batch", 1) == stream_key(0, "batch", 1)
    True
    >>> stream_key(0, "batch", 1) == stream_key(0, "batch", 2)
    False
    """
    text = "\x1f".join(map(_word, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _word(part: object) -> str:
    # A number read back from JSON names the stream that the numpy number it was written from named.
    part = part.item() if isinstance(part, np.generic) else part
    return f"{type(part).__name__}:{str(part).replace(chr(0x1F), chr(0x1F) * 2)}"


def generator(*parts: object) -> np.random.Generator:
    """Return a fresh generator (Philox, itself counter-based) for the stream named by `parts`."""
    return np.random.Generator(np.random.Philox(key=stream_key(*parts)))


def _mix(x: np.ndarray) -> np.ndarray:
    """Finaliser of splitmix64 (Steele, Lea and Flood, 2014), elementwise on uint64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(keys: np.ndarray | int, counters: np.ndarray | int) -> np.ndarray:
    """Return one new key for each (key, counter) pair: uint64, broadcast over both."""
    keys = np.asarray(keys, dtype=np.uint64)
    counters = np.asarray(counters, dtype=np.uint64)
    with np.errstate(over="ignore"):
        return _mix(_mix(keys + _GOLDEN) + (counters + np.uint64(1)) * _GOLDEN)


def uniforms(keys: np.ndarray | int, counters: np.ndarray | int) -> np.ndarray:
    """Return one float64 in [0, 1) for each (key, counter) pair, broadcast over both."""
    return (derive(keys, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53
