"""The store of rationales: Metropolis's rule, checkpoints, and the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from selfstudy.core.checkpoint import load_state, save_state
from selfstudy.data.rationales import Drawn, Rationales, RationaleStore

WRONG, RIGHT = Drawn((1, 2), "1+1=3", False, True), Drawn((3,), "1+1=2", True, True)


@pytest.mark.parametrize(
    ("held", "proposal", "moves"),
    [
        (WRONG, WRONG._replace(text="other"), False),
        (WRONG, RIGHT, True),
        (RIGHT, WRONG, False),
        (RIGHT, RIGHT._replace(text="other"), True),
    ],
)
def test_metropolis(held: Drawn, proposal: Drawn, moves: bool) -> None:
    """Oracle: the table of the four cases of (c(z), c(z~)): the ratio is c(z~) / c(z)."""
    store = RationaleStore(2)
    store.put(1, held, -1)
    assert store.offer(1, proposal, 5) == moves
    assert store[1] == (proposal if moves else held) and store.since[1] == (5 if moves else -1)
    assert store[0].tokens == () and not store.right[0]


def filled() -> RationaleStore:
    store = RationaleStore(4)
    store.put(0, WRONG, 0)
    store.put(2, RIGHT, 3)
    store.put(3, Drawn((), "a\u2028b\n", True, False), 1)
    return store


def test_a_checkpoint_brings_it_back(tmp_path) -> None:
    """Oracle: the store before, through the files of a checkpoint; the two are independent."""
    store, again = filled(), RationaleStore(4)
    save_state(tmp_path / "state", {"memory": store}, {})
    load_state(tmp_path / "state", {"memory": again})
    assert [again[i] for i in range(4)] == [store[i] for i in range(4)]
    np.testing.assert_array_equal(again.since, store.since)
    again.put(1, WRONG, 2)
    assert store[1].text == "" and store.since[1] == -1


def test_ages() -> None:
    """Oracle: by hand: right ones put in at 3 and 1, seen from 7."""
    np.testing.assert_array_equal(filled().ages(7), [4, 6])


def test_the_data_set(tmp_path) -> None:
    """Oracle: one line of JSON a question, whatever line breaks a text holds; reading gives the same."""
    found = Rationales.of(["q0", "q1", "q2", "q3"], filled(), 7)
    found.save(tmp_path)
    lines = (tmp_path / "rationales.jsonl").read_text().split("\n")
    assert json.loads(lines[2]) == {"prompt": "q2", "solution": "1+1=2", "right": True, "age": 4}
    assert len(lines) == 5 and Rationales.load(tmp_path) == found
    older = Rationales.of(["q0", "q1", "q2", "q3"], filled(), 8)
    assert Rationales.load(tmp_path).hash == found.hash != older.hash
