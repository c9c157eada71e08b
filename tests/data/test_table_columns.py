"""Columns as an encoder reads them: what is learned from training rows, and what becomes of other rows."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError
from selfstudy.data import table_columns
from selfstudy.data.mixed_tables import chosen_kinds, table_of
from selfstudy.data.table_columns import ABSENT, FIRST, UNKNOWN, TableColumns

TRAINING = {
    "age": [20, 40, None, 30],
    "income": [1.0, 3.0, 2.0, 5.0],
    "city": ["Oslo", "Bern", "Oslo", None],
}


def test_training_rows_by_hand() -> None:
    """Oracle: min-max scaling, the median and an indicator where a number is missing, codes by name."""
    columns = TableColumns.fitted(table_of(TRAINING))
    assert columns.names == ["age", "age is missing", "income", "city"] and len(columns) == 4
    assert columns.sources == ["age", "income", "city"] and columns.cardinalities == [4]
    rows = columns.rows(table_of(TRAINING))
    assert torch.allclose(rows.numbers, torch.tensor([[0, 0, 0], [1, 0, 0.5], [0.5, 1, 0.25], [0.5, 0, 1.0]]))
    assert rows.codes[:, 0].tolist() == [FIRST + 1, FIRST, FIRST + 1, ABSENT]
    hot = columns.one_hot(rows)
    assert hot.shape == (4, 7) and hot[3].tolist() == [0.5, 0, 1, 0, 1, 0, 0]


def test_other_rows() -> None:
    """Oracle: cut off at -0.5 and 1.5, an unseen category is unknown, a gap is the median, with a warning."""
    columns = TableColumns.fitted(table_of(TRAINING))
    other = {
        "income": [-100.0, 100.0, None],
        "city": ["Rome", "", "Bern"],
        "age": [20, 20, 20],
        "more": [1, 2, 3],
    }
    with pytest.warns(UserWarning, match="'income' of the input has 1 missing numbers, and had none"):
        rows = columns.rows(table_of(other))
    assert rows.numbers[:, 2].tolist() == [-0.5, 1.5, 0.375]
    assert rows.codes[:, 0].tolist() == [UNKNOWN, ABSENT, FIRST]
    with pytest.raises(DataError, match="no column 'city', which this encoder reads"):
        columns.rows(table_of({"age": [1], "income": [1]}))
    with pytest.raises(DataError, match=r"column 'income' of the input .*rows 2 \(row 2 has inf"):
        columns.rows(table_of({**TRAINING, "income": [1.0, float("inf"), 2.0, 3.0]}))


def test_nothing_is_learned_from_other_rows() -> None:
    """Oracle: the same columns whatever the other rows are."""
    table = table_of({"x": [0.0, 1.0, 99.0], "c": ["a", "b", "z"]})
    columns = TableColumns.fitted(table.only(slice(2)))
    assert columns.numeric[0].high == 1.0 and columns.categorical[0].categories == ("a", "b")


def test_constant_and_empty_columns_are_left_out() -> None:
    """Oracle: the names in the warning; one number with gaps still tells where the gaps are."""
    cells = {
        "x": [1, 2, 3],
        "same": [7, 7, 7],
        "word": ["a", "a", "a"],
        "none": [None, "", "?"],
        "gaps": [7, None, 7],
    }
    with pytest.warns(UserWarning, match="left out: same, word, none"):
        columns = TableColumns.fitted(table_of(cells))
    assert columns.names == ["x", "gaps"] and columns.categorical[0].categories == ("7",)
    with pytest.raises(DataError, match="All 2 columns of the input are constant or empty in its 3"):
        TableColumns.fitted(table_of({name: cells[name] for name in ("same", "none")}))


def test_many_categories_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: as many codes as buckets, a code for categories never seen, and the same code each time."""
    monkeypatch.setattr(table_columns, "MOST_CATEGORIES", 5)
    names = [f"name {i}" for i in range(6)]
    with pytest.warns(UserWarning, match="'who' of the input has 6 categories; they are hashed into 5"):
        columns = TableColumns.fitted(table_of({"who": names}))
    assert columns.cardinalities == [FIRST + 5] and columns.categorical[0].categories == ()
    codes = columns.rows(table_of({"who": [*names, "never seen", None]})).codes[:, 0]
    assert codes[-1] == ABSENT and codes[:-1].min() >= FIRST and codes.max() < FIRST + 5
    assert torch.equal(codes, columns.rows(table_of({"who": [*names, "never seen", None]})).codes[:, 0])


@pytest.mark.parametrize("kept", [["age", "income"], ["city"]])
def test_tables_of_one_kind(kept: list[str]) -> None:
    """Oracle: the shapes; a table of numbers has no codes, one of categories no numbers."""
    table = table_of({name: TRAINING[name] for name in kept})
    rows = TableColumns.fitted(table).rows(table)
    assert rows.numbers.shape == (4, 3 * ("age" in kept)) and rows.codes.shape == (4, "city" in kept)


def test_a_choice_of_kind() -> None:
    """Oracle: numbers as categories have a code each; words as numbers are refused by row."""
    table = table_of({"zone": [1, 2, 2], "city": ["a", "b", "a"]})
    assert TableColumns.fitted(chosen_kinds(table, [], ["zone"])).names == ["zone", "city"]
    assert TableColumns.fitted(chosen_kinds(table, [], ["zone"])).categorical[0].categories == ("1", "2")
    with pytest.raises(DataError, match="read the column as categories"):
        TableColumns.fitted(chosen_kinds(table, ["city"], []))


@given(
    st.lists(
        st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from(["a", "b", "?"])), min_size=2, max_size=8
    )
)
def test_columns_come_back_from_json(cells: list[object]) -> None:
    """Oracle: equality after JSON, and the same rows; for any column of numbers, words and gaps."""
    table = table_of({"any": cells, "x": list(range(len(cells)))})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        columns = TableColumns.fitted(table)
        again = TableColumns.from_json(json.loads(json.dumps(columns.to_json())))
        assert again == columns
        rows, other = columns.rows(table), again.rows(table)
    assert torch.equal(rows.numbers, other.numbers) and torch.equal(rows.codes, other.codes)
    assert np.isfinite(rows.numbers.numpy()).all() and rows.numbers.min() >= 0 and rows.numbers.max() <= 1
