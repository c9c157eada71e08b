"""Labels as files: Label Studio's JSON and CSV, out and in again."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from selfstudy.app.labelling.bringing import Taken, bring_labels, read_labels
from selfstudy.app.labelling.exchange import to_csv, to_label_studio
from selfstudy.core.errors import DataError
from selfstudy.data import label_answers
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts
from selfstudy.data.label_answers import answer_with_brought
from selfstudy.data.label_database import LabelDatabase
from selfstudy.data.oracles import NEW, Query

TEXTS = ("plain", 'with "quotes", commas', "two\nlines", "<b>bold</b> ünï", "fifth", "fifth  ")
UNKNOWN = np.full(len(TEXTS), -1)
TASK = SimpleNamespace(
    pool=Texts("t", TEXTS, UNKNOWN), ids=tuple(f"row{n}" for n in range(6)), classes=("ham", "spam")
)
GUESSES = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.5, 0.5]])
CLASSES = Query(
    name="q", places=np.array([2, 0, 1, 3]), classes=("ham", "spam"), guesses=GUESSES, allow_new=True
)
CONFIRM = Query(name="c", places=np.array([4, 5]), classes=("ham", "spam"), confirm=np.array([1, 0]))
WRITERS = {"json": to_label_studio, "csv": to_csv}


def posed(directory: Path, *queries: Query) -> None:
    directory.mkdir(exist_ok=True)
    with LabelDatabase(directory) as store, store.change():
        for query in queries:
            store.pose(query)


def answered(directory: Path, *answers: tuple[str, int, str]) -> None:
    with LabelDatabase(directory) as store, store.change():
        for who, item, word in answers:
            label_answers.answer(store, f"{who}{item}{word}", who, item, word)


def brought(directory: Path, path: Path, task: Any = TASK) -> Taken:
    with LabelDatabase(directory) as store, store.change():
        return bring_labels(store, task, read_labels(path))


def counted(directory: Path) -> dict[tuple[int, str], str]:
    with LabelDatabase(directory) as store:
        rows = store.run("SELECT place, annotator, answer FROM answers JOIN items ON items.id = item")
        return {(row["place"], row["annotator"]): row["answer"] for row in rows}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("query", [CLASSES, CONFIRM], ids=["classes", "confirm"])
def test_what_is_written_is_read_back(kind: str, query: Query, tmp_path: Path) -> None:
    """Oracle: the answers in the file that was written, read into another one; twice changes nothing."""
    posed(tmp_path / "one", query)
    words = ["yes", "no"] if len(query.confirm) else ["spam", "", NEW + "eggs"]
    said = [(who, item, word) for who in ("Ann", "Bob") for item, word in enumerate(words, 1)]
    answered(tmp_path / "one", *said)
    file = tmp_path / f"labels.{kind}"
    with LabelDatabase(tmp_path / "one") as store:
        file.write_text(WRITERS[kind](store, TASK))
    posed(tmp_path / "two", query)
    assert brought(tmp_path / "two", file).answers == len(said)
    assert counted(tmp_path / "two") == counted(tmp_path / "one") and len(counted(tmp_path / "two")) == len(
        said
    )
    again = brought(tmp_path / "two", file)
    assert (again.answers, again.same, again.conflicts) == (0, len(said), [])


def test_label_studio_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Oracle: Label Studio's form of tasks, annotations and predictions, by hand."""
    posed(tmp_path, CLASSES)
    answered(tmp_path, ("Ann", 1, "spam"), ("Ann", 2, ""))
    with LabelDatabase(tmp_path) as store:
        tasks = json.loads(to_label_studio(store, TASK))
    first, second, third, _ = tasks
    assert first["data"] == {"item": "row2", "query": "q", "text": "two\nlines"}
    (annotation,) = first["annotations"]
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["spam"]}}
    assert annotation["result"] == [choice] and annotation["was_cancelled"] is False
    (guess,) = first["predictions"]
    assert guess["score"] == 0.9 and guess["result"][0]["value"] == {"choices": ["ham"]}
    assert second["annotations"][0]["result"] == [] and third["annotations"] == []


def test_images_go_as_png(tmp_path: Path) -> None:
    """Oracle: the pixels, decoded again."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4), dtype=np.uint8)
    task = SimpleNamespace(pool=ImageSet("i", pixels, np.full(2, -1)), ids=("a", "b"), classes=("x", "y"))
    posed(tmp_path, Query(name="q", places=np.array([1]), classes=("x", "y")))
    with LabelDatabase(tmp_path) as store:
        (made,) = json.loads(to_label_studio(store, task))
    head, _, body = made["data"]["image"].partition(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    assert np.array_equal(shown, pixels[1].transpose(1, 2, 0))


def test_a_column_can_be_filled_by_hand(tmp_path: Path) -> None:
    """Oracle: labels by text and by item; spellings are read as the class; what fits nothing is named."""
    posed(tmp_path, CLASSES)
    answered(tmp_path, ("Ann", 2, "ham"))
    file = tmp_path / "labels.csv"
    rows = [
        ("", "two\nlines", " Spam", ""),
        ("row1", "", "spam", "Bob"),
        ("row0", "", "spam", "Ann"),
        ("", "unheard of", "ham", ""),
        ("row3", "", "", ""),
        ("", "fifth", "HAM", ""),
        ("row4", "", "spam", ""),
        ("row5", "", "bacon", "Bob"),
    ]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("item", "text", "label", "annotator"), *rows])
    taken = brought(tmp_path, file)
    assert counted(tmp_path) == {(2, "import"): "spam", (1, "Bob"): "spam", (0, "Ann"): "ham"}
    assert taken.answers == 2 and taken.kept == 2, "equal texts are two items"
    assert taken.merged == {(" Spam", "spam"): 1, ("HAM", "ham"): 2}
    assert [one.partition(": ") for one in taken.conflicts] == [
        ("row 4", ": ", "Ann has answered 'ham', this says 'spam'"),
        ("row 5", ": ", "there is no such item"),
        ("row 8", ": ", "import has 'ham' for it already, this says 'spam'"),
        ("row 9", ": ", "'bacon' is none of the classes: ham, spam"),
    ]


def test_labels_wait_for_their_items(tmp_path: Path) -> None:
    """Oracle: the answers of a query that is posed later; a taken query takes no more."""
    file = tmp_path / "labels.csv"
    file.write_text("item,label,annotator\nrow4,spam,Ann\nrow5,spam,Ann\nrow0,ham,Ann\n")
    with LabelDatabase(tmp_path):
        pass
    assert brought(tmp_path, file).kept == 3
    with LabelDatabase(tmp_path) as store, store.change():
        answer_with_brought(store, store.pose(CONFIRM))
    assert counted(tmp_path) == {(4, "Ann"): "yes", (5, "Ann"): "no"}
    with LabelDatabase(tmp_path) as store, store.change():
        assert store.take(1) == ["yes", "no"]
    file.write_text("item,label,annotator\nrow4,ham,Bob\n")
    assert brought(tmp_path, file).conflicts == ["row 2: its query has gone into training"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b'{"data": 1}'),
        ("a.json", b'[{"data": {}, "annotations": [{}]}]'),
        ("a.json", b"[]"),
        ("a.csv", b"text,stars\nx,1\n"),
        ("a.csv", b"item,label\nrow1,\n"),
        ("a.csv", b"item,label\n\xff\xfe,x\n"),
        ("b.csv", None),
    ],
)
def test_other_files_are_refused(name: str, content: bytes | None, tmp_path: Path) -> None:
    """Oracle: one error that names the file."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_labels(tmp_path / name)
