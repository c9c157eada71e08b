"""Labels as files: written for Label Studio or as CSV, with what is asked but not answered yet."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from selfstudy.app.labelling.showing import png, show
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import NEW

COLUMNS = ("item", "query", "text", "confirm", "label", "annotator", "time", "guess", "confidence")
LABEL, CONFIRM = "label", "confirm"  # the controls of Label Studio's interface


class Row(NamedTuple):
    """An item that was asked for, with its answers: (annotator, answer, seconds since 1970)."""

    place: int
    query: str
    confirm: str
    guess: str
    confidence: float | None
    answers: list[tuple[str, str, float]]


def rows(store: LabelDatabase) -> Iterator[Row]:
    """Yield every item of every query."""
    answers: dict[int, list[tuple[str, str, float]]] = {}
    for row in store.run(
        "SELECT answers.item, answers.annotator, answers.answer, time FROM answers "
        "JOIN events ON events.id = event ORDER BY event"
    ):
        answers.setdefault(row["item"], []).append((row["annotator"], row["answer"], row["time"]))
    for row in store.run(
        "SELECT items.id, place, guess, confirm, name, classes FROM items "
        "JOIN queries ON queries.id = query ORDER BY items.id"
    ):
        guesses = json.loads(row["guess"])
        code, confidence = guesses[0] if guesses else (None, None)
        yield Row(
            place=row["place"],
            query=row["name"],
            confirm=row["confirm"] or "",
            guess="" if code is None else json.loads(row["classes"])[code],
            confidence=confidence,
            answers=answers.get(row["id"], []),
        )


def to_csv(store: LabelDatabase, task: Any) -> str:
    """Return a row for each answer, and one for each item without any.

    Where an annotator is named and the label is empty they were not sure. Where `confirm` names a class the
    label is "yes" or "no".
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows(store):
        before = [task.ids[row.place], row.query, show(task.pool, row.place).text, row.confirm]
        after = [row.guess, "" if row.confidence is None else f"{row.confidence:.4f}"]
        for who, said, when in row.answers:
            writer.writerow([*before, said.removeprefix(NEW), who, _time(when), *after])
        if not row.answers:
            writer.writerow([*before, "", "", "", *after])
    return file.getvalue()


def to_label_studio(store: LabelDatabase, task: Any) -> str:
    """Return Label Studio's JSON: a task for each item, with annotations, and predictions where guessed.

    The labels are of a `<Choices>` called "label", and "confirm" where only yes or no was asked.
    """
    tasks = []
    for number, row in enumerate(rows(store), 1):
        image = isinstance(task.pool, ImageSet)
        control, to = CONFIRM if row.confirm else LABEL, "image" if image else "text"
        data = {"item": task.ids[row.place], "query": row.query, to: _content(task.pool, row.place)}
        if row.confirm:
            data["confirm"] = row.confirm
        annotations = [
            {
                "annotator": who,
                "created_at": _time(when),
                "was_cancelled": False,
                "result": _choice(control, to, said.removeprefix(NEW)) if said else [],
            }
            for who, said, when in row.answers
        ]
        guess = {"model_version": row.query, "score": row.confidence, "result": _choice(LABEL, to, row.guess)}
        tasks.append(
            {
                "id": number,
                "data": data,
                "annotations": annotations,
                "predictions": [guess] if row.guess and not row.confirm else [],
            }
        )
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _choice(control: str, to: str, label: str) -> list[dict[str, Any]]:
    return [{"from_name": control, "to_name": to, "type": "choices", "value": {"choices": [label]}}]


def _content(pool: Any, place: int) -> str:
    if isinstance(pool, ImageSet):
        return "data:image/png;base64," + base64.b64encode(png(pool, place)).decode()
    return show(pool, place).text


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
