"""Sets of texts by name: from files of the layout that is told, in splits that share no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.text_sets import FILES, NAMES, text_splits


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    (tmp_path / "text_cls").mkdir()
    text_splits.cache_clear()
    yield tmp_path / "text_cls"
    text_splits.cache_clear()


def write(folder: Path, name: str, file: str, texts: list[str], labels: list[object]) -> None:
    said = FILES[name]
    pyarrow.parquet.write_table(
        pyarrow.table({said.text: texts, said.label: labels}), folder / f"{file}.parquet"
    )


@pytest.mark.parametrize("name", FILES)
def test_splits_share_no_text(name: str, folder: Path) -> None:
    """Oracle: the rows that were written: each once, blanks evened out, a test row never learnt from."""
    said = FILES[name]
    train = [f"text  {place}\n" for place in range(100)] + ["text 7", "tested"]
    labels: list[object] = [("x", "y")[place % 2] for place in range(102)]
    write(folder, name, said.train, train, labels)
    if said.test:
        write(folder, name, said.test, ["tested", "other", "other"], ["x", "z", "z"])
    found = text_splits(name)
    parts = {split: set(texts.texts) for split, texts in found.items()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())), "no text in two splits"
    every = {f"text {place}" for place in range(100)} | {"tested"}
    assert set().union(*parts.values()) == every | ({"other"} if said.test else set())
    if said.test:
        assert parts["test"] == {"tested", "other"} and found["test"].classes == ("x", "y", "z")
        assert len(parts["validation"]) == 10
    else:
        assert (len(parts["validation"]), len(parts["test"])) == (10, 20)
    for texts in found.values():
        for text, label in zip(texts.texts, texts.labels, strict=True):
            if text.startswith("text") and text != "text 7":
                assert texts.classes[label] == ("x", "y")[int(text.split()[1]) % 2]


def test_splits_are_the_same_every_time(folder: Path) -> None:
    """Oracle: a second reading."""
    write(
        folder, "subj", "subj", [f"text {place}" for place in range(50)], [place % 2 for place in range(50)]
    )
    first = text_splits("subj")
    text_splits.cache_clear()
    second = text_splits("subj")
    assert first["train"].texts == second["train"].texts and first["train"].classes == ("0", "1")
    assert np.array_equal(first["test"].labels, second["test"].labels)


def test_what_is_not_there_is_told(folder: Path) -> None:
    """Oracle: where to put which file; the nearest name."""
    with pytest.raises(DataError, match=r"text_cls/ag_news_train\.parquet.*fancyzhx/ag_news"):
        text_splits("ag-news")
    with pytest.raises(UsageError, match="Did you mean 'ag-news'"):
        text_splits("ag_news")
    write(folder, "subj", "subj", ["a"], ["x"])
    (folder / "sms_spam.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="sms_spam"):
        text_splits("sms-spam")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_pool(name: str, folder: Path) -> None:
    """Oracle: labels alike of each class, drawn of the training split."""
    said = FILES.get(name)
    for file in filter(None, (said.train, said.test) if said else ()):
        write(folder, name, file, [f"{file} {place}" for place in range(60)], ["x", "y"] * 30)
    task = selfstudy.task(f"pool:{name}?labels=8&train=40")
    assert len(task.pool) == 40 and set(np.bincount(task.given[task.labelled])) <= {2, 4}
