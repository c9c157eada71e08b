"""Hidden words: which, how often, and that telling them is learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.data.items import Texts
from selfstudy.learning.masked_language import (
    NOTHING,
    MaskedLanguage,
    hide_words,
    learn_words,
    masked_language_loss,
)
from selfstudy.models.encoders.small_bert import SmallBert, Tokens
from selfstudy.models.encoders.words import WordEncoder

PAIRS = tuple(f"{a} {b} {a} {b} {a} {b}" for a, b in (("red", "blue"), ("one", "two"), ("cat", "dog")) * 8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def encoder(**fields: float) -> SmallBert:
    made = {"layers": 1, "width": 32, "heads": 2, "vocabulary": 300, "length": 16, "dropout": 0.0, **fields}
    return SmallBert(**made).made_for(Texts("pairs", PAIRS, np.zeros(len(PAIRS), dtype=np.int64)))  # type: ignore[arg-type]


def test_how_many_words_are_told_and_how_they_are_shown() -> None:
    """Oracle: 15 % of the words, of which 80 % are hidden, 10 % any word, 10 % as they are; each share within
    four standard deviations; special tokens and what is behind the end never."""
    words, hidden, rows, columns = range(5, 1005), 4, 200, 100
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 1005, (rows, columns)))
    ids[:, 0], ids[:, -10:] = 2, 0
    mask = torch.ones_like(ids)
    mask[:, -10:] = 0
    seen, targets = hide_words(Tokens(ids, mask), words, hidden, key=7)
    told = targets != NOTHING
    assert not told[:, 0].any() and not told[:, -10:].any()
    assert torch.equal(targets[told], ids[told]) and torch.equal(seen.ids[~told], ids[~told])
    count, total = int(told.sum()), rows * (columns - 11)
    assert abs(count - 0.15 * total) < 4 * (0.15 * 0.85 * total) ** 0.5
    shown = seen.ids[told]
    for share, at in ((0.8, shown == hidden), (0.1 * 1.001, shown == ids[told])):
        assert abs(int(at.sum()) - share * count) < 4 * (share * (1 - share) * count) ** 0.5
    other = shown[(shown != hidden) & (shown != ids[told])]
    assert other.min() >= 5 and other.max() < 1005 and len(other.unique()) > 0.8 * len(other) * 0.5


def test_the_coins_depend_on_the_key_alone() -> None:
    """Oracle: the same key gives the same, another one another."""
    tokens = encoder().tokens(PAIRS)
    first, again, other = (hide_words(tokens, range(5, 300), 4, key)[1] for key in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_loss_is_that_of_transformers() -> None:
    """Oracle: the masked-LM loss of the network of transformers, and zero where nothing is hidden."""
    model = encoder()
    tokens = model.tokens(PAIRS[:4])
    seen, targets = hide_words(tokens, model.words, model.hidden_token, key=3)
    expected = model.network(input_ids=seen.ids, attention_mask=seen.mask, labels=targets).loss
    found = masked_language_loss(model, PAIRS[:4], key=3)
    assert torch.allclose(found, expected) and not torch.allclose(found, functional.relu(found) * 2)
    assert masked_language_loss(model, ["", ""], key=3) == 0


def test_hidden_words_are_learnt(tmp_path: Path) -> None:
    """Oracle: a word of a pair follows from the other one, so that the loss must fall far below that of words
    told at random; the encoder that it began from stays."""
    start = encoder()
    before = start.embed_texts(PAIRS[:3])
    with Run(tmp_path, {}) as run:
        settings = MaskedLanguage(steps=80, batch=16, learning_rate=1e-2)
        found = run.stage("words", lambda: learn_words(run, start, PAIRS, settings))
        losses = [line["word_loss"] for line in run.metrics()]
        assert run.meter.snapshot()["samples"] == 80 * 16
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    assert torch.equal(start.embed_texts(PAIRS[:3]), before)
    assert not torch.equal(found.embed_texts(PAIRS[:3]), before)


def test_what_is_refused(tmp_path: Path) -> None:
    """Oracle: an encoder without words, no text, settings that cannot be; no step is taken."""
    with Run(tmp_path, {}) as run:
        with pytest.raises(UsageError, match="hidden words"):
            learn_words(run, WordEncoder(), PAIRS, MaskedLanguage())
        with pytest.raises(DataError, match="no text"):
            learn_words(run, encoder(), (), MaskedLanguage())
        assert not run.meter.snapshot()["samples"]
    with pytest.raises(UsageError, match="warmup 1"):
        MaskedLanguage(warmup=1.0).validate()
    with pytest.raises(UsageError, match="batch"):
        MaskedLanguage(batch=0).validate()
