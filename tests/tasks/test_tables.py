"""Tables as tasks: built-in ones and the user's, with classes, numbers, or no labels at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.probes import linear_probe, ridge_probe
from selfstudy.models.encoders.tables import TabularTransformer
from selfstudy.tasks.table_task import HIDDEN, UNEXPLAINED, TableTask
from selfstudy.tasks.tables import adult, heloc


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def frame(count: int = 300) -> pandas.DataFrame:
    """Rows whose label and price depend on a column, with gaps."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=count)
    table = pandas.DataFrame(
        {
            "size": np.where(rng.uniform(size=count) < 0.1, np.nan, size),
            "again": size + 0.1 * rng.normal(size=count),
            "kind": np.where(size > 0, "big", "small"),
            "noise": rng.integers(0, 5, size=count),
            "label": np.where(size > 0.3, "yes", "no"),
            "price": 100 + 10 * size + rng.normal(size=count),
        }
    )
    return table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    frame().to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def small(task: TableTask) -> TabularTransformer:
    return task.prepared(TabularTransformer(width=8, layers=1, heads=2, hidden=8))


def test_a_task_of_classes(file: Path) -> None:
    """Oracle: the probe done by hand on the same features; the label is no column; a limit works."""
    task = selfstudy.task(f"csv:{file}?label=label&leave_out=price&labels=40&draw=3")
    assert task.metric.name == "accuracy" and task.classes == ("no", "yes") and "draw=3" in task.name
    assert list(task.train.cells) == ["size", "again", "kind", "noise"]
    assert len(task.train) + len(task.validation) + len(task.test) == 300 and len(task.labelled.table) == 40
    model = small(task)
    assert model.columns.names[:3] == ["size", "size is missing", "again"]
    features = torch.from_numpy(model.embed(task.labelled.table))
    probe = linear_probe(features, torch.from_numpy(task.labelled.answers.values).long(), 2)
    held = task._held["test"]
    told = probe.predict(torch.from_numpy(model.embed(held.table))).numpy()
    assert task.evaluate(model).values == tuple((told == held.answers.values).astype(float))
    assert (
        task.evaluate(model, split="validation", limit=7).values
        == task.evaluate(model, split="validation").values[:7]
    )
    assert np.mean(task.evaluate(model).values) > 0.7
    look = task.look(model, model, {"last": model})
    assert look["metrics"]["effective rank, after"] > 1 and "nearest neighbours, before" in look["metrics"]
    assert look["metrics"]["nearest neighbours, after"]["accuracy"] > 0.7, "not the most frequent class"
    assert len(look["pictures"]) == 1
    assert len(task.limited(5).train) == 5


def test_a_task_of_numbers(file: Path) -> None:
    """Oracle: the squared error of a ridge regression by hand over the variance of the labelled rows."""
    task = selfstudy.task(f"csv:{file}?label=price&leave_out=label")
    assert task.metric is UNEXPLAINED and task.classes == () and len(task.labelled.table) == len(task.train)
    model = small(task)
    values = task.labelled.answers.values
    probe = ridge_probe(torch.from_numpy(model.embed(task.labelled.table)), torch.from_numpy(values).float())
    held = task._held["validation"]
    told = probe.predict(torch.from_numpy(model.embed(held.table))).numpy()
    expected = (told - held.answers.values) ** 2 / values.var()
    assert np.allclose(task.evaluate(model, split="validation").values, expected, rtol=1e-4)
    assert np.mean(expected) < 0.3
    names = {trace["name"] for trace in task.look(model, model)["pictures"][0]["traces"]}
    assert names == {"lowest quarter", "second quarter", "third quarter", "highest quarter"}


def test_a_task_without_labels(file: Path) -> None:
    """Oracle: one figure a row, below that of telling the mean; no probe of labels."""
    task = selfstudy.task(f"csv:{file}?label=&leave_out=label,price")
    assert task.metric is HIDDEN and task.labelled is None
    assert task.name.endswith("?label=&leave_out=label,price")
    model = small(task)
    values = task.evaluate(model).values
    assert len(values) == len(task.test) and np.mean(values) < 1
    assert task.look(model, model)["pictures"]
    with pytest.raises(DataError, match="no labels to fit to"):
        task.probe(model)


def test_rows_without_a_label_are_trained_on(tmp_path: Path) -> None:
    """Oracle: counts; held-out rows all have a label."""
    table = frame()
    table.loc[::2, "label"] = None
    table.to_csv(tmp_path / "t.csv", index=False)
    task = selfstudy.task(f"csv:{tmp_path / 't.csv'}?label=label")
    held = sum(len(task._held[split].table) for split in ("validation", "test"))
    assert len(task.train) == 300 - held and len(task.labelled.table) == 150 - held
    assert all(answers.known.all() for _, answers in task._held.values())


