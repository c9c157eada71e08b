"""What is to be told of rows, and which of them give it away."""

from __future__ import annotations

import numpy as np
import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.mixed_tables import table_of
from selfstudy.data.table_answers import Answers, labelled_places, read_answers


def cells(values: list[object]) -> np.ndarray:
    return table_of({"y": values}).cells["y"]


def test_classes_and_numbers() -> None:
    """Oracle: by hand: words and few numbers are classes in order, many numbers stay; a gap has no label."""
    words = read_answers(cells(["b", "a", "?", "b"]), "y")
    assert words.classes == ("a", "b") and words.known.tolist() == [True, True, False, True]
    assert words.values[words.known].tolist() == [1, 0, 1]
    few = read_answers(cells([10, 9, 10, 2]), "y")
    assert few.classes == ("2", "9", "10") and few.values.tolist() == [2, 1, 2, 0]
    many = read_answers(cells([*range(25), None]), "y")
    assert many.classes == () and many.values[24] == 24 and np.isnan(many.values[25])
    assert read_answers(cells([10, 9, 10, 2]), "y", "numbers").values.tolist() == [10, 9, 10, 2]
    assert len(read_answers(cells(list(range(25))), "y", "classes").classes) == 25


def test_nothing_to_tell() -> None:
    """Oracle: one class, no label at all, a goal that there is not, words as numbers."""
    with pytest.raises(DataError, match=r"y has 1 different labels \(a\)"):
        read_answers(cells(["a", "a", None]), "y")
    with pytest.raises(DataError, match="all are missing"):
        read_answers(cells([None, ""]), "y")
    with pytest.raises(UsageError, match="goal=number must be"):
        read_answers(cells(["a", "b"]), "y", "number")
    with pytest.raises(DataError, match="no finite numbers: rows 1, 2"):
        read_answers(cells(["a", "b"]), "y", "numbers")


def test_labelled_rows_have_each_class_by_its_share() -> None:
    """Oracle: 20 of 90, 8 and 2 rows are 16, 2 and 2, and nested; another draw differs."""
    values = np.repeat([0.0, 1.0, 2.0], [90, 8, 2])
    values = np.append(values, np.nan)
    answers = Answers(values, ("a", "b", "c"))
    places = labelled_places(answers, 20, 0, "t")
    assert np.bincount(values[places].astype(int)).tolist() == [16, 2, 2]
    assert set(labelled_places(answers, 10, 0, "t")) <= set(places)
    assert not np.array_equal(places, labelled_places(answers, 20, 1, "t"))
    assert labelled_places(answers, 0, 0, "t").tolist() == list(range(100))
    for wrong in (5, 101):
        with pytest.raises(UsageError, match=f"labels={wrong} of t must be from 6 to 100"):
            labelled_places(answers, wrong, 0, "t")
    assert len(labelled_places(Answers(values), 7, 0, "t")) == 7
