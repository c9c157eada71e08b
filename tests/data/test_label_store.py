"""Queries that wait in a run's directory for people, and what is taken out of them."""

from __future__ import annotations

import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import MachineError, Waiting
from selfstudy.data import label_answers
from selfstudy.data.label_answers import open_query
from selfstudy.data.label_database import GUESSES, LabelDatabase, decision
from selfstudy.data.label_store import Person
from selfstudy.data.oracles import NEW, Query

QUERY = Query(name="round-0", places=np.array([7, 3, 9]), classes=("ham", "spam"))


def said(directory: Path, *answers: tuple[str, int, str]) -> None:
    """Answer: (annotator, item, answer)."""
    with LabelDatabase(directory) as store, store.change():
        for who, item, answer in answers:
            request = f"{who} {item} {answer}"
            assert label_answers.answer(store, request, who, item, answer)


def test_a_query_waits_until_each_item_has_its_answer(tmp_path: Path) -> None:
    """Oracle: the answers by hand, in the order of the items; the message counts what is missing."""
    blank = tmp_path / "a run"
    blank.mkdir()
    with pytest.raises(Waiting, match=r"^3 labels are asked for: selfstudy label '/") as first:
        Person().answers(QUERY, blank)
    assert str(first.value).endswith("a run'"), "a path with a blank is quoted"
    with pytest.raises(Waiting):
        Person().answers(QUERY, tmp_path)
    said(tmp_path, ("Ann", 1, "spam"), ("Bob", 2, ""))
    with pytest.raises(Waiting, match=r"^1 of 3 labels are still asked for"):
        Person().answers(QUERY, tmp_path)
    said(tmp_path, ("Ann", 3, "ham"))
    assert Person().answers(QUERY, tmp_path) == ["spam", "", "ham"]
    assert Person().answers(QUERY, tmp_path) == ["spam", "", "ham"], "a run that is resumed asks again"


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    """Oracle: the mode of the file, which holds the token of the page."""
    with LabelDatabase(tmp_path) as store:
        assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_each_item_needs_as_many_people_as_asked(tmp_path: Path) -> None:
    """Oracle: majorities by hand; the tie goes to what was said first."""
    with LabelDatabase(tmp_path) as store, store.change():
        store.pose(QUERY)
        store.ask_of(2)
    said(tmp_path, ("Ann", 1, "spam"), ("Ann", 2, "ham"), ("Ann", 3, ""))
    with pytest.raises(Waiting, match=r"^3 labels"):
        Person().answers(QUERY, tmp_path)
    said(tmp_path, ("Bob", 3, "ham"), ("Bob", 2, "ham"), ("Bob", 1, "ham"), ("Cid", 1, "ham"))
    assert Person().answers(QUERY, tmp_path) == ["ham", "ham", ""]


@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=9))
def test_the_decision_is_the_majority(answers: list[str]) -> None:
    """Oracle: a plain second implementation, which counts and then looks for the first."""
    counts = Counter(answers)
    best = max(counts.values())
    assert decision(answers) == next(one for one in answers if counts[one] == best)


def test_more_people_may_be_asked_of_an_open_query_only(tmp_path: Path) -> None:
    """Oracle: counts by hand before and after."""
    said_all = [("Ann", item, "ham") for item in (1, 2, 3)]
    with LabelDatabase(tmp_path) as store, store.change():
        store.pose(QUERY)
    said(tmp_path, *said_all)
    with LabelDatabase(tmp_path) as store:
        with store.change():
            store.ask_of(2)
        assert open_query(store).done == 0
        with store.change():
            store.ask_of(1)
            assert store.take(1) == ["ham"] * 3
            store.ask_of(5)
            assert store.take(1) == ["ham"] * 3, "a query that was taken stays as it was"


def test_a_query_of_the_same_name_must_be_the_same(tmp_path: Path) -> None:
    """Oracle: an error that names the file, and the query as it was."""
    with LabelDatabase(tmp_path) as store:
        with store.change():
            assert store.pose(QUERY) == store.pose(QUERY) == 1
        other = Query(name="round-0", places=np.array([7, 3, 8]), classes=("ham", "spam"))
        with pytest.raises(MachineError, match=r"labels\.sqlite is about other items"), store.change():
            store.pose(other)
        assert [row["place"] for row in store.run("SELECT place FROM items ORDER BY id")] == [7, 3, 9]


def test_the_most_probable_classes_are_kept(tmp_path: Path) -> None:
    """Oracle: sorting by hand; a hundred classes leave ten."""
    chances = np.random.default_rng(0).permutation(100)[None] / 4950.0
    classes = tuple(map(str, range(100)))
    query = Query(name="q", places=np.array([4]), classes=classes, guesses=chances)
    with LabelDatabase(tmp_path) as store:
        with store.change():
            store.pose(query)
        found = label_answers.item(store, 1).guesses
    order = sorted(range(100), key=lambda code: -chances[0, code])[:GUESSES]
    assert [code for code, _ in found] == order
    assert [chance for _, chance in found] == pytest.approx(chances[0, order], abs=1e-6)