def test_other_files_and_rows(file: Path, tmp_path: Path) -> None:
    """Oracle: counts: a test file is all tested on, transductive takes all rows, train= draws some."""
    frame(40).to_parquet(tmp_path / "other.parquet")
    frame(50).to_json(tmp_path / "other.jsonl", orient="records", lines=True)
    with pytest.raises(DataError, match=r"not UTF-8|rows"):
        selfstudy.task(f"csv:{file}?label=label&test={tmp_path / 'other.parquet'}")
    frame(40).to_csv(tmp_path / "other.csv", index=False)
    task = selfstudy.task(f"csv:{file}?label=label&test={tmp_path / 'other.csv'}")
    assert len(task.test) == 40 and len(task.train) + len(task.validation) == 300
    assert len(selfstudy.task(f"csv:{file}?label=label&transductive=true").train) == 300
    few = selfstudy.task(f"csv:{file}?label=label&train=50&draw=1")
    assert len(few.train) == 50 and len(few.labelled.table) > 150
    assert len(selfstudy.task(f"parquet:{tmp_path / 'other.parquet'}?label=label").train) > 20
    assert len(selfstudy.task(f"jsonl:{tmp_path / 'other.jsonl'}?label=label").train) > 20


def test_no_row_is_in_two_splits(tmp_path: Path) -> None:
    """Oracle: rows that are there twice are in one split, and more rows move none."""
    table = pandas.concat([frame(), frame()])
    table.to_csv(tmp_path / "twice.csv", index=False)
    frame().to_csv(tmp_path / "once.csv", index=False)
    twice, once = (selfstudy.task(f"csv:{tmp_path / name}.csv?label=") for name in ("twice", "once"))
    assert [len(twice.train), len(twice.test)] == [2 * len(once.train), 2 * len(once.test)]
    rows = [
        {tuple(row) for row in zip(*part.cells.values(), strict=True)}
        for part in (twice.train, *(held.table for held in twice._held.values()))
    ]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("label=lable", UsageError, "no column 'lable'.*'label'"),
        ("label=label&leave_out=prize", UsageError, "no column 'prize'.*'price'"),
        ("label=label&numeric=prce", UsageError, "no column 'prce'.*'price'"),
        ("label=label&numeric=kind", DataError, "no finite numbers: rows 1, 2"),
        ("label=label&labels=3", UsageError, "labels=3 .* must be from 4 to"),
        ("label=label&train=9999", UsageError, "train=9999 must be from 1 to"),
        ("label=label&goal=regression", UsageError, "goal=regression must be"),
        ("label=label&split=5", UsageError, "no field 'split'"),
        ("label=label&leave_out=size,again,kind,noise,price", DataError, "no column beside its label"),
    ],
)
def test_tasks_that_cannot_be(file: Path, query: str, error: type[Exception], words: str) -> None:
    """Oracle: each names what is wrong, when the task is made or an encoder is made for it."""
    with pytest.raises(error, match=words):
        small(selfstudy.task(f"csv:{file}?{query}"))


def test_tables_too_small(tmp_path: Path) -> None:
    """Oracle: three rows cannot be split; a column of one class cannot be told."""
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    with pytest.raises(DataError, match="3 rows, 3 of them different, too few for rows of training"):
        selfstudy.task(f"csv:{tmp_path / 't.csv'}?label=b")
    (tmp_path / "one.csv").write_text("a,b\n" + "".join(f"{i},x\n" for i in range(50)))
    with pytest.raises(DataError, match="1 different labels"):
        selfstudy.task(f"csv:{tmp_path / 'one.csv'}?label=b")


def test_built_in_tables() -> None:
    """Oracle: scikit-learn's own sizes and classes; the name makes the task again."""
    for name, rows, columns, classes in (("breast-cancer", 569, 30, 2), ("wine", 178, 13, 3)):
        task = selfstudy.task(f"{name}?labels=30&draw=2")
        held = len(task.validation) + len(task.test)
        assert len(task.train) + held == rows and len(task.train.cells) == columns
        assert len(task.classes) == classes and task.name == f"{name}?labels=30&draw=2"
        again = selfstudy.task(task.name)
        assert np.array_equal(again.labelled.answers.values, task.labelled.answers.values)


def test_tables_of_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Oracle: made-up files in their layout; without them the message says what to set."""
    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    with pytest.raises(DataError, match=r"\$SELFSTUDY_DATA to a folder that holds tables/heloc.parquet"):
        heloc()
    folder = tmp_path / "tables"
    folder.mkdir()
    table = frame()
    for part, rows in (("train", table), ("test", table.iloc[:30])):
        rows.rename(columns={"label": "income"}).to_parquet(folder / f"adult_{part}.parquet")
    table.assign(RiskPerformance=(table["size"] > 0).astype(int)).to_parquet(folder / "heloc.parquet")
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    census = adult(labels=20, train=100)
    assert len(census.test) == 30 and len(census.train) == 100 and census.classes == ("no", "yes")
    assert heloc(labels=10).classes == ("0", "1")


def test_unseen_categories_in_held_out_rows(tmp_path: Path) -> None:
    """Oracle: a category of the test file alone is taken without a word, and evaluated on."""
    train, test = frame(), frame(30)
    test["kind"] = "new"
    train.to_csv(tmp_path / "a.csv", index=False)
    test.to_csv(tmp_path / "b.csv", index=False)
    task = selfstudy.task(f"csv:{tmp_path / 'a.csv'}?label=label&leave_out=price&test={tmp_path / 'b.csv'}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(task.evaluate(small(task)).values) == 30


def test_truth_of_held_out_rows_is_not_in_reach(file: Path) -> None:
    """Oracle: neither train nor labelled has the label as a column; no figures of training rows."""
    task: Any = selfstudy.task(f"csv:{file}?label=label&labels=20")
    assert "label" not in task.train.cells and "label" not in task.labelled.table.cells
    with pytest.raises(UsageError, match="no split 'train'"):
        task.evaluate(small(task), split="train")
