"""A user's texts: few labels, labels spelt in several ways, texts that are hard to read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError, Waiting
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import LONGEST
from selfstudy.tasks.pools import PoolTask

Rows = list[tuple[str, str]]


def rows(count: int = 100, labelled: int = 40) -> Rows:
    """Return texts, the first of which are labelled "good" and "bad" in turn."""
    return [
        (
            f"text {place} is {('good', 'bad')[place % 2]}",
            ("good", "bad")[place % 2] if place < labelled else "",
        )
        for place in range(count)
    ]


def csv_file(path: Path, content: Rows, header: tuple[str, ...] = ("body", "stars")) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *content])
    return f"csv:{path}?text=body&label=stars"


def of(task: PoolTask, text: str) -> int:
    """Return the label that a text has at the start."""
    return int(task.given[list(task.pool.texts).index(text)])


def test_most_labels_are_empty(tmp_path: Path) -> None:
    """Oracle: every text is somewhere once, those without a label all in the pool; row numbers as ids."""
    content = rows()
    task = selfstudy.task(csv_file(tmp_path / "reviews.csv", content))
    assert task.classes == ("bad", "good")
    held = task.held("validation") + task.held("test")
    assert len(task.pool) + held == 100 and len(task.labelled) + held == 40 and 4 <= held <= 25
    assert set(task.pool.labels) == {UNKNOWN} and task.pool.classes == ()
    for place, text in enumerate(task.pool.texts):
        said = dict(content)[text]
        assert task.given[place] == (task.classes.index(said) if said else UNKNOWN)
        assert task.ids[place] == str(int(text.split()[1]) + 1)
    with Run(tmp_path / "run") as run, pytest.raises(Waiting):
        task.metered(run.meter).ask(run, "q", np.array([0]))


def test_more_rows_move_none(tmp_path: Path) -> None:
    """Oracle: what is held out of 100 rows is held out of 150 too, in another order."""
    content = rows(150, 130)
    few = selfstudy.task(csv_file(tmp_path / "few.csv", content[:100]))
    many = selfstudy.task(csv_file(tmp_path / "many.csv", content[::-1]))
    assert set(few.pool.texts) <= set(many.pool.texts)
    assert set(few._held["test"].texts) <= set(many._held["test"].texts)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_other_kinds_of_files(tmp_path: Path, kind: str) -> None:
    """Oracle: the same task as of a CSV file; an absent or null label is none, a number is its text."""
    numbers = [(text, {"good": 1, "bad": 0}.get(label)) for text, label in rows()]
    path = tmp_path / f"reviews.{kind}"
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.table({"body": [text for text, _ in numbers], "stars": [one for _, one in numbers]})
        pyarrow.parquet.write_table(table, path)
    else:
        lines = [{"body": text} | ({} if one is None else {"stars": one}) for text, one in numbers]
        path.write_text("\n".join(map(json.dumps, lines)))
    task = selfstudy.task(f"{kind}:{path}?text=body&label=stars")
    plain = selfstudy.task(csv_file(tmp_path / "reviews.csv", rows()))
    assert task.classes == ("0", "1")  # bad and good, in that order too
    assert task.pool.texts == plain.pool.texts and np.array_equal(task.given, plain.given)


def test_labels_given_at_the_start(tmp_path: Path) -> None:
    """Oracle: as many of each class; the others are behind the oracle and counted."""
    spec = csv_file(tmp_path / "reviews.csv", rows(labelled=100))
    task = selfstudy.task(f"{spec}&labels=6&oracle=labels")
    assert np.bincount(task.given[task.labelled]).tolist() == [3, 3]
    assert not np.array_equal(task.given, selfstudy.task(f"{spec}&labels=6&draw=1").given)
    with Run(tmp_path / "run") as run:
        bound = task.metered(run.meter)
        at = np.flatnonzero(task.given == UNKNOWN)[:4]
        labels, _ = bound.ask(run, "q", at)
        right = ["good" if "good" in task.pool.texts[place] else "bad" for place in at]
        assert [task.classes[code] for code in labels] == right
        assert run.meter.snapshot()["oracle_labels"] == 4


def test_spellings_are_shown_before_they_are_merged(tmp_path: Path) -> None:
    """Oracle: counts of each spelling in the message; with merge=true the commonest is the class."""
    content = rows(labelled=60)
    for place, spelling in ((0, " good"), (2, "Good "), (4, "GOOD"), (1, "bad\t")):
        content[place] = (content[place][0], spelling)
    spec = csv_file(tmp_path / "reviews.csv", content)
    with pytest.raises(DataError) as caught:
        selfstudy.task(spec)
    message = str(caught.value)
    assert "'good' (27 rows), ' good' (1 rows)" in message and "would be 'good'" in message
    assert "'bad' (29 rows), 'bad\\t' (1 rows) would be 'bad'" in message and "merge=true" in message
    assert selfstudy.task(f"{spec}&merge=true").classes == ("bad", "good")


def test_equal_texts_are_one_item(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: a label given once counts for all; two labels are none, and a note counts such texts."""
    content = [*rows(), ("twice", "good"), ("twice", ""), ("torn", "good"), ("torn", "bad"), ("", "good")]
    task = selfstudy.task(csv_file(tmp_path / "reviews.csv", content) + "&id=")
    assert list(task.pool.texts).count("torn") == 1 and of(task, "torn") == UNKNOWN
    everywhere = [*task.pool.texts, *task._held["validation"].texts, *task._held["test"].texts]
    assert everywhere.count("twice") == 1 and len(everywhere) == 102
    notes = " ".join(record.message for record in caplog.records)
    assert "1 texts have several labels" in notes and "1 of 105 rows have no text" in notes