def test_a_confirmation_is_answered_by_yes_or_no(tmp_path: Path) -> None:
    """Oracle: the answers by hand; a class is no answer to it."""
    query = Query(name="q", places=np.array([5, 6]), classes=("a", "b"), confirm=np.array([1, 0]))
    with LabelDatabase(tmp_path) as store, store.change():
        store.pose(query)
        assert [label_answers.item(store, number).confirm for number in (1, 2)] == ["b", "a"]
    said(tmp_path, ("Ann", 1, "yes"), ("Ann", 2, "no"))
    assert Person().answers(query, tmp_path) == ["yes", "no"]


def test_new_classes_join_the_others(tmp_path: Path) -> None:
    """Oracle: the order in which they were named; an undone one is gone."""
    query = Query(name="q", places=np.arange(3), classes=("a",), allow_new=True)
    with LabelDatabase(tmp_path) as store, store.change():
        store.pose(query)
    said(tmp_path, ("Ann", 1, NEW + "z"), ("Ann", 2, NEW + "b"), ("Ann", 3, NEW + "z"))
    with LabelDatabase(tmp_path) as store:
        asked = open_query(store)
        assert asked.classes == ("a", "z", "b") and asked.answer(1) == NEW + "z"
        assert asked.find(" Z ") == 1 and asked.find("zz") is None
        with store.change():
            label_answers.undo(store, "undo", "Ann")
            label_answers.undo(store, "undo 2", "Ann")
        assert open_query(store).classes == ("a", "z")
    said(tmp_path, ("Bob", 2, "a"), ("Bob", 3, NEW + "b"))
    assert Person().answers(query, tmp_path) == [NEW + "z", "a", NEW + "b"]


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 40])
def test_a_damaged_file_is_an_error_that_says_what_to_do(content: bytes, tmp_path: Path) -> None:
    """Oracle: the class of the error, the path in it, and the file as it was."""
    (tmp_path / "labels.sqlite").write_bytes(content)
    with pytest.raises(MachineError, match=r"labels\.sqlite cannot be opened.*move it away"):
        Person().answers(QUERY, tmp_path)
    assert (tmp_path / "labels.sqlite").read_bytes() == content


STEPS = st.tuples(
    st.sampled_from(["answer", "skip", "undo", "again"]),
    st.sampled_from(["Ann", "Bob"]),
    st.integers(1, 3),
    st.sampled_from(["ham", "spam", ""]),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=14), wanted=st.integers(1, 2))
def test_any_order_of_answers_skips_and_undos(
    steps: list[tuple[str, str, int, str]], wanted: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Oracle: a plain list of what each person did, from which what counts is read off."""
    directory = tmp_path_factory.mktemp("run")
    did: list[tuple[str, str, int, str]] = []
    last: tuple[str, str, str, int, str] | None = None
    with LabelDatabase(directory) as store:
        with store.change():
            store.pose(QUERY)
            store.ask_of(wanted)
        for number, (kind, who, item, word) in enumerate(steps):
            request = f"r{number}"
            if kind == "again" and last is not None:
                request, kind, who, item, word = last
            elif kind == "again":
                continue
            else:
                last = (request, kind, who, item, word)
                if kind == "undo":
                    mine = [at for at, done in enumerate(did) if done[1] == who]
                    if mine:
                        del did[mine[-1]]
                else:
                    did.append((kind, who, item, word))
            with store.change():
                if kind == "answer":
                    label_answers.answer(store, request, who, item, word)
                elif kind == "skip":
                    label_answers.skip(store, request, who, item)
                else:
                    label_answers.undo(store, request, who)
        counts = {(item, who): word for kind, who, item, word in did if kind == "answer"}
        rows = store.run("SELECT item, annotator, answer FROM answers").fetchall()
        assert {(row["item"], row["annotator"]): row["answer"] for row in rows} == counts
        answered = Counter(item for item, _ in counts)
        asked = open_query(store)
        assert asked.done == sum(count >= wanted for count in answered.values())
        for who in ("Ann", "Bob"):
            left = [n for n in (1, 2, 3) if answered[n] < wanted and (n, who) not in counts]
            skipped = [item for kind, name, item, _ in did if kind == "skip" and name == who]
            order = sorted(
                left, key=lambda n: (n in skipped, skipped[::-1].index(n) * -1 if n in skipped else n)
            )
            found = label_answers.next_item(store, asked.id, who)
            assert (found.id if found else None) == (order[0] if order else None)
