"""Latent semantic analysis against its definition, and on texts that are hard to read."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.items import Texts
from selfstudy.models.encoders.words import WordEncoder

SAID = ("late parcel", "late card", "parcel parcel late", "card charged twice", "box")


def texts(*said: str) -> Texts:
    return Texts("t", said, np.full(len(said), -1))


def test_features_are_those_of_the_definition() -> None:
    """Oracle: words and pairs counted by hand, weighted, and numpy's decomposition, up to signs."""
    terms = sorted({term for text in SAID for term in terms_of(text)})
    counts = np.array([[terms_of(text).count(term) for term in terms] for text in SAID], dtype=float)
    rarity = np.log((1 + len(SAID)) / (1 + (counts > 0).sum(0))) + 1
    weighted = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * rarity
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    _, _, directions = np.linalg.svd(weighted, full_matrices=False)
    expected = weighted @ directions[:3].T
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = WordEncoder(width=3, buckets=2**16).made_for(texts(*SAID)).embed(list(SAID))
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def terms_of(text: str) -> list[str]:
    words = text.split()
    return words + [" ".join(pair) for pair in itertools.pairwise(words)]


def test_it_is_made_once_and_saved(tmp_path: Path) -> None:
    """Oracle: features of the same text, bit for bit; other texts do not change them."""
    encoder = selfstudy.model("words?width=2").made_for(texts(*SAID))
    assert encoder.made_for(texts("else", "other")) is encoder
    encoder.save(tmp_path / "saved")
    again = selfstudy.model(str(tmp_path / "saved"))
    assert np.array_equal(encoder.embed(list(SAID)), again.embed(list(SAID))) and again.width == 2


def test_making_it_draws_nothing_global() -> None:
    """Oracle: numpy's and torch's generators are where they were; two are equal."""
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    one, other = (WordEncoder(width=2).made_for(texts(*SAID)) for _ in range(2))
    assert torch.equal(one.directions, other.directions)
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])


def test_texts_that_are_hard_to_read() -> None:
    """Oracle: features of length 1, or 0 without a known word; never more directions than texts have."""
    encoder = WordEncoder(width=8).made_for(texts(*SAID))
    hard = ["", "🙂", "\ud800 late", "late " * 200_000, "<script>late()</script>"]
    found = np.linalg.norm(encoder.embed(hard), axis=1)
    assert np.allclose(found, [0, 0, 1, 1, 1], atol=1e-5)
    assert (encoder.directions.abs().sum(0) > 0).sum() <= len(SAID)
    single = WordEncoder(width=8).made_for(texts("late parcel"))
    assert single.embed("late parcel").shape == (1, 8)


def test_what_it_cannot_take_is_refused() -> None:
    """Oracle: what was given, in the message."""
    with pytest.raises(DataError, match="None of the 2 texts of 't' has a word"):
        WordEncoder().made_for(texts("", "?!"))
    with pytest.raises(UsageError, match="width=0 and buckets=8192"):
        selfstudy.model("words?width=0")
    with pytest.raises(DataError, match="Input 0 is float"):
        WordEncoder().made_for(texts(*SAID)).embed([1.5])
