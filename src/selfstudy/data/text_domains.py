"""Texts of several domains, one after the other: made ones, known ones, and files of one's own."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.made_texts import OWN, SHARED
from selfstudy.data.readers import plain_text, read_rows
from selfstudy.data.splits import SPLITS, split_of

ENDS = {"train_end": 0.8, "validation_end": 0.9}  # of documents
ROWS = ("jsonl", "csv", "parquet")
SUFFIXES = (".txt", ".md", ".py", *(f".{kind}" for kind in ROWS))
_BLANK = re.compile(r"\n\s*\n")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Documents of one kind, split by a hash of their text, so that none is in two splits."""

    name: str
    """In words."""
    splits: dict[str, tuple[str, ...]]
    """Documents of "train", "validation" and "test"."""

    def limited(self, documents: int) -> Domain:
        """Return this domain with its first training documents alone."""
        return replace(self, splits={**self.splits, "train": self.splits["train"][:documents]})


def domain(name: str, documents: Iterable[str], most: int = 0) -> Domain:
    """Return a domain of documents; equal ones count once.

    Args:
        name: in words.
        documents: in their order.
        most: bytes of each split, after which the rest is left out; 0 is any number.

    Raises:
        DataError: a split is empty.
    """
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    room = dict.fromkeys(SPLITS, most or float("inf"))
    for text in dict.fromkeys(filter(str.strip, documents)):
        split = split_of(text, **ENDS)
        if room[split] > 0:
            found[split].append(text)
            room[split] -= len(text.encode())
    for split in SPLITS:
        if not found[split]:
            count = sum(map(len, found.values()))
            raise DataError(
                f"The domain {name!r} has {count} document{'s' if count != 1 else ''}, and none is left for "
                f"the {split} split: documents are dealt out whole, 8 of 10 to train, 1 to validate and 1 to "
                "test. Give it 50 or more: a text is cut at its blank lines, or at its line ends where it "
                "has no blank line, and of a table each row is one."
            )
    return Domain(name=name, splits={split: tuple(texts) for split, texts in found.items()})


# Made ones, without any file.


def made_domains(size: int) -> list[Domain]:
    """Return three kinds of text that have little in common: messages, sums and programs.

    Args:
        size: training bytes of each, about.
    """
    return [
        domain(name, _until(write, generator("domain", name), 2 * size), size) for name, write in MADE.items()
    ]


def _until(write: Callable[[np.random.Generator], str], rng: np.random.Generator, size: int) -> Iterable[str]:
    while size > 0:
        text = write(rng)
        size -= len(text)
        yield text


def _message(rng: np.random.Generator) -> str:
    own = OWN[str(rng.choice(list(OWN)))].split()
    words = [*SHARED.split(), *own, *own]
    sentences = (" ".join(rng.choice(words, size=rng.integers(5, 10))) for _ in range(3))
    return "".join(f"{sentence.capitalize()}. " for sentence in sentences).strip()


def _sums(rng: np.random.Generator) -> str:
    lines = []
    for a, b in rng.integers(10, 100, size=(6, 2)).tolist():
        lines.append(f"{a} + {b} = {a + b}" if rng.random() < 0.5 else f"{a} - {b} = {a - b}")
    return "\n".join(lines)


def _program(rng: np.random.Generator) -> str:
    names = rng.choice(
        ["total", "items", "count", "value", "left", "right", "index", "best"], 3, replace=False
    )
    a, b, c = map(str, names)
    verb = rng.choice(["find", "sum", "make", "drop", "merge", "check"])
    sign, number = rng.choice(["+", "-", "*"]), rng.integers(1, 10)
    return (
        f"def {verb}_{a}({b}, {c}={number}):\n    {a} = []\n    for {c} in {b}:\n"
        f"        if {c} > {number}:\n            {a}.append({c} {sign} {number})\n    return {a}"
    )


MADE = {"messages": _message, "sums": _sums, "programs": _program}


# Known ones, below $SELFSTUDY_DATA.


def known_domains(names: Sequence[str], size: int) -> list[Domain]:
    """Return known domains by name, each of at most `size` training bytes.

    Raises:
        UsageError: no domain of that name.
        DataError: its files are not on this machine.
    """
    for name in names:
        if name not in KNOWN:
            raise UsageError(f"There is no domain {name!r}. {nearest(name, KNOWN)}")
    return [domain(name, KNOWN[name](), size) for name in names]


def _articles() -> Iterable[str]:
    """Paragraphs of WikiText-2, of its validation and test files."""
    for part in ("valid", "test"):
        yield from map(str.strip, _read(_file(f"wikitext2/{part}.txt.gz")).split("\n"))


def _word_problems() -> Iterable[str]:
    for row in _lines("gsm8k/train.jsonl.gz"):
        yield f"{row['question']}\n{row['answer']}"


def _functions() -> Iterable[str]:
    """Functions of Python's standard library, in an order that mixes its modules."""
    rows = _lines("python_functions/cpython_stdlib.jsonl.gz")
    for place in generator("domain", "python").permutation(len(rows)):
        yield rows[place]["source"]


KNOWN: dict[str, Callable[[], Iterable[str]]] = {
    "wikitext2": _articles,
    "gsm8k": _word_problems,
    "python": _functions,
}


def _file(relative: str) -> Path:
    path = library_file(relative)
    if path is None:
        raise DataError(
            f"The file {relative} is not on this machine: set ${VARIABLE} to a folder that holds it, or take "
            "made-domains, which need no file, or stream: and files of your own."
        )
    return path


def _lines(relative: str) -> list[dict[str, str]]:
    return [row.values or {} for row in read_rows(_file(relative), "jsonl")]


# One's own.


def own_domains(paths: str, column: str = "") -> list[Domain]:
    """Return a domain for each file, in the order given.

    Args:
        paths: files with commas between, or a folder, whose files come in the order of their names. Texts
            are cut into documents at blank lines, or at line ends where there are none; of tables each row is
            a document.
        column: of the text in tables.

    Raises:
        UsageError: no files, or a table without a column.
        DataError: a file that cannot be read, or is too short to be split.
    """
    files = [Path(path.strip()) for path in paths.split(",") if path.strip()]
    if len(files) == 1 and files[0].is_dir():
        folder = files[0]
        kept = (path for path in sorted(folder.iterdir()) if path.name.removesuffix(".gz").endswith(SUFFIXES))
        files = list(kept)
        if not files:
            raise DataError(f"The folder {folder} holds no texts: files that end in {', '.join(SUFFIXES)}.")
    if not files:
        raise UsageError("stream: needs files or a folder, as in stream:first.txt,second.txt.")
    return [domain(path.name, _documents(path, column)) for path in files]


def _documents(path: Path, column: str) -> Iterable[str]:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind not in ROWS:
        text = _read(path)
        parts = list(filter(str.strip, _BLANK.split(text)))  # blank lines at the end divide nothing
        return parts if len(parts) > 1 else text.splitlines()
    if not column:
        raise UsageError(f"{path} is a table: name the column of its text, as in stream:{path}?column=text.")
    rows = [row.values or {} for row in read_rows(path, kind)]
    if not any(column in values for values in rows):
        known = ", ".join(map(str, next(iter(rows), {}))) or "none"
        raise DataError(f"{path} has no column {column!r}. Its columns: {known}.")
    return [plain_text(values.get(column)) for values in rows]


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"The file {path} cannot be read as text in UTF-8: {error}.") from error
