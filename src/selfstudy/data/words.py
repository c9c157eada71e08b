"""Text as words: known texts and files, a vocabulary of the frequent ones, and windows."""

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
from selfstudy.data.cooccurrence import Sequences
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.readers import plain_text, read_hub

UNKNOWN = "<unk>"  # token 0: every word that is not among the frequent ones
WIKITEXT = "Salesforce/wikitext"
HUB = {"wikitext2": "wikitext-2-v1", "wikitext103": "wikitext-103-v1"}  # its configurations
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
        source: "wikitext2" or "wikitext103", looked for below $SELFSTUDY_DATA and then on the hub;
            "tinyshakespeare", below $SELFSTUDY_DATA; or the path of a text file in UTF-8, also gzipped. A
            text in one piece is cut into 80 % training, 10 % validation and 10 % test, in its order. Where
            the folder has no training file of WikiText, nine tenths of its validation file train, and the
            last tenth is the validation split.

    Raises:
        DataError: the text is missing or is none.
    """
    if source in HUB:
        return _wikitext(source)
    if source == "tinyshakespeare":
        path = library_file("tinyshakespeare/input.txt.gz")
        if path is None:
            raise DataError(
                f"The file tinyshakespeare/input.txt.gz is not here. Set ${VARIABLE} to the folder that "
                "holds it, or give the path of a text file of your own."
            )
    else:
        path = Path(source)
        if not path.is_file():
            raise DataError(
                f"There is no text {source!r}. Give the path of a text file, or one of "
                f"{', '.join([*HUB, 'tinyshakespeare'])} with ${VARIABLE} set to the folder of data sets."
            )
    return _cut(_WORD.findall(_read(path)), *SHARES)


def _wikitext(name: str) -> Text:
    """WikiText is in words already, with a space after each."""
    files = {split: library_file(f"{name}/{split}.txt.gz") for split in ("train", "valid", "test")}
    if files["valid"] and files["test"]:
        middle, test = (_read(files[split]).split() for split in ("valid", "test"))  # type: ignore[arg-type]
        if files["train"]:
            return Text(train=_read(files["train"]).split(), validation=middle, test=test)
        cut = _cut(middle, 0.9, 0.1)
        return Text(train=cut.train, validation=cut.validation, test=test)
    try:
        train, middle, test = (_of_hub(HUB[name], split) for split in ("train", "validation", "test"))
    except DataError as error:
        raise DataError(
            f"The text {name!r} is not here. Put {name}/valid.txt.gz and {name}/test.txt.gz into a folder "
            f"and set ${VARIABLE} to it, or download {WIKITEXT} from the Hugging Face hub. ({error})"
        ) from error
    return Text(train=train, validation=middle, test=test)


def _of_hub(config: str, split: str) -> list[str]:
    rows = read_hub(WIKITEXT, config, split)
    return [word for row in rows for word in plain_text((row.values or {}).get("text")).split()]


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"The file {path} cannot be read as text in UTF-8: {error}.") from error


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
