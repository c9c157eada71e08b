"""Text as words: known texts and files, a vocabulary, windows, and which words come together."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from selfstudy.core.errors import DataError
from selfstudy.data.cooccurrence import Cooccurrence, Sequences
from selfstudy.data.library import VARIABLE, library_file

UNKNOWN = "<unk>"  # token 0: every word that is not among the frequent ones
SHARES = (0.8, 0.1)  # of a text in one piece: training, validation; the rest is the test split
_WORD = re.compile("\\w+(?:['\u2019]\\w+)*|[^\\w\\s]")


@dataclass(frozen=True, kw_only=True)
class Text:
    """The words of a text, split."""

    train: list[str]
    validation: list[str]
    test: list[str]


def read_text(source: str) -> Text:
    """Return the words of a known text or of a file.

    Args:
        source: "wikitext2" or "tinyshakespeare", looked for below $SELFSTUDY_DATA, or the path of a text
            file in UTF-8, also gzipped. A text in one piece is cut into 80 % training, 10 % validation and
            10 % test, in its order. WikiText-2 without its training file trains on its validation file,
            whose last tenth is then the validation split.

    Raises:
        DataError: the file is missing or is no text.
    """
    if source == "wikitext2":
        return _wikitext2()
    if source == "tinyshakespeare":
        return _cut(_words(_read(_known("tinyshakespeare/input.txt.gz"))), *SHARES)
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"There is no text {source!r}. Give the path of a text file, or 'wikitext2' or 'tinyshakespeare' "
            f"with ${VARIABLE} set to the folder of data sets."
        )
    return _cut(_words(_read(path)), *SHARES)


def _wikitext2() -> Text:
    test = _read(_known("wikitext2/test.txt.gz")).split()
    middle = _read(_known("wikitext2/valid.txt.gz")).split()
    train = library_file("wikitext2/train.txt.gz")
    if train:
        return Text(train=_read(train).split(), validation=middle, test=test)
    cut = _cut(middle, 0.9, 0.1)
    return Text(train=cut.train, validation=cut.validation, test=test)


def _known(relative: str) -> Path:
    path = library_file(relative)
    if path is None:
        raise DataError(
            f"The file {relative} is not there. Set ${VARIABLE} to the folder that holds it, or give the "
            "path of a text file of your own."
        )
    return path


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"The file {path} cannot be read as text in UTF-8: {error}.") from error


def _words(text: str) -> list[str]:
    """Return words and punctuation marks."""
    return _WORD.findall(text)


def _cut(words: list[str], train: float, validation: float) -> Text:
    first, second = int(train * len(words)), int((train + validation) * len(words))
    return Text(train=words[:first], validation=words[first:second], test=words[second:])


class Vocabulary:
    """The most frequent words of a training text, and `UNKNOWN` for all others.

    >>> Vocabulary("b a b c b a".split(), 2).encode(["a", "b", "c"]).tolist()
    [2, 1, 0]

    Args:
        words: of the training text.
        most: words that are kept, by frequency; ties in alphabetical order.
    """

    def __init__(self, words: Sequence[str], most: int) -> None:
        counts = Counter(words)
        counts.pop(UNKNOWN, None)
        kept = sorted(counts, key=lambda word: (-counts[word], word))[:most]
        self.words = (UNKNOWN, *kept)
        self._ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """Return the ids of words, [n]."""
        return np.fromiter((self._ids.get(word, 0) for word in words), dtype=np.int64, count=len(words))


def windows(ids: np.ndarray, length: int, starts: np.ndarray) -> Sequences:
    """Return windows of `length` words that begin at `starts`; the targets are the words one further on.

    Every word but the first of a window asks for the next, so there are `length` - 1 targets a window.
    """
    rows = torch.from_numpy(ids[starts[:, None] + np.arange(length + 1)])
    return Sequences(rows[:, :-1], rows[:, 2:])


def count_cooccurrence(
    ids: np.ndarray,
    length: int,
    vocabulary: Sequence[str],
    *,
    queries: int = 20,
    nexts: int = 10,
    least: int = 20,
) -> Cooccurrence:
    """Estimate P(l | m, n) from a text, and which l are common for m.

    Last tokens m are the most frequent words, next tokens n those that most often follow each m. Context is
    the up to `length` - 1 words before m. A token l is common for m if its pointwise mutual information
    with n given m, log P(l | m, n) / P(l | m), is below 0 for at least half of the n that it comes with.
    (Taken over all n, a token that comes with a single n would count as common.) Tokens that come with m
    less than `least` times are too rare to be told apart: they keep their probability and are neither.

    Args:
        ids: words of the text; 0, the unknown, is neither m nor n.
        length: T of a window.
        vocabulary: words by id.
        queries: how many m.
        nexts: how many n of each.
        least: occurrences with m that a token needs, and (m, n) needs to be a class.

    Raises:
        DataError: the text is too short to have any class.
    """
    size, span = len(vocabulary), length - 1
    if len(ids) < length + 1:
        raise DataError(f"The text has {len(ids)} words; windows of {length} need at least {length + 1}.")
    padded = np.concatenate([np.full(span, size), ids])
    before = np.lib.stride_tricks.sliding_window_view(padded, span)  # row i: the words before word i
    frequent = np.argsort(-np.bincount(ids[1:-1], minlength=size)[1:], kind="stable")[:queries] + 1
    last, following, rows, common = [], [], [], []
    for m in frequent:
        at = np.flatnonzero(ids[1:-1] == m) + 1
        after = np.bincount(ids[at + 1], minlength=size)
        after[0] = 0
        chosen = np.argsort(-after, kind="stable")[:nexts]
        chosen = chosen[after[chosen] >= least]
        with_m = np.bincount(before[at].ravel(), minlength=size + 1)[:size]
        with_m[with_m < least] = 0
        for n in chosen:
            row = np.bincount(before[at[ids[at + 1] == n]].ravel(), minlength=size + 1)[:size]
            rows.append(row * (with_m > 0))
        counts = np.array(rows[len(rows) - len(chosen) :]).reshape(-1, size)
        last += [m] * len(chosen)
        following += chosen.tolist()
        common += [_common(counts, with_m)] * len(chosen)
    table = np.array(rows, dtype=float).reshape(-1, size)
    known = table.sum(1) > 0
    if not known.any():
        raise DataError(
            f"No two words of this text of {len(ids)} follow each other {least} times with context that "
            "comes as often. Give a longer text."
        )
    table = table[known]
    return Cooccurrence(
        last=np.array(last)[known],
        next=np.array(following)[known],
        probabilities=table / table.sum(1, keepdims=True),
        common=np.array(common)[known] & (table > 0),
        words=tuple(vocabulary),
    )


def _common(counts: np.ndarray, with_m: np.ndarray) -> np.ndarray:
    """Return which tokens are common, [M], from their counts by next token [N, M] and altogether [M]."""
    expected = with_m * counts.sum(1, keepdims=True) / max(1, with_m.sum())
    seen = counts > 0
    below = (seen & (counts < expected)).sum(0)
    return seen.any(0) & (2 * below >= seen.sum(0))
