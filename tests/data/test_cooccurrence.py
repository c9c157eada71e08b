"""The table P(l | m, n) and sequences drawn from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.data.cooccurrence import Cooccurrence, draw, synthetic


def test_the_table_of_the_paper() -> None:
    """Oracle: counted by hand: 10 weights of 1, and 10 from 0.1 to 1, which add up to 15.5."""
    table = synthetic(last=3, next=2, common=10, own=10)
    assert table.vocabulary == 3 + 6 + 10 + 60
    assert table.last.tolist() == [0, 0, 1, 1, 2, 2] and table.next.tolist() == [3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose((table.probabilities * table.common).sum(1), 10 / 15.5)
    assert table.common.sum(1).tolist() == [10] * 6 and table.distinct.sum(1).tolist() == [10] * 6
    own = table.probabilities[4][table.distinct[4]]
    np.testing.assert_allclose(own, np.linspace(0.1, 1.0, 10) / 15.5)
    assert [table.word(int(token)) for token in np.flatnonzero(table.distinct[4])[[0, 9]]] == [
        "d5.1",
        "d5.10",
    ]
    assert not (table.distinct.sum(0) > 1).any(), "a distinct token comes with one class alone"
    assert table.watched(2) == [0, 2]


def test_one_class_has_no_common_tokens() -> None:
    """Oracle: common are tokens that come with several classes, of which there is one."""
    assert not synthetic(last=1, next=1).common.any()


def test_draws_follow_the_table() -> None:
    """Oracle: P itself: shares of 400,000 tokens a class within 5 standard errors, none where P is 0."""
    table = synthetic(last=2, next=2, common=3, own=4, least=0.2)
    size, length = 16_000, 101
    tokens, targets = draw(table, size, length, np.random.default_rng(0))
    assert tokens.shape == (size, length) and targets.shape == (size, 1)
    classes = targets[:, 0].numpy() - 2
    assert (table.last[classes] == tokens[:, -1].numpy()).all()
    assert abs(np.bincount(classes, minlength=4) / size - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / size)
    for k, p in enumerate(table.probabilities):
        context = tokens[classes == k, :-1].numpy().ravel()
        share = np.bincount(context, minlength=table.vocabulary) / len(context)
        assert (share[p == 0] == 0).all()
        assert (abs(share - p) <= 5 * np.sqrt(p * (1 - p) / len(context))).all()


class _Edges:
    """Draws the ends of the range: the first unit of a class, then its last."""

    def __init__(self, last: bool) -> None:
        self._last = last

    def integers(self, high: int, size: Any) -> np.ndarray:
        drawn = np.arange(np.prod(size)).reshape(size) % high
        return drawn if high < 100 else np.full(size, high - 1 if self._last else 0)


@pytest.mark.parametrize("last", [False, True])
def test_the_ends_of_the_range_have_a_token_of_their_class(last: bool) -> None:
    """Oracle: the first and last token with P above 0, of thirds, whose sum rounds, between zeros."""
    p = np.array([[0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 3, 3, 1, 0]]) / np.array([[3.0], [7.0]])
    p *= 1 - 5e-9  # as far from 1 as a row may be
    table = Cooccurrence(last=np.array([0, 0]), next=np.array([1, 2]), probabilities=p, common=p > 1)
    tokens, targets = draw(table, 4, 5, _Edges(last))  # type: ignore[arg-type]
    for row, target in zip(tokens, targets, strict=True):
        places = np.flatnonzero(p[int(target) - 1])
        assert (row[:-1] == int(places[-1] if last else places[0])).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"last": 0},
        {"next": 0},
        {"own": 0},
        {"common": -1},
        {"least": 0.0},
        {"least": 2.0},
        {"most": float("inf")},
        {"least": float("nan")},
    ],
)
def test_fields_out_of_range(fields: dict[str, Any]) -> None:
    """Oracle: each limit; without common tokens there is still a table."""
    with pytest.raises(DataError):
        synthetic(**fields)
    assert synthetic(common=0).vocabulary == 24


@pytest.mark.parametrize(
    "change",
    [
        {"probabilities": np.array([[0.5, 0.4]])},
        {"probabilities": np.array([[1.5, -0.5]])},
        {"probabilities": np.array([[np.nan, 1.0]])},
        {"probabilities": np.zeros((0, 2))},
        {"common": np.zeros((1, 3), dtype=bool)},
        {"last": np.array([0, 1])},
        {"next": np.array([2])},
        {"last": np.array([-1])},
    ],
)
def test_tables_that_are_none(change: dict[str, Any]) -> None:
    """Oracle: one defect each; without it the table is accepted."""
    whole = {
        "last": np.array([0]),
        "next": np.array([1]),
        "probabilities": np.array([[0.5, 0.5]]),
        "common": np.zeros((1, 2), dtype=bool),
    }
    Cooccurrence(**whole)
    with pytest.raises(DataError):
        Cooccurrence(**{**whole, **change})
