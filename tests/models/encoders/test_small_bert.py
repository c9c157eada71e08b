"""A small BERT: its words, its features, what it saves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders.small_bert import LEAST_WORDS, SmallBert, train_tokenizer

SAID = (
    "the parcel came late and the box was open",
    "my card was charged twice",
    "the parcel is late",
    "",
    "ÄRGER mit dem Paket! 包裹",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def texts(said: tuple[str, ...] = SAID) -> Texts:
    return Texts("said", said, np.zeros(len(said), dtype=np.int64))


def small(**fields: int) -> SmallBert:
    made = {"layers": 1, "width": 16, "heads": 2, "vocabulary": 300, "length": 12, **fields}
    return SmallBert(**made).made_for(texts())


def test_words_are_found_again() -> None:
    """Oracle: pieces lose nothing but capitals, in any script; the same texts give the same pieces."""
    tokenizer = train_tokenizer(SAID, 300, 64)
    for text in SAID:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text.lower()
    again = train_tokenizer(SAID, 300, 64)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer.tokenize("parcel")) < len(
        "parcel"
    )  # it was seen, so it is not told letter by letter


def test_features_are_the_mean_over_tokens() -> None:
    """Oracle: states of the network of transformers for a text alone, without padding, averaged here."""
    encoder = small()
    found = encoder.embed_texts(SAID)
    for text, feature in zip(SAID, found, strict=True):
        ids = encoder.tokenizer(text, truncation=True, return_tensors="pt")["input_ids"]
        states = encoder.network(input_ids=ids, output_hidden_states=True).hidden_states[-1]
        assert torch.allclose(states[0].mean(0), feature, atol=1e-5)
    assert encoder.embed(["my card"]).shape == (1, 16)


def test_a_text_is_read_up_to_its_length() -> None:
    """Oracle: words behind the last token that is read change nothing."""
    encoder = small()
    tokens = encoder.tokens(["parcel " * 40, "parcel"])
    assert tokens.ids.shape == (2, 12) and tokens.mask.sum(1).tolist()[0] == 12
    first, second = encoder.embed_texts(["late " * 40, "late " * 30 + "card"])
    assert torch.equal(first, second)


def test_gradients_reach_all_weights_that_features_need() -> None:
    """Oracle: every weight of the body has a gradient, the head of words none."""
    encoder = small().train()
    encoder.features(encoder.tokens(SAID)).square().sum().backward()
    assert all(weight.grad is not None for weight in encoder.network.bert.parameters())
    assert encoder.network.cls.predictions.transform.dense.weight.grad is None


def test_it_saves_and_loads(tmp_path: Path) -> None:
    """Oracle: the same features; the same files when it is saved again, also after use; transformers reads
    network and words."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    encoder = small()
    encoder.save(tmp_path / "one")
    loaded = selfstudy.model(str(tmp_path / "one"))
    assert torch.equal(loaded.embed_texts(SAID), encoder.embed_texts(SAID))
    loaded.save(tmp_path / "two")

    def sums(folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}

    assert sums(tmp_path / "one") == sums(tmp_path / "two")
    network = AutoModelForMaskedLM.from_pretrained(tmp_path / "one" / "network")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one" / "network")
    batch = tokenizer(list(SAID[:2]), padding=True, truncation=True, return_tensors="pt")
    tokens = encoder.tokens(SAID[:2])
    assert torch.equal(batch["input_ids"], tokens.ids)
    assert torch.allclose(
        network.eval()(**batch, output_hidden_states=True).hidden_states[-1], encoder.states(tokens)
    )
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pkl"))


def test_what_it_is_made_for() -> None:
    """Oracle: words of the first texts stay; the seed names the first weights."""
    encoder = small()
    assert encoder.made_for(texts(("other words altogether",))) is encoder
    assert len(encoder.tokenizer) == encoder.config["vocabulary"] >= LEAST_WORDS
    assert torch.equal(small().embed_texts(SAID), small().embed_texts(SAID))
    assert not torch.equal(small(seed=1).embed_texts(SAID), small().embed_texts(SAID))


def test_what_is_refused() -> None:
    """Oracle: each is named."""
    with pytest.raises(UsageError, match="heads=3"):
        SmallBert(width=16, heads=3)
    with pytest.raises(UsageError, match="vocabulary=100"):
        SmallBert(vocabulary=100)
    with pytest.raises(UsageError, match="no words yet"):
        SmallBert(layers=1, width=16, heads=2).embed_texts(["a"])
    with pytest.raises(UsageError, match="reads texts"):
        SmallBert(layers=1, width=16, heads=2).made_for(
            Vectors("v", np.zeros((2, 3), np.float32), np.zeros(2))
        )  # type: ignore[arg-type]
    with pytest.raises(DataError, match="None of the 2 texts"):
        SmallBert(layers=1, width=16, heads=2).made_for(texts(("", " ")))
