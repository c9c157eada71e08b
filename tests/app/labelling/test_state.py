"""What is said beside the item: the learning curve and the agreement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from selfstudy.app.labelling.state import HEIGHT, STALE, WIDTH, People, learning_curve
from selfstudy.data import label_answers
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import Query


def test_the_curve_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Oracle: points by hand; lines without them and a line that is half written are passed over."""
    file = tmp_path / "metrics.jsonl"
    assert learning_curve(file) == []
    lines = [
        {"labels": 10, "validation_accuracy": 0.5},
        {"loss": 1.0},
        {"labels": 30, "validation_accuracy": 0.9},
        {"labels": 20, "validation_accuracy": None},
        {"labels": 30, "validation_accuracy": 0.7},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"labels": 40, "validation_acc')
    assert learning_curve(file) == [(10, 0.5, 0, HEIGHT), (30, 0.7, WIDTH, 0)]


def test_the_agreement_is_counted_again_when_it_is_stale(tmp_path: Path) -> None:
    """Oracle: shares by hand; a clock of the test's own."""
    now = [0.0]
    with LabelDatabase(tmp_path) as store:
        people = People(store, lambda: now[0])
        with store.change():
            store.pose(Query(name="q", places=np.arange(4), classes=("a", "b")))
            store.ask_of(2)
            for who, words in (("Ann", "aabb"), ("Bob", "aab")):
                for item, word in enumerate(words, 1):
                    label_answers.answer(store, f"{who}{item}", who, item, word)
        found = people.agreement()
        assert found is not None and (found.share, found.items) == (1, 3)
        with store.change():
            label_answers.answer(store, "last", "Bob", 4, "a")
        assert people.agreement() is found
        now[0] = STALE + 1
        again = people.agreement()
        assert again is not None and (again.share, again.items) == (0.75, 4)
