"""Texts, vocabularies, windows, and which words come together."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.data.cooccurrence import draw, synthetic
from selfstudy.data.words import UNKNOWN, Vocabulary, count_cooccurrence, read_text, windows


def test_a_file_is_cut_in_its_order(tmp_path: Path) -> None:
    """Oracle: by hand: words with their apostrophes, marks alone; 80, 10 and 10 percent; gzip the same."""
    path = tmp_path / "mine.txt"
    path.write_text("It's a dog, I say: \u00fcber-dog!\n" * 2, encoding="utf-8")
    text = read_text(str(path))
    words = ["It's", "a", "dog", ",", "I", "say", ":", "\u00fcber", "-", "dog", "!"] * 2
    assert text.train + text.validation + text.test == words
    assert [len(text.train), len(text.validation), len(text.test)] == [17, 2, 3]
    packed = tmp_path / "mine.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_text(str(packed)) == text


def test_known_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a made-up library; without its training file WikiText-2 trains on nine tenths of the other."""
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"wikitext2/test.txt.gz.*SELFSTUDY_DATA"):
        read_text("wikitext2")
    for name, words in {
        "wikitext2/test": "t <unk>",
        "wikitext2/valid": "v " * 20,
        "tinyshakespeare/input": "a, ",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt.gz").write_bytes(gzip.compress(words.encode()))
    text = read_text("wikitext2")
    assert (len(text.train), len(text.validation), text.test) == (18, 2, ["t", "<unk>"])
    (tmp_path / "wikitext2/train.txt.gz").write_bytes(gzip.compress(b"x x x"))
    text = read_text("wikitext2")
    assert text.train == ["x"] * 3 and len(text.validation) == 20
    shakespeare = read_text("tinyshakespeare")
    assert shakespeare.train + shakespeare.validation + shakespeare.test == ["a", ","]


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


def test_counts_are_those_of_a_loop() -> None:
    """Oracle: a plain loop over a random text: P of every class, and the rule for common tokens."""
    ids = np.random.default_rng(0).choice(6, p=[0.1, 0.3, 0.2, 0.2, 0.1, 0.1], size=400)
    length, least = 5, 4
    table = count_cooccurrence(ids, length, list("?abcde"), queries=2, nexts=3, least=least)
    assert table.words == tuple("?abcde")
    assert set(table.last.tolist()) == {m for m, _ in Counter(ids[1:-1].tolist()).most_common(2)}
    for m in np.unique(table.last):
        together: Counter[int] = Counter()
        by_next: dict[int, Counter[int]] = {}
        for i in range(1, len(ids) - 1):
            if ids[i] == m:
                context = ids[max(0, i - length + 1) : i].tolist()
                together.update(context)
                by_next.setdefault(int(ids[i + 1]), Counter()).update(context)
        kept = {token for token, count in together.items() if count >= least}
        total = sum(together[token] for token in kept)
        chosen = table.next[table.last == m].tolist()
        assert 0 not in chosen and len(chosen) == 3
        shares = {n: {t: by_next[n][t] for t in kept if by_next[n][t]} for n in chosen}
        for n in chosen:
            (row,) = np.flatnonzero((table.last == m) & (table.next == n))
            counts = sum(shares[n].values())
            for token in range(6):
                expected = shares[n].get(token, 0) / counts
                assert table.probabilities[row, token] == pytest.approx(expected)
                with_token = [k for k in chosen if token in shares[k]]
                below = [
                    np.log(shares[k][token] / sum(shares[k].values()) / (together[token] / total)) < 0
                    for k in with_token
                ]
                common = bool(below) and 2 * sum(below) >= len(below) and expected > 0
                assert table.common[row, token] == common, (m, n, token)


def test_common_and_distinct_are_found_again() -> None:
    """Oracle: the true table of a text made of drawn sequences; P within 5 standard errors."""
    true = synthetic(last=2, next=2, common=40, own=40, least=0.5)
    size, length = 3000, 30
    tokens, targets = draw(true, size, length, np.random.default_rng(1))
    # Between sequences stand as many unknown words as a window is long, so that none reaches into another.
    rows = np.concatenate([tokens.numpy(), targets.numpy(), np.full((size, length), -1)], axis=1)
    found = count_cooccurrence(rows.ravel() + 1, length, ["?", *true.words], queries=2, nexts=2)
    classes = {
        (true.word(m), true.word(n)): k for k, (m, n) in enumerate(zip(true.last, true.next, strict=True))
    }
    order = [classes[found.word(m), found.word(n)] for m, n in zip(found.last, found.next, strict=True)]
    assert sorted(order) == [0, 1, 2, 3]
    assert (found.common[:, 1:] == true.common[order]).all()
    assert (found.distinct[:, 1:] == true.distinct[order]).all()
    p = true.probabilities[order]
    errors = np.sqrt(p * (1 - p) / (np.bincount(targets[:, 0] - 2)[order][:, None] * (length - 1)))
    assert (abs(found.probabilities[:, 1:] - p) <= 5 * errors).all()


def test_texts_without_any_class() -> None:
    """Oracle: a text shorter than a window; one in which nothing comes often enough."""
    with pytest.raises(DataError, match=r"5 words.*at least 36"):
        count_cooccurrence(np.ones(5, dtype=np.int64), 35, ["?", "a"])
    with pytest.raises(DataError, match="longer text"):
        count_cooccurrence(np.arange(60), 5, [str(i) for i in range(60)])
