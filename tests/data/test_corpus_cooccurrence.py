"""Which words of a text come together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.data.cooccurrence import draw, synthetic
from selfstudy.data.corpus_cooccurrence import count_cooccurrence


def test_counts_are_those_of_a_loop() -> None:
    """Oracle: a plain loop over a random text: P of every class, and the rule for common tokens."""
    ids = np.random.default_rng(0).choice(6, p=[0.1, 0.3, 0.2, 0.2, 0.195, 0.005], size=400)
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
