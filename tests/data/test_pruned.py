"""What is kept of a set: how many, of which classes, and the table of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.pruned import PrunedTable, kept_count, kept_places


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.floats(0.02, 1.0),
    st.integers(0, 99),
    st.booleans(),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sizes_and_classes(labels: list[int], fraction: float, seed: int, stratified: bool) -> None:
    """Oracle: round(f N) in all, f N_c within one of each class and at least one, the best of each."""
    own = np.array(labels)
    scores = np.random.default_rng(seed).permutation(len(own)).astype(float)
    total = round(fraction * len(own))
    if not total:
        with pytest.raises(UsageError, match="keeps none"):
            kept_places(scores, own, fraction, stratified=stratified)
        return
    kept = kept_places(scores, own, fraction, stratified=stratified)
    assert (np.diff(kept) > 0).all()
    assert kept_count(own, fraction, stratified=stratified) == len(kept)
    if not stratified:
        assert kept.tolist() == sorted(np.argsort(-scores)[:total].tolist())
        return
    missing = 0
    for label in np.unique(own):
        of_class = np.flatnonzero(own == label)
        mine = kept[own[kept] == label]
        assert abs(len(mine) - len(of_class) * total / len(own)) <= 1 and len(mine) >= 1
        assert scores[mine].min() >= max(scores[np.setdiff1d(of_class, mine)], default=-1)
        missing += len(mine) == 1 and len(of_class) * total / len(own) < 1
    assert total <= len(kept) <= total + missing


def test_all_are_kept_at_one() -> None:
    """Oracle: f = 1 gives every place, whatever the scores."""
    labels = np.array([0, 1, 1, 2, 2, 2])
    for scores in (np.zeros(6), np.array([np.inf, 1, -np.inf, 3, 3, 0])):
        for stratified in (True, False):
            assert kept_places(scores, labels, 1.0, stratified=stratified).tolist() == [0, 1, 2, 3, 4, 5]


def test_equals_are_kept_in_order_and_infinity_first() -> None:
    """Oracle: by hand."""
    labels = np.zeros(4, dtype=int)
    assert kept_places(np.array([1.0, 5.0, 5.0, np.inf]), labels, 0.5).tolist() == [1, 3]


def test_too_few_for_the_classes() -> None:
    """Oracle: one of each class and a warning, stratified; without, a warning that names the lost one."""
    labels = np.array([0] * 8 + [1] * 8 + [2])
    scores = np.arange(17.0)
    with pytest.warns(UserWarning, match="one is kept of each of the 1 classes"):
        assert kept_places(scores, labels, 0.25).tolist() == [6, 7, 14, 15, 16]
    with pytest.warns(UserWarning, match=r"Nothing is kept of 1 classes \(numbers 0\)"):
        kept_places(scores, labels, 0.25, stratified=False)


def test_bad_fractions_and_scores() -> None:
    """Oracle: each is refused by name."""
    labels = np.zeros(4, dtype=int)
    for fraction in (0.0, -0.5, 1.5, float("nan"), 0.01):
        with pytest.raises(UsageError, match="fraction="):
            kept_places(np.zeros(4), labels, fraction)
    with pytest.raises(DataError, match="3 scores for 4 items"):
        kept_places(np.zeros(3), labels, 0.5)


def test_the_table(tmp_path: Path) -> None:
    """Oracle: the rows, the largest score first, and the same table when it is read back."""
    table = PrunedTable(
        ("a", "b"), np.array([0, 1, 1]), np.array([0.5, np.inf, -1.0]), np.array([True, True, False]),
        np.array([4, 6, 7]),
    )  # fmt: skip
    rows = list(csv.reader(io.StringIO(table.to_csv())))
    assert rows == [
        ["item", "class", "score", "kept"],
        ["6", "b", "inf", "yes"],
        ["4", "a", "0.5", "yes"],
        ["7", "b", "-1", "no"],
    ]
    assert table.places.tolist() == [4, 6]
    table.save(tmp_path / "kept")
    back = PrunedTable.load(tmp_path / "kept")
    assert back.to_csv() == table.to_csv() and back.classes == table.classes