def test_texts_that_are_hard_to_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: HTML, quotes and line breaks as they were; a long text is cut, and that is said."""
    html = '<script>alert("1")</script>, a "quoted"\nline & 漢字'
    endless = "word " * 200_000
    task = selfstudy.task(csv_file(tmp_path / "reviews.csv", [*rows(), (html, ""), (endless, "")]))
    cut = [text for text in task.pool.texts if text.startswith("word")]
    assert html in task.pool.texts and [len(text) for text in cut] == [LONGEST]
    assert f"1 texts are longer than {LONGEST} characters" in caplog.text
    assert task.features(task.prepared(selfstudy.model("words"))).isfinite().all()


def test_broken_utf8_is_told(tmp_path: Path) -> None:
    """Oracle: the file's name and its kind of text in the message."""
    (tmp_path / "reviews.csv").write_bytes(b"body,stars\nna\xefve,good\n")
    with pytest.raises(DataError, match="UTF-8"):
        selfstudy.task(f"csv:{tmp_path / 'reviews.csv'}?text=body&label=stars")


def test_another_file_to_test_on(tmp_path: Path) -> None:
    """Oracle: its labelled rows are the test; a text in both is learnt from in neither split."""
    own = csv_file(tmp_path / "own.csv", rows(30, 12))
    csv_file(tmp_path / "other.csv", [*rows(30, 6)[:10], ("else", "good"), ("none", "")])
    task = selfstudy.task(f"{own}&test={tmp_path / 'other.csv'}")
    tested = task._held["test"].texts
    assert set(tested) == {*(text for text, _ in rows()[:6]), "else"}
    assert not set(tested) & {*task.pool.texts, *task._held["validation"].texts}
    csv_file(tmp_path / "other.csv", [("else", "excellent")])
    with pytest.raises(DataError, match="labelled 'excellent'"):
        selfstudy.task(f"{own}&test={tmp_path / 'other.csv'}")


def test_a_column_names_the_rows(tmp_path: Path) -> None:
    """Oracle: its cells, of equal texts the first."""
    content = [(f"r{place}", *row) for place, row in enumerate([*rows(), ("text 99 is bad", "")])]
    spec = csv_file(tmp_path / "reviews.csv", content, ("number", "body", "stars"))  # type: ignore[arg-type]
    task = selfstudy.task(f"{spec}&id=number")
    assert all(one == f"r{text.split()[1]}" for one, text in zip(task.ids, task.pool.texts, strict=True))


def test_the_name_makes_the_task_again(tmp_path: Path) -> None:
    """Oracle: pool, labels and held-out texts of the task that its name makes."""
    folder = tmp_path / "a folder & more"
    folder.mkdir()
    csv_file(folder / "reviews.csv", rows(labelled=100))
    path = str(folder / "reviews.csv").replace("&", "%26")
    task = selfstudy.task(f"csv:{path}?text=body&label=stars&labels=6&draw=2&oracle=labels")
    again = selfstudy.task(task.name)
    assert again.name == task.name and again.pool.texts == task.pool.texts
    assert np.array_equal(again.given, task.given)


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """Oracle: what is wrong and what to do, in the message."""
    good = csv_file(tmp_path / "good.csv", rows())
    few = csv_file(tmp_path / "few.csv", rows(labelled=6))
    one = csv_file(tmp_path / "one.csv", [(text, "good" if label else "") for text, label in rows()])
    none = csv_file(tmp_path / "none.csv", rows(labelled=0))
    blank = csv_file(tmp_path / "blank.csv", [(" ", "good")])
    path = tmp_path / "good.csv"
    refused: dict[str, tuple[type[Exception], str]] = {
        "csv:": (UsageError, "needs a path"),
        f"csv:{path}?text=body": (UsageError, "needs both columns"),
        f"csv:{path}?text=bdy&label=stars": (UsageError, "no column 'bdy'. Did you mean 'body'"),
        f"csv:{path}?text=body&label=stars&id=row": (UsageError, "no column 'row'"),
        f"csv:{tmp_path / 'nothing.csv'}?text=body&label=stars": (DataError, "There is no file"),
        f"{good}&oracle=me": (UsageError, "oracle=me must be person, labels or module:function"),
        f"{good}&labels=1": (UsageError, "labels=1"),
        f"{good}&labels=900": (UsageError, "labels=900"),
        few: (DataError, "has 6 labelled rows of different text, too few to test"),
        one: (DataError, "has 1 class"),
        none: (DataError, "has 0 labelled rows|has 0 class"),
        blank: (DataError, "No row of .* has a text in the column 'body'"),
    }
    for spec, (kind, said) in refused.items():
        with pytest.raises(kind, match=said):
            selfstudy.task(spec)


def test_a_class_without_an_example_is_named(tmp_path: Path) -> None:
    """Oracle: the class whose only row is held out for the test."""
    for place in range(200):
        content = [*rows(), (f"rare {place}", "rare")]
        try:
            selfstudy.task(csv_file(tmp_path / f"{place}.csv", content))
        except DataError as error:
            assert "labelled 'rare'" in str(error) and "Label at least one of each class" in str(error)
            return
    raise AssertionError("a fifth of the rows is held out")
