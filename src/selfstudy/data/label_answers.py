"""What a person does at the labelling page: the next item, an answer, a skip, an undo; each is an event.

A request has an identity that its sender made: sent again, it changes nothing.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Row

from selfstudy.core.errors import UsageError
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import NEW

ANSWER, SKIP, UNDO = "answer", "skip", "undo"
YES, NO, NOT_SURE = "yes", "no", ""

_OPEN = """
    SELECT id FROM items WHERE query = :query AND NOT done
    AND NOT EXISTS (SELECT 1 FROM answers WHERE item = items.id AND annotator = :who)
"""
_SKIPS = "FROM events WHERE item = items.id AND annotator = :who AND kind = 'skip' AND NOT undone"


@dataclass(frozen=True)
class Asked:
    """A query that is not taken yet.

    Attributes:
        id: its number.
        name: its name.
        classes: those of the query, then those that answers to it have introduced.
        known: how many classes are of the query.
        allow_new: whether an answer may introduce one.
        items: how many there are.
        done: how many of them have all their answers.
    """

    id: int
    name: str
    classes: tuple[str, ...]
    known: int
    allow_new: bool
    items: int
    done: int

    def answer(self, code: int) -> str:
        """Return the answer that names a class by its number."""
        return self.classes[code] if code < self.known else NEW + self.classes[code]

    def find(self, name: str) -> int | None:
        """Return the number of the class of this name, blanks and capitals aside."""
        plain = _plain(name)
        exact = [code for code, one in enumerate(self.classes) if one == name]
        near = [code for code, one in enumerate(self.classes) if _plain(one) == plain]
        return (exact or near or [None])[0]  # type: ignore[list-item]


@dataclass(frozen=True)
class Item:
    """One item of a query.

    Attributes:
        id: its number.
        place: within the pool.
        guesses: (class, probability), the most probable first.
        confirm: the class to be confirmed or refused; None where the class is asked for.
    """

    id: int
    place: int
    guesses: tuple[tuple[int, float], ...]
    confirm: str | None


def open_query(store: LabelDatabase) -> Asked | None:
    """Return the query that is not taken yet; there is one at most."""
    row = store.row("SELECT * FROM queries WHERE NOT taken ORDER BY id DESC LIMIT 1")
    if row is None:
        return None
    classes, fresh = _classes(row["classes"]), []
    if row["allow_new"]:
        found = store.run(
            "SELECT answer, MIN(event) FROM answers JOIN items ON items.id = item "
            "WHERE query = ? AND substr(answer, 1, ?) = ? GROUP BY answer ORDER BY 2",
            row["id"],
            len(NEW),
            NEW,
        )
        fresh = [one["answer"].removeprefix(NEW) for one in found]
    return Asked(
        id=row["id"],
        name=row["name"],
        classes=(*classes, *fresh),
        known=len(classes),
        allow_new=bool(row["allow_new"]),
        items=row["items"],
        done=row["done"],
    )


def next_item(store: LabelDatabase, query: int, who: str, held: Iterable[int] = ()) -> Item | None:
    """Return what a person is to label next: nothing answered, what they skipped last.

    Args:
        store: the labels.
        query: its number.
        who: the person.
        held: items that others are looking at, given out only where there is nothing else.
    """
    others = set(held)
    named = {"query": query, "who": who, "limit": len(others) + 1}
    rows = store.named(f"{_OPEN} AND NOT EXISTS (SELECT 1 {_SKIPS}) ORDER BY id LIMIT :limit", named)
    skipped = f"{_OPEN} AND EXISTS (SELECT 1 {_SKIPS}) ORDER BY (SELECT MAX(id) {_SKIPS}) LIMIT :limit"
    free = [row["id"] for row in rows if row["id"] not in others]
    if not free:
        rows += store.named(skipped, named)
        free = [row["id"] for row in rows if row["id"] not in others] or [row["id"] for row in rows]
    return item(store, free[0]) if free else None


def item(store: LabelDatabase, number: int) -> Item:
    """Return an item by its number.

    Raises:
        UsageError: there is no such item.
    """
    row = store.row("SELECT * FROM items WHERE id = ?", number)
    if row is None:
        raise UsageError("There is no such item. Load the page again.")
    guesses = tuple((code, chance) for code, chance in json.loads(row["guess"]))
    return Item(row["id"], row["place"], guesses, row["confirm"])


def is_open(store: LabelDatabase, number: int, who: str) -> bool:
    """Tell whether a person may still be shown an item."""
    row = store.row("SELECT done, query FROM items WHERE id = ?", number)
    answered = store.row("SELECT 1 FROM answers WHERE item = ? AND annotator = ?", number, who)
    return row is not None and not row["done"] and answered is None


def answer(store: LabelDatabase, request: str, who: str, number: int, said: str) -> bool:
    """Write a person's answer to an item, in place of an earlier one; False: this request was done before.

    Raises:
        UsageError: the query is taken, or this is no answer to it.
    """
    if seen(store, request):
        return False
    asked, one = question(store, number)
    if one.confirm is not None:
        fits = said in (YES, NO, NOT_SURE)
    else:
        fresh = asked.allow_new and said.startswith(NEW) and bool(said.removeprefix(NEW).strip())
        fits = fresh or said == NOT_SURE or said in asked.classes[: asked.known]
    if not fits:
        raise UsageError(f"{said!r} is no answer to {asked.name!r}.")
    return _did(store, request, who, number, ANSWER, said)


def skip(store: LabelDatabase, request: str, who: str, number: int) -> bool:
    """Put an item behind all others of this person; False: this request was done before.

    Raises:
        UsageError: the query is taken.
    """
    if seen(store, request):
        return False
    question(store, number)
    return _did(store, request, who, number, SKIP, "")


def undo(store: LabelDatabase, request: str, who: str) -> int | None:
    """Take back what a person did last in the open query; return the item, None where there is nothing.

    What was answered before that counts again. A request that was done before returns its item again.
    """
    before = store.row("SELECT item FROM events WHERE request = ?", request)
    if before is not None:
        return int(before["item"])
    last = store.row(
        "SELECT events.id, item FROM events JOIN items ON items.id = item JOIN queries ON queries.id = query "
        "WHERE annotator = ? AND kind != 'undo' AND NOT undone AND NOT taken ORDER BY events.id DESC LIMIT 1",
        who,
    )
    if last is None:
        return None
    store.run("UPDATE events SET undone = 1 WHERE id = ?", last["id"])
    _did(store, request, who, last["item"], UNDO, "")
    return int(last["item"])


def bring(store: LabelDatabase, place: int, who: str, label: str) -> None:
    """Keep a label that came from elsewhere until its item is asked for."""
    store.run("INSERT OR REPLACE INTO brought VALUES (?, ?, ?)", place, who, label)


def answer_with_brought(store: LabelDatabase, query: int) -> None:
    """Answer the items of an open query with the labels that were brought for them, where nobody has."""
    asked = open_query(store)
    if asked is None or asked.id != query:
        return
    rows = store.run(
        "SELECT items.id, confirm, annotator, label FROM items JOIN brought ON brought.place = items.place "
        "WHERE query = ? AND NOT EXISTS "
        "(SELECT 1 FROM events WHERE item = items.id AND events.annotator = brought.annotator)",
        query,
    ).fetchall()
    for row in rows:
        said = answer_of(asked, row["confirm"], row["label"])
        if said is not None:
            answer(store, f"brought {row['id']} {row['annotator']}", row["annotator"], row["id"], said)


def answer_of(asked: Asked, confirm: str | None, label: str) -> str | None:
    """Return the answer that a label is to an item; None: it is none. An empty label is "not sure"."""
    if not label:
        return NOT_SURE
    if confirm is not None:
        return YES if _plain(label) == _plain(confirm) else NO
    code = asked.find(label)
    if code is not None:
        return asked.answer(code)
    return NEW + label if asked.allow_new else None


@functools.lru_cache(maxsize=4)
def _classes(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def question(store: LabelDatabase, number: int) -> tuple[Asked, Item]:
    """Return the open query and an item of it.

    Raises:
        UsageError: there is no such item, or its query is taken.
    """
    one, asked = item(store, number), open_query(store)
    query: Row | None = store.row("SELECT query FROM items WHERE id = ?", number)
    if asked is None or query is None or query["query"] != asked.id:
        raise UsageError("The answers to this query have gone into training and can no longer be changed.")
    return asked, one


def seen(store: LabelDatabase, request: str) -> bool:
    """Tell whether a request was done before."""
    return store.row("SELECT 1 FROM events WHERE request = ?", request) is not None


def _did(store: LabelDatabase, request: str, who: str, number: int, kind: str, said: str) -> bool:
    store.run(
        "INSERT INTO events (request, annotator, item, kind, answer, time) VALUES (?, ?, ?, ?, ?, ?)",
        request,
        who,
        number,
        kind,
        said,
        time.time(),
    )
    if kind != SKIP:
        _count_again(store, number, who)
    return True


def _count_again(store: LabelDatabase, number: int, who: str) -> None:
    """Make a person's last answer that is not undone the one that counts."""
    last = store.row(
        "SELECT id, answer FROM events WHERE item = ? AND annotator = ? AND kind = 'answer' AND NOT undone "
        "ORDER BY id DESC LIMIT 1",
        number,
        who,
    )
    if last is None:
        store.run("DELETE FROM answers WHERE item = ? AND annotator = ?", number, who)
    else:
        store.run(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", number, who, last["answer"], last["id"]
        )
    answered = store.count("SELECT COUNT(*) FROM answers WHERE item = ?", number)
    before = store.row("SELECT query, done FROM items WHERE id = ?", number)
    done = answered >= store.annotators
    store.run("UPDATE items SET answered = ?, done = ? WHERE id = ?", answered, done, number)
    if before is not None:
        store.run("UPDATE queries SET done = done + ? WHERE id = ?", done - before["done"], before["query"])
