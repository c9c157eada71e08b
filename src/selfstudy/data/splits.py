"""Splits by hash: where a row belongs depends on its text alone, so no size, seed or order can mix them."""

from __future__ import annotations

import hashlib

SPLITS = ("train", "validation", "test")

# Upper ends of train and validation on the unit interval; test is the rest.
TRAIN_END, VALIDATION_END = 0.7, 0.8


def text_key(text: str) -> str:
    """Return 16 hexadecimal digits that identify `text`."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def split_of(text: str, *, train_end: float = TRAIN_END, validation_end: float = VALIDATION_END) -> str:
    """Return the split that `text` belongs to: 70 % train, 10 % validation, 20 % test by default.

    >>> split_of("47+8-2*3:") == split_of("47+8-2*3:")
    True
    >>> split_of("any text", train_end=1.0)
    'train'
    """
    place = int(text_key("split " + text), 16) / 2**64
    return "train" if place < train_end else "validation" if place < validation_end else "test"
