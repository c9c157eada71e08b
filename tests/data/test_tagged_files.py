"""Tagged sentences of files: rows with lists or texts, CoNLL-U, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.tagged_files import tagged_rows

WANTED = [(("a", "cat"), ("D", "N")), (("runs",), ("V",))]
CONLLU = """# text = a cat
1\ta\t_\tDET\tD\t_\t_\t_\t_\t_
2-3\tcats\t_\t_\t_\t_\t_\t_\t_\t_
2\tcat\t_\tNOUN\tN\t_\t_\t_\t_\t_
2.1\tunsaid\t_\tX\tX\t_\t_\t_\t_\t_

1\truns\t_\tVERB\tV\t_\t_\t_\t_\t_
"""


def written(folder: Path, *rows: dict[str, object]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_rows_of_lists_and_of_texts(tmp_path: Path) -> None:
    """Oracle: the sentences that were written, in either form; an empty one is left out."""
    path = written(
        tmp_path,
        {"w": ["a", "cat"], "t": "D N"},
        {"w": [], "t": None},
        {"w": "runs", "t": ["V"]},
    )
    assert tagged_rows(path, "jsonl", "w", "t") == WANTED


def test_conllu(tmp_path: Path) -> None:
    """Oracle: the same sentences; ranges of words and unwritten words are left out."""
    path = tmp_path / "a.conllu"
    path.write_text(CONLLU)
    assert tagged_rows(str(path), "conllu", "", "xpos") == WANTED
    assert tagged_rows(str(path), "conllu", "", "upos")[0][1] == ("DET", "NOUN")
    with pytest.raises(UsageError, match="tags=pos is no column"):
        tagged_rows(str(path), "conllu", "", "pos")
    path.write_text("1\ta\n")
    with pytest.raises(DataError, match=r"Line 1 of .* has 2 columns"):
        tagged_rows(str(path), "conllu", "", "upos")
    with pytest.raises(DataError, match="There is no file"):
        tagged_rows(str(tmp_path / "none.conllu"), "conllu", "", "upos")


def test_bad_rows(tmp_path: Path) -> None:
    """Oracle: each is refused with its row."""
    with pytest.raises(DataError, match=r"Row 1 of .* has 2 words and 1 tags"):
        tagged_rows(written(tmp_path, {"w": "a cat", "t": "D"}), "jsonl", "w", "t")
    with pytest.raises(UsageError, match="no column 'u'"):
        tagged_rows(written(tmp_path, {"w": "a cat", "t": "D N"}), "jsonl", "w", "u")
    with pytest.raises(DataError, match=r"Row 2 of .* has '.3.' in the column 't'"):
        tagged_rows(written(tmp_path, {"w": "a", "t": "D"}, {"w": "a", "t": [3]}), "jsonl", "w", "t")
    with pytest.raises(DataError, match="no sentence"):
        tagged_rows(written(tmp_path, {"w": "", "t": ""}), "jsonl", "w", "t")
    path = tmp_path / "broken.jsonl"
    path.write_text('{"w": "a", "t": "D"}\n{')
    with pytest.raises(DataError, match=r"Row 2 of .* is unparsable"):
        tagged_rows(str(path), "jsonl", "w", "t")
