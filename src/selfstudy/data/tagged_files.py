"""A user's tagged sentences: a row each of JSON lines or Parquet, or CoNLL-U."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.readers import read_rows
from selfstudy.data.tables import require_column

COLUMNS = {"lemma": 2, "upos": 3, "xpos": 4, "deprel": 7}
"""Columns of CoNLL-U that may be told; the words are in column 1."""

Pairs = list[tuple[tuple[str, ...], tuple[str, ...]]]


def tagged_rows(path: str, kind: str, words: str, tags: str) -> Pairs:
    """Return the sentences of a file with their tags; sentences without words are left out.

    Args:
        path: of the file.
        kind: "jsonl" or "parquet", where each row has two lists, or two texts with blanks between; or
            "conllu", where `words` is not asked for.
        words: column of the words.
        tags: column of the tags.

    Raises:
        UsageError: there is no such column.
        DataError: a row cannot be read, or has another number of tags than of words; names the row.
    """
    found = _conllu(path, tags) if kind == "conllu" else _rows(path, kind, words, tags)
    pairs: Pairs = []
    for where, spoken, told in found:
        if len(spoken) != len(told):
            raise DataError(
                f"{where} of {path} has {len(spoken)} words and {len(told)} tags. Each word needs one tag."
            )
        if spoken:
            pairs.append((tuple(spoken), tuple(told)))
    if not pairs:
        raise DataError(f"{path} holds no sentence with words and tags.")
    return pairs


def _rows(path: str, kind: str, words: str, tags: str) -> Iterator[tuple[str, list[str], list[str]]]:
    for row in read_rows(Path(path).expanduser(), kind):
        where = f"Row {row.line}"
        if row.values is None:
            raise DataError(f"{where} of {path} is {row.fault}. Mend it, or take it out.")
        for column in (words, tags):
            require_column(path, column, row.values)
        yield (
            where,
            _listed(row.values[words], path, where, words),
            _listed(row.values[tags], path, where, tags),
        )


def _listed(cell: Any, path: str, where: str, column: str) -> list[str]:
    if cell is None:
        return []
    if isinstance(cell, str):
        return cell.split()
    if isinstance(cell, list) and all(isinstance(item, str) and item for item in cell):
        return cell
    raise DataError(
        f"{where} of {path} has {str(cell)[:40]!r} in the column {column!r}. Give a list of texts, or a text "
        "with blanks between."
    )


def _conllu(path: str, tags: str) -> Iterator[tuple[str, list[str], list[str]]]:
    if tags not in COLUMNS:
        raise UsageError(f"tags={tags} is no column of CoNLL-U that can be told: take {', '.join(COLUMNS)}.")
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"There is no file {path}. Give the path of a CoNLL-U file, from {Path.cwd()}.")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    words: list[str] = []
    told: list[str] = []
    first = 1
    for line, content in enumerate([*text.split("\n"), ""], 1):
        cells = content.split("\t")
        if not content.strip():
            yield f"The sentence at line {first}", words, told
            words, told, first = [], [], line + 1
        elif not content.startswith("#"):
            if len(cells) != 10:
                raise DataError(f"Line {line} of {path} has {len(cells)} columns; CoNLL-U has 10, by tabs.")
            if cells[0].isdigit():  # else a range of words, or a word that is not written
                words.append(cells[1])
                told.append(cells[COLUMNS[tags]])
