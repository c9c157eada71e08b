"""The table of labels that a user takes home."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.label_table import ASKED, GIVEN, PREDICTED, PSEUDO, LabelTable


def table(suspect: np.ndarray | None = None) -> LabelTable:
    return LabelTable(
        ids=("7", "8", "9", "10"),
        shown=('he said "no"', "comma, and\nline", "<b>", ""),
        labels=np.array([1, 0, UNKNOWN, 1]),
        confidence=np.array([1.0, 0.5, 0.0, 0.25]),
        sources=(GIVEN, PSEUDO, PREDICTED, ASKED),
        classes=("bad", "good"),
        suspect=suspect,
    )


def test_the_csv_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Oracle: Python's own reader, and the table by hand."""
    table().save(tmp_path)
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["good", "bad", "", "good"]
    assert [row["text"] for row in rows] == list(table().shown)
    assert rows[0] == {
        "item": "7", "label": "good", "confidence": "1.0000", "source": "given", "text": 'he said "no"',
    }  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Oracle: the table itself, with and without suspects."""
    for suspect in (None, np.array([0.1, 0.9, 0.0, 0.3])):
        table(suspect).save(tmp_path)
        again = LabelTable.load(tmp_path)
        assert again.to_csv() == table(suspect).to_csv() and again.labels.dtype == np.int64
        assert ("suspect" in again.to_csv().splitlines()[0]) == (suspect is not None)
        assert (again.by_input == table().confidence).all() and len(again) == 4
