"""Items on loan: two people at once get different ones where there are enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfstudy.app.labelling.desk import LEASE, Desk
from selfstudy.data import label_answers
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path):
    with LabelDatabase(tmp_path) as store:
        with store.change():
            store.pose(Query(name="q", places=np.array([4, 5, 6]), classes=("a", "b")))
        yield store


def held(desk: Desk, who: str) -> int | None:
    found = desk.item_for(who)
    return None if found is None else found[1].id


def test_people_get_different_items_while_there_are_enough(store: LabelDatabase) -> None:
    """Oracle: the order by hand; a fourth person shares, and a loan that has ended is given out again."""
    clock = Clock()
    desk = Desk(store, clock)
    assert [held(desk, who) for who in ("Ann", "Bob", "Ann", "Cid")] == [1, 2, 1, 3]
    assert held(desk, "Dot") == 1, "all are on loan: the first one is labelled twice"
    clock.now = LEASE + 1
    assert held(desk, "Bob") == 1 and held(desk, "Eve") == 2


def test_an_item_is_kept_until_it_is_answered(store: LabelDatabase) -> None:
    """Oracle: the items by hand, after an answer, a skip and an undo."""
    desk = Desk(store, Clock())
    assert held(desk, "Ann") == 1
    with store.change():
        label_answers.answer(store, "r1", "Ann", 1, "a")
    assert held(desk, "Ann") == 2
    with store.change():
        label_answers.skip(store, "r2", "Ann", 2)
    desk.give_back("Ann")
    assert held(desk, "Ann") == 3
    with store.change():
        label_answers.answer(store, "r3", "Ann", 3, "a")
    assert held(desk, "Ann") == 2, "what was skipped comes last"
    with store.change():
        assert label_answers.undo(store, "r4", "Ann") == 3
    desk.lend("Ann", 3)
    assert held(desk, "Ann") == 3, "what was undone is there again at once"


def test_nothing_is_left_when_all_is_answered(store: LabelDatabase) -> None:
    """Oracle: None, also for somebody new, and where no query is open."""
    desk = Desk(store, Clock())
    with store.change():
        for number in (1, 2, 3):
            label_answers.answer(store, f"r{number}", "Ann", number, "b")
    assert held(desk, "Bob") is None
    with store.change():
        assert store.take(1) == ["b"] * 3
    assert held(desk, "Bob") is None
