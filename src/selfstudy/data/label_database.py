"""The labels of a run as an SQLite file in its directory: queries, their items, and what people answered.

A run writes queries and takes the answers out; the labelling page writes answers in between, by
`selfstudy.data.label_answers`. What is committed is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from selfstudy.core.errors import MachineError
from selfstudy.data.oracles import Query

FILE = "labels.sqlite"
GUESSES = 10  # the most probable classes of an item that are kept
BUSY = 30.0  # seconds to wait for another process that is writing

# `events` is the history. `answers` holds what counts now: one answer an annotator and item. `items.answered`
# counts them, `items.done` says whether that is enough, and `queries.done` counts those items: all three save
# counting at every request.
SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS queries (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, classes TEXT NOT NULL, allow_new INTEGER NOT NULL,
    items INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, taken INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY, query INTEGER NOT NULL REFERENCES queries, place INTEGER NOT NULL,
    guess TEXT NOT NULL, confirm TEXT, answered INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (query, place)
);
CREATE INDEX IF NOT EXISTS open_items ON items (query, id) WHERE NOT done;
CREATE INDEX IF NOT EXISTS places ON items (place);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, request TEXT NOT NULL UNIQUE, annotator TEXT NOT NULL,
    item INTEGER NOT NULL REFERENCES items, kind TEXT NOT NULL, answer TEXT NOT NULL, time REAL NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS by_annotator ON events (annotator, id);
CREATE INDEX IF NOT EXISTS by_item ON events (item, annotator);
CREATE TABLE IF NOT EXISTS answers (
    item INTEGER NOT NULL REFERENCES items, annotator TEXT NOT NULL, answer TEXT NOT NULL,
    event INTEGER NOT NULL REFERENCES events, PRIMARY KEY (item, annotator)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answered_by ON answers (annotator);
CREATE TABLE IF NOT EXISTS brought (
    place INTEGER NOT NULL, annotator TEXT NOT NULL, label TEXT NOT NULL, PRIMARY KEY (place, annotator)
) WITHOUT ROWID;
"""


class LabelDatabase:
    """The file of labels in a run's directory, made when it is missing.

    Args:
        directory: of the run.

    Raises:
        MachineError: it cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / FILE
        try:
            # Made by hand, so that only its owner may read it: it holds the token of the page. One that is
            # there is left alone: closing it would let go of the locks that this process's other connections
            # hold, and another process would then remove the log from under them.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            self._database = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY)
            # FULL: what has been committed outlives a power cut, not only the end of the process.
            self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {SCHEMA}")
        except (OSError, sqlite3.Error) as error:
            raise MachineError(
                f"The labels in {self.path} cannot be opened ({error}). Restore the file, or move it away to "
                "label anew."
            ) from None
        self._database.row_factory = sqlite3.Row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Change the file within this context: all of it at its end, nothing where it raises."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Within a change: undo what is done in this context, and only that, where it raises."""
        self._database.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK TO part")
            raise
        finally:
            self._database.execute("RELEASE part")

    def run(self, text: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement."""
        return self._database.execute(text, values)

    def named(self, text: str, values: dict[str, Any]) -> list[sqlite3.Row]:
        """Return all rows of a question whose values are named."""
        return self._database.execute(text, values).fetchall()

    def row(self, text: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a question, if there is one."""
        return self.run(text, *values).fetchone()

    def count(self, text: str, *values: Any) -> int:
        """Return the number that a question is answered by."""
        return int(self.run(text, *values).fetchone()[0])

    # Settings.

    def setting(self, name: str, default: str = "") -> str:
        """Return a setting."""
        found = self.row("SELECT value FROM settings WHERE name = ?", name)
        return default if found is None else str(found["value"])

    def set(self, name: str, value: str) -> None:
        """Keep a setting."""
        self.run("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    @property
    def annotators(self) -> int:
        """How many people are to answer each item."""
        return int(self.setting("annotators", "1"))

    def ask_of(self, annotators: int) -> None:
        """Set how many people are to answer each item of the queries that are not taken."""
        self.set("annotators", str(annotators))
        for row in self.run("SELECT id FROM queries WHERE NOT taken").fetchall():
            self.run("UPDATE items SET done = (answered >= ?) WHERE query = ?", annotators, row["id"])
            self.run(
                "UPDATE queries SET done = (SELECT COUNT(*) FROM items WHERE query = queries.id AND done) "
                "WHERE id = ?",
                row["id"],
            )

    # Queries.

    def pose(self, query: Query) -> int:
        """Write a query, unless it is there; return its number.

        Raises:
            MachineError: it is there with other items.
        """
        places = [int(place) for place in query.places]
        found = self.row("SELECT id FROM queries WHERE name = ?", query.name)
        if found is not None:
            number = int(found["id"])
            if places != [row["place"] for row in self._items(number)]:
                raise MachineError(
                    f"The query {query.name!r} in {self.path} is about other items than the run asks for. "
                    "Restore the directory as it was, or move that file away to label anew."
                )
            return number
        number = int(
            self.run(
                "INSERT INTO queries (name, classes, allow_new, items) VALUES (?, ?, ?, ?)",
                query.name,
                json.dumps(query.classes),
                query.allow_new,
                len(places),
            ).lastrowid
            or 0
        )
        confirm = [query.classes[code] for code in query.confirm] or [None] * len(places)
        for at, place in enumerate(places):
            guess = json.dumps(_most_probable(query.guesses[at] if len(query.guesses) else ()))
            self.run(
                "INSERT INTO items (query, place, guess, confirm) VALUES (?, ?, ?, ?)",
                number,
                place,
                guess,
                confirm[at],
            )
        return number

    def take(self, number: int) -> list[str] | None:
        """Return the decisions of a query in the order of its items, and close it; None: not complete."""
        if self.count("SELECT items - done FROM queries WHERE id = ?", number):
            return None
        self.run("UPDATE queries SET taken = 1 WHERE id = ?", number)
        said: dict[int, list[str]] = {row["id"]: [] for row in self._items(number)}
        for row in self.run(
            "SELECT item, answer FROM answers JOIN items ON items.id = item WHERE query = ? ORDER BY event",
            number,
        ):
            said[row["item"]].append(row["answer"])
        return [decision(answers) for answers in said.values()]

    def _items(self, number: int) -> list[sqlite3.Row]:
        return self.run("SELECT id, place FROM items WHERE query = ? ORDER BY id", number).fetchall()


def decision(answers: Sequence[str]) -> str:
    """Return the most frequent answer; of several the one that came first.

    >>> decision(["ham", "spam", "spam", "ham", "eggs"])
    'ham'
    """
    return max(answers, key=lambda one: (answers.count(one), -answers.index(one)))


def _most_probable(chances: Sequence[float]) -> list[tuple[int, float]]:
    """Return (class, probability) of the most probable classes, the first of them first."""
    order = np.argsort(-np.asarray(chances), kind="stable")[:GUESSES]
    return [(int(code), round(float(chances[code]), 6)) for code in order]
