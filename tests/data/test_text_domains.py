"""Domains of text: made ones, and files of one's own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.text_domains import domain, known_domains, made_domains, own_domains

PARTS = [f"Paragraph {i} tells of thing number {7 * i}." for i in range(60)]


def test_documents_are_split_by_their_text() -> None:
    """Oracle: no document in two splits, all of them in one, equal ones once; more never move one."""
    few, many = domain("few", PARTS[:40]), domain("many", [*PARTS, *PARTS[:5]])
    for split in ("train", "validation", "test"):
        assert set(few.splits[split]) <= set(many.splits[split])
    found = [text for texts in many.splits.values() for text in texts]
    assert sorted(found) == sorted(PARTS)
    assert len(many.limited(3).splits["train"]) == 3 and many.limited(3).splits["test"] == many.splits["test"]


def test_a_split_ends_after_so_many_bytes() -> None:
    """Oracle: a sum of lengths, in bytes."""
    found = domain("short", PARTS, most=200).splits["train"]
    sizes = [len(text.encode()) for text in found]
    assert sum(sizes[:-1]) < 200 <= sum(sizes)


def test_made_domains_have_little_in_common() -> None:
    """Oracle: the letters that each alone has; the sums are right; the same texts each time."""
    messages, sums, programs = made_domains(5000)
    assert [one.name for one in (messages, sums, programs)] == ["messages", "sums", "programs"]
    for text in sums.splits["train"][:20]:
        for line in text.split("\n"):
            left, right = line.split(" = ")
            a, sign, b = left.split()
            assert int(right) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
    for text in programs.splits["train"]:
        compile(text, "made", "exec")
    assert not any(set("=()") & set(text) for text in messages.splits["train"])
    assert made_domains(5000)[0] == messages


def test_files_are_domains_in_their_order(tmp_path: Path) -> None:
    """Oracle: what was written: text with and without blank lines, gzipped, and a table."""
    (tmp_path / "b.txt").write_text("\n\n".join(PARTS))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(PARTS).encode()))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in PARTS))
    found = own_domains(f"{tmp_path}/b.txt, {tmp_path}/a.txt.gz,{tmp_path}/c.jsonl", "body")
    assert [one.name for one in found] == ["b.txt", "a.txt.gz", "c.jsonl"]
    assert found[0].splits == found[1].splits == found[2].splits == domain("", PARTS).splits
    folder = own_domains(str(tmp_path), "body")
    assert [one.name for one in folder] == ["a.txt.gz", "b.txt", "c.jsonl"]


def test_files_that_are_no_domains(tmp_path: Path) -> None:
    """Oracle: the file, and what to do, are in the message."""
    short, table, binary = tmp_path / "short.txt", tmp_path / "t.csv", tmp_path / "b.txt"
    short.write_text("One line.")
    table.write_text("body\nA text.\n")
    binary.write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    for paths, column, kind, words in (
        (str(short), "", DataError, "short.txt.* 1 document, .*cut at its blank lines"),
        (str(table), "", UsageError, "column"),
        (str(table), "text", DataError, "Its columns: body"),
        (str(binary), "", DataError, "UTF-8"),
        (str(tmp_path / "none.txt"), "", DataError, "none.txt"),
        (str(tmp_path / "empty"), "", DataError, "holds no texts"),
        ("", "", UsageError, "stream:first.txt"),
    ):
        with pytest.raises(kind, match=words):
            own_domains(paths, column)


def test_known_domains_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: the nearest name, and what to set."""
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="wikitext2"):
        known_domains(["wikitext"], 100)
    with pytest.raises(DataError, match=r"wikitext2/valid.txt.gz.*SELFSTUDY_DATA"):
        known_domains(["wikitext2"], 100)


def test_known_domains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: small files in the layout of the folder of data sets."""
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    for folder in ("wikitext2", "gsm8k", "python_functions"):
        (tmp_path / folder).mkdir()
    for part in ("valid", "test"):
        (tmp_path / f"wikitext2/{part}.txt.gz").write_bytes(gzip.compress("\n".join(PARTS).encode()))
    rows = {"gsm8k/train": ("question", "answer"), "python_functions/cpython_stdlib": ("source", "name")}
    for name, columns in rows.items():
        lines = "".join(json.dumps(dict.fromkeys(columns, text)) + "\n" for text in PARTS)
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    articles, problems, functions = known_domains(["wikitext2", "gsm8k", "python"], 10**6)
    assert articles.splits == domain("", PARTS).splits
    assert f"{PARTS[0]}\n{PARTS[0]}" in {text for texts in problems.splits.values() for text in texts}
    assert sorted(t for texts in functions.splits.values() for t in texts) == sorted(PARTS)
