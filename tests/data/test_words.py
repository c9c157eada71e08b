"""Texts, vocabularies, windows, and which words come together."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.data import words
from selfstudy.data.readers import Row
from selfstudy.data.words import UNKNOWN, Vocabulary, read_text, windows


def test_a_file_is_cut_in_its_order(tmp_path: Path) -> None:
    """Oracle: by hand: words with their apostrophes, marks alone; 80, 10 and 10 percent; gzip the same."""
    path = tmp_path / "mine.txt"
    path.write_text("It's a dog, I say: \u00fcber-dog!\n" * 2, encoding="utf-8")
    text = read_text(str(path))
    expected = ["It's", "a", "dog", ",", "I", "say", ":", "\u00fcber", "-", "dog", "!"] * 2
    assert text.train + text.validation + text.test == expected
    assert [len(text.train), len(text.validation), len(text.test)] == [17, 2, 3]
    packed = tmp_path / "mine.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_text(str(packed)) == text


def test_known_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a made-up library; without its training file WikiText-2 trains on nine tenths of the other."""
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    monkeypatch.setattr(words, "read_hub", _no_hub)
    for missing in ("wikitext2", "wikitext103", "tinyshakespeare"):
        with pytest.raises(DataError, match=rf"{missing}.*SELFSTUDY_DATA"):
            read_text(missing)
    for name, content in {
        "wikitext2/test": "t <unk>",
        "wikitext2/valid": "v " * 20,
        "tinyshakespeare/input": "a, ",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt.gz").write_bytes(gzip.compress(content.encode()))
    text = read_text("wikitext2")
    assert (len(text.train), len(text.validation), text.test) == (18, 2, ["t", "<unk>"])
    (tmp_path / "wikitext2/train.txt.gz").write_bytes(gzip.compress(b"x x x"))
    text = read_text("wikitext2")
    assert text.train == ["x"] * 3 and len(text.validation) == 20
    shakespeare = read_text("tinyshakespeare")
    assert shakespeare.train + shakespeare.validation + shakespeare.test == ["a", ","]


def _no_hub(*_: object) -> None:
    raise DataError("no network")


def test_wikitext_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a made-up hub: its configuration and splits, lines without words, joined in their order."""
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)

    def hub(name: str, config: str, split: str) -> list[Row]:
        assert (name, config) == ("Salesforce/wikitext", "wikitext-103-v1")
        return [Row(i + 1, {"text": text}) for i, text in enumerate(["", f" {split} <unk> \n", " = x = "])]

    monkeypatch.setattr(words, "read_hub", hub)
    text = read_text("wikitext103")
    assert text.train == ["train", "<unk>", "=", "x", "="]
    assert text.validation[0] == "validation" and text.test[0] == "test"


def test_what_is_no_text(tmp_path: Path) -> None:
    """Oracle: a missing file, bytes that are no UTF-8, a file cut in the middle of its gzip."""
    with pytest.raises(DataError, match=r"no text 'nowhere\.txt'"):
        read_text("nowhere.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"words" * 100)[:20])
    for name in ("a.txt", "b.txt.gz"):
        with pytest.raises(DataError, match="UTF-8"):
            read_text(str(tmp_path / name))


def test_the_vocabulary_keeps_the_frequent() -> None:
    """Oracle: counts by hand; ties by alphabet; the text's own unknown joins ours."""
    vocabulary = Vocabulary(["b", "a", UNKNOWN, "b", "a", UNKNOWN, UNKNOWN, "c", "d"], 3)
    assert vocabulary.words == (UNKNOWN, "a", "b", "c") and len(vocabulary) == 4
    assert vocabulary.encode(["d", "b", UNKNOWN, "never"]).tolist() == [0, 2, 0, 0]
    assert len(Vocabulary(["a"], 100)) == 2


def test_windows() -> None:
    """Oracle: by hand: the target of each word but the first is the one after it."""
    tokens, targets = windows(np.arange(10), 4, np.array([0, 5]))
    assert tokens.tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert targets.tolist() == [[2, 3, 4], [7, 8, 9]]
