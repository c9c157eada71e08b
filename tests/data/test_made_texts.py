"""Made-up messages: how they are made, and that they can be learnt."""

from __future__ import annotations

import hashlib

import numpy as np

from selfstudy.data.made_texts import OWN, SHARED, SIZES, SUBJECTS, messages


def test_they_are_made_as_told() -> None:
    """Oracle: sizes, subjects alike, 8 to 20 words, words 30 % own and 10 % of any subject."""
    made = messages()
    assert {split: len(texts) for split, texts in made.items()} == SIZES
    own = {subject: set(OWN[subject].split()) for subject in SUBJECTS}
    shared = set(SHARED.split())
    for texts in made.values():
        assert np.ptp(np.bincount(texts.labels)) <= 1 and texts.classes == SUBJECTS
        words = [text.split() for text in texts.texts]
        assert all(8 <= len(row) <= 20 for row in words)
        pairs = [(word, label) for row, label in zip(words, texts.labels, strict=True) for word in row]
        of_own = sum(word in own[SUBJECTS[label]] for word, label in pairs)
        of_shared = sum(word in shared for word, _ in pairs)
        assert abs(of_own / len(pairs) - (0.3 + 0.1 / 4)) < 0.03 and abs(of_shared / len(pairs) - 0.6) < 0.03


def test_they_are_the_same_everywhere() -> None:
    """Oracle: a checksum: the figures of examples depend on them."""
    first, second = messages(), messages()
    assert first["train"].texts == second["train"].texts
    assert len(set(first["train"].texts) & set(first["test"].texts)) == 0
    digest = hashlib.blake2b("\n".join(first["train"].texts).encode(), digest_size=8).hexdigest()
    assert digest == "c8e9df3db103719f"
