"""Oracles: what they answer, and what a program may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.data.oracles import NEW, HiddenLabels, Program, Query

HIDDEN = HiddenLabels(np.array([0, 2, -1, 1, 2]), ("cat", "dog", "owl"))


def query(places: list[int], **more: object) -> Query:
    return Query(name="q", places=np.array(places), **{"classes": ("cat", "dog", "owl"), **more})  # type: ignore[arg-type]


def test_a_hidden_column_tells_the_truth(tmp_path: Path) -> None:
    """Oracle: the column, read by hand; what has no label is "not sure"."""
    assert HIDDEN.answers(query([4, 0, 2]), tmp_path) == ["owl", "cat", ""]


def test_a_class_beyond_the_known_ones_is_new(tmp_path: Path) -> None:
    """Oracle: by hand: owl is unknown to the query; where new ones are not allowed it is "not sure"."""
    known = ("cat", "dog")
    assert HIDDEN.answers(query([1, 3], classes=known, allow_new=True), tmp_path) == [f"{NEW}owl", "dog"]
    assert HIDDEN.answers(query([1, 3], classes=known), tmp_path) == ["", "dog"]


def test_a_confirmation_is_yes_or_no(tmp_path: Path) -> None:
    """Oracle: by hand, for a right and a wrong proposal and one that nothing is known of."""
    asked = query([0, 1, 2], confirm=np.array([0, 1, 2]))
    assert HIDDEN.answers(asked, tmp_path) == ["yes", "no", "no"]


def test_a_program_is_asked_by_places(tmp_path: Path) -> None:
    """Oracle: a table; None is "not sure"."""
    told = {0: "cat", 1: None, 3: "dog"}
    program = Program(lambda places: [told[place] for place in places])
    assert program.answers(query([3, 1, 0]), tmp_path) == ["dog", "", "cat"]
    assert program.answers(query([3, 0], confirm=np.array([1, 1])), tmp_path) == ["yes", "no"]


def test_a_program_may_name_a_new_class_where_that_is_allowed(tmp_path: Path) -> None:
    """Oracle: by hand; elsewhere it is an error that names the answer."""
    program = Program(lambda places: ["emu"] * len(places))
    assert program.answers(query([0], allow_new=True), tmp_path) == [f"{NEW}emu"]
    with pytest.raises(DataError, match="'emu', which is none of the 3 classes"):
        program.answers(query([0]), tmp_path)


def test_a_program_must_answer_each_item(tmp_path: Path) -> None:
    """Oracle: one answer for two items."""
    with pytest.raises(DataError, match="asked for 2 labels and gave 1"):
        Program(lambda places: ["cat"]).answers(query([0, 1]), tmp_path)
