"""Made-up messages to a shop, of four subjects: for tests and first steps, without any file."""

from __future__ import annotations

import numpy as np

from selfstudy.core.random import generator
from selfstudy.data.items import Texts

SUBJECTS = ("delivery", "payment", "return", "quality")
OWN = {
    "delivery": "parcel courier tracking shipped arrived late address doorstep driver package depot route",
    "payment": "card charged invoice bank refused amount billed account currency receipt transfer price",
    "return": "refund send back exchange label box size wrong policy warehouse credit swap",
    "quality": "broken scratched loose stitching colour faded button seam battery screen noise smell",
}
SHARED = (
    "please order shop yesterday today again still thanks hello item bought week help answer customer email "
    "number waiting nobody phone website jacket lamp shoes kettle two new old very bad good not my the a it"
)
SIZES = {"train": 2000, "validation": 300, "test": 1000}
OWN_SHARE = 0.3  # of the words of a message that are of its subject
OTHER_SHARE = 0.1  # of words that are of another one


def messages() -> dict[str, Texts]:
    """Return the messages in splits: each has 8 to 20 words, few of which tell its subject."""
    words = {subject: OWN[subject].split() for subject in SUBJECTS}
    shared = SHARED.split()
    splits = {}
    for split, count in SIZES.items():
        rng = generator("messages", split)
        labels = rng.permutation(np.arange(count) % len(SUBJECTS))
        texts = [_message(rng, int(label), words, shared) for label in labels]
        splits[split] = Texts("messages", tuple(texts), labels.astype(np.int64), SUBJECTS)
    return splits


def _message(rng: np.random.Generator, label: int, words: dict[str, list[str]], shared: list[str]) -> str:
    drawn = []
    for chance in rng.random(int(rng.integers(8, 21))):
        if chance < OWN_SHARE:
            source = words[SUBJECTS[label]]
        elif chance < OWN_SHARE + OTHER_SHARE:
            source = words[SUBJECTS[int(rng.integers(len(SUBJECTS)))]]
        else:
            source = shared
        drawn.append(source[int(rng.integers(len(source)))])
    return " ".join(drawn)
