"""Labels from files: Label Studio's JSON or CSV, for items by what they are called or by their text."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from selfstudy.core.errors import DataError
from selfstudy.data.items import Texts
from selfstudy.data.label_answers import NO, YES, Asked, answer, answer_of, bring, item, open_query
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import NEW

NOBODY = "import"  # the annotator of labels that name none


class Brought(NamedTuple):
    """One label of a file: the class of an item, or that it is not of that class; no class is "not sure"."""

    where: str
    item: str
    text: str
    label: str
    refused: bool
    annotator: str


@dataclass
class Taken:
    """What became of the labels of a file.

    Attributes:
        answers: labels that answer the open query.
        kept: labels of items that are not asked for yet.
        same: labels that were there already.
        merged: how many labels of another spelling were read as a class: (spelling, class) -> number.
        conflicts: labels that were not taken, and why.
    """

    answers: int = 0
    kept: int = 0
    same: int = 0
    merged: Counter[tuple[str, str]] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)


def read_labels(path: Path) -> list[Brought]:
    """Return the labels of a .json or .csv file.

    Raises:
        DataError: it cannot be read, or is not of that form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = list(_from_json(json.loads(text)) if path.suffix.lower() == ".json" else _from_csv(text))
    except (OSError, ValueError, TypeError, LookupError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as labels ({type(error).__name__}: {error}). Give Label Studio's JSON, "
            "or CSV with the columns item or text, and label."
        ) from None
    if not found:
        raise DataError(f"{path} holds no label: was it written before anybody had answered?")
    return found


def bring_labels(store: LabelDatabase, task: Any, found: Sequence[Brought]) -> Taken:
    """Answer the open query with labels, and keep those of other items until they are asked for.

    What has been answered stays; a label that says otherwise is a conflict.
    """
    taken = Taken()
    by_id = {name: place for place, name in enumerate(task.ids)}
    by_text: dict[str, list[int]] = {}
    for place, text in enumerate(task.pool.texts if isinstance(task.pool, Texts) else ()):
        by_text.setdefault(_one_line(text), []).append(place)
    for one in found:
        places = [by_id[one.item]] if one.item in by_id else by_text.get(_one_line(one.text), [])
        for place in places:
            wrong = _bring_one(store, task, one, place, taken)
            if wrong:
                taken.conflicts.append(f"{one.where}: {wrong}")
        if not places:
            taken.conflicts.append(f"{one.where}: there is no such item")
    return taken


def _bring_one(store: LabelDatabase, task: Any, one: Brought, place: int, taken: Taken) -> str:
    """Take one label of one item; return what is wrong with it, or nothing."""
    row = store.row("SELECT id, query FROM items WHERE place = ? ORDER BY id DESC LIMIT 1", place)
    if row is None:
        return _keep(store, task, one, place, taken)
    there = store.row("SELECT answer FROM answers WHERE item = ? AND annotator = ?", row["id"], one.annotator)
    asked = open_query(store)
    if asked is None or row["query"] != asked.id:
        if there is not None and there["answer"].removeprefix(NEW) in (one.label, NO if one.refused else YES):
            taken.same += 1
            return ""
        return "its query has gone into training"
    said = _answer(asked, item(store, row["id"]).confirm, one)
    if said is None:
        return f"{one.label!r} {'refused ' * one.refused}does not answer what is asked"
    if there is not None and there["answer"] != said:
        return f"{one.annotator} has answered {there['answer'].removeprefix(NEW)!r}, this says {one.label!r}"
    if there is not None:
        taken.same += 1
        return ""
    name = said.removeprefix(NEW)
    if said not in (YES, NO) and name != one.label:
        taken.merged[one.label, name] += 1
    events = store.count("SELECT COUNT(*) FROM events WHERE item = ?", row["id"])
    answer(store, f"import {row['id']} {events} {one.annotator}", one.annotator, row["id"], said)
    taken.answers += 1
    return ""


def _answer(asked: Asked, confirm: str | None, one: Brought) -> str | None:
    if not one.refused:
        return answer_of(asked, confirm, one.label)
    return NO if confirm == one.label else None


def _keep(store: LabelDatabase, task: Any, one: Brought, place: int, taken: Taken) -> str:
    """Keep the label of an item that is not asked for yet."""
    names = {_plain(name): name for name in task.classes}
    if one.refused or not one.label:
        return "it is not asked for, and no class is named"
    if _plain(one.label) not in names:
        return f"{one.label!r} is none of the classes: {', '.join(task.classes[:10])}"
    name = one.label if one.label in task.classes else names[_plain(one.label)]
    there = store.row("SELECT label FROM brought WHERE place = ? AND annotator = ?", place, one.annotator)
    if there is not None and there["label"] != name:
        return f"{one.annotator} has {there['label']!r} for it already, this says {one.label!r}"
    if there is not None:
        taken.same += 1
        return ""
    if name != one.label:
        taken.merged[one.label, name] += 1
    bring(store, place, one.annotator, name)
    taken.kept += 1
    return ""


def _from_csv(text: str) -> Iterator[Brought]:
    reader = csv.DictReader(io.StringIO(text))
    columns = reader.fieldnames or ()
    if "label" not in columns or not {"item", "text"} & set(columns):
        raise ValueError(f"its columns are {', '.join(columns)}")
    for number, row in enumerate(reader, 2):
        cells = {name: cell or "" for name, cell in row.items() if isinstance(name, str)}
        if cells["label"] or cells.get("annotator"):
            yield _brought(
                f"row {number}",
                cells.get("item", ""),
                cells.get("text", ""),
                cells.get("confirm", ""),
                cells["label"],
                cells.get("annotator", ""),
            )


def _from_json(tasks: Any) -> Iterator[Brought]:
    for number, task in enumerate(tasks, 1):
        data = task["data"]
        for annotation in task.get("annotations", ()):
            if annotation.get("was_cancelled"):
                continue
            results = [one for one in annotation["result"] if one.get("type") == "choices"]
            labels = [label for one in results for label in one["value"]["choices"]]
            if len(labels) > 1:
                raise ValueError(f"task {number} has several labels at once: {', '.join(labels)}")
            confirm = str(data.get("confirm", ""))
            yield _brought(
                f"task {number}",
                str(data.get("item", "")),
                str(data.get("text", "")),
                confirm,
                str(labels[0]) if labels else "",
                _annotator(annotation),
            )


def _annotator(annotation: dict[str, Any]) -> str:
    who = annotation.get("annotator") or annotation.get("completed_by") or ""
    return str(who.get("email") or who.get("id") or "") if isinstance(who, dict) else str(who)


def _brought(where: str, name: str, text: str, confirm: str, label: str, who: str) -> Brought:
    refused = bool(confirm) and label == NO
    return Brought(where, name, text, confirm if confirm and label else label, refused, who or NOBODY)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(name: str) -> str:
    return _one_line(name).casefold()
