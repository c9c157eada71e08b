"""Tables as tasks: built-in ones, files of `$SELFSTUDY_DATA`, and the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.mixed_tables import Table, chosen_kinds, table_of, texts
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.data.table_answers import Answers, labelled_places, read_answers
from selfstudy.data.tables import DIABETES, read_columns, require_column
from selfstudy.tasks.table_task import Labelled, TableTask


def table(
    kind: str,
    path: str,
    *,
    label: str,
    labels: int = 0,
    train: int = 0,
    draw: int = 0,
    numeric: str = "",
    categorical: str = "",
    leave_out: str = "",
    goal: str = "",
    test: str = "",
    transductive: bool = False,
) -> TableTask:
    """Make a task of the user's table.

    Rows are split by a hash of their cells, 70/10/20 %, so that equal rows are in one split. Rows whose
    label is missing are for training without it.

    Args:
        kind: "csv", "parquet" or "jsonl".
        path: of the file.
        label: column that is to be told; empty if there is none.
        labels: training rows whose label may be used; 0 is all that have one.
        train: training rows, drawn at random; 0 is all.
        draw: names which rows are drawn.
        numeric: columns to be read as numbers, separated by commas; else those whose cells all are.
        categorical: columns to be read as categories.
        leave_out: columns not to be read.
        goal: "classes" or "numbers"; if empty, more than 20 different numbers are numbers to be told.
        test: another file to test on, in place of a split.
        transductive: whether the rows of validation and test are trained on too, without their labels.

    Raises:
        UsageError: fields that cannot be right.
        DataError: files or cells that cannot be used.
    """
    given = {field: value for field, value in locals().items() if field not in ("kind", "path")}
    if not path:
        raise UsageError(f"{kind}: needs a path, as in {kind}:mine.{kind}?label=price.")
    whole = table_of(path, kind=kind)
    for column in (*_listed(leave_out), *([label] if label else [])):
        require_column(path, column, whole.cells)
    other = table_of(test, kind=kind) if test else None
    fields = "&".join(
        f"{field}={quote(str(value), safe='/:.,')}"
        for field, value in given.items()
        if value or field == "label"
    )
    return table_task(
        f"{kind}:{path}?{fields}",
        whole,
        other,
        label,
        labels=labels,
        train=train,
        draw=draw,
        goal=goal,
        numeric=_listed(numeric),
        categorical=_listed(categorical),
        leave_out=_listed(leave_out),
        transductive=transductive,
    )


def table_task(
    name: str,
    whole: Table,
    test: Table | None,
    label: str,
    *,
    labels: int = 0,
    train: int = 0,
    draw: int = 0,
    goal: str = "",
    numeric: tuple[str, ...] = (),
    categorical: tuple[str, ...] = (),
    leave_out: tuple[str, ...] = (),
    transductive: bool = False,
) -> TableTask:
    """Return the task of a table that is in memory; the arguments are those of `table`."""
    if test is not None:
        for column in whole.cells:
            require_column(test.name, column, test.cells)
        joined = {
            column: np.concatenate([cells, test.cells[column]]) for column, cells in whole.cells.items()
        }
        joined_table = Table(whole.name, joined)
    else:
        joined_table = whole
    inputs = chosen_kinds(joined_table.without(label, *leave_out), numeric, categorical)
    if not inputs.cells:
        raise DataError(
            f"The table {whole.name} has no column beside its label, so there is nothing to encode."
        )
    where = f"The column {label!r} of {whole.name}"
    answers = read_answers(joined_table.cells[label], where, goal) if label else None
    places = _split(inputs, len(whole) if test is not None else None, answers)
    learning = places["train"] if not transductive else np.arange(len(inputs))
    chosen = learning
    if train:
        if not 0 < train <= len(learning):
            raise UsageError(
                f"train={train} must be from 1 to {len(learning)}, the training rows of {whole.name}."
            )
        chosen = np.sort(generator("training rows", draw).permutation(learning)[:train])
    labelled = None
    if answers is not None:
        at = places["train"][labelled_places(answers.only(places["train"]), labels, draw, whole.name)]
        labelled = Labelled(inputs.only(at), answers.only(at))
    nothing = Answers(np.full(len(inputs), np.nan))
    held = {
        split: Labelled(inputs.only(places[split]), (answers or nothing).only(places[split]))
        for split in SPLITS
    }
    held.pop("train")
    return TableTask(name, inputs.only(chosen), labelled, held)


def _split(inputs: Table, tested_from: int | None, answers: Answers | None) -> dict[str, np.ndarray]:
    """Return the places of the rows of each split; rows without a label are for training."""
    columns = [[cell or "" for cell in texts(cells, column)] for column, cells in inputs.cells.items()]
    rows = ["\x1f".join(row) for row in zip(*columns, strict=True)]
    if tested_from is None:
        splits = np.array([split_of(row) for row in rows])
    else:
        own = [split_of(row, train_end=0.875, validation_end=1.0) for row in rows[:tested_from]]
        splits = np.array([*own, *["test"] * (len(rows) - tested_from)])
    if answers is not None:
        splits[~answers.known] = "train"
    found = {split: np.flatnonzero(splits == split) for split in SPLITS}
    if not all(map(len, found.values())):
        raise DataError(
            f"The table {inputs.name} has {len(rows)} rows, {len(set(rows))} of them different, too few for "
            "rows of training, validation and test (70, 10 and 20 %) with labels; equal rows are in one "
            "split. Give a larger table."
        )
    return found


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text.split(","))))


# Tables by name.


def _named(name: str, whole: Table, test: Table | None, label: str, **fields: Any) -> TableTask:
    text = "&".join(f"{field}={value}" for field, value in fields.items() if value or field == "labels")
    return table_task(f"{name}?{text}", whole, test, label, **fields)


def _from_sklearn(name: str, loader: str) -> Table:
    import sklearn.datasets

    found = getattr(sklearn.datasets, loader)()
    names = [str(column) for column in getattr(found, "feature_names", range(found.data.shape[1]))]
    columns = {column: found.data[:, place] for place, column in enumerate(names)}
    return table_of({**columns, "class": [str(found.target_names[label]) for label in found.target]}, name)


def _from_library(name: str, file: str, source: str) -> Table:
    path = library_file(f"tables/{file}")
    if path is None:
        raise DataError(
            f"The table {name!r} is not on this machine: set ${VARIABLE} to a folder that holds "
            f"tables/{file} ({source}). The table 'breast-cancer' needs no files."
        )
    return Table(name, table_of(Path(path)).cells)


def breast_cancer(
    *, label: str = "class", labels: int = 0, train: int = 0, draw: int = 0, transductive: bool = False
) -> TableTask:
    """Make the task of scikit-learn's table of 569 tumours, 30 numbers each; fields as in `table`."""
    whole = _from_sklearn("breast-cancer", "load_breast_cancer")
    return _built_in("breast-cancer", whole, label, labels, train, draw, transductive)


def wine(
    *, label: str = "class", labels: int = 0, train: int = 0, draw: int = 0, transductive: bool = False
) -> TableTask:
    """Make the task of scikit-learn's table of 178 wines, 13 numbers each; fields as in `table`."""
    whole = _from_sklearn("wine", "load_wine")
    return _built_in("wine", whole, label, labels, train, draw, transductive)


def diabetes(*, labels: int = 0, train: int = 0, draw: int = 0, transductive: bool = False) -> TableTask:
    """Make the task of scikit-learn's table of 442 patients, 10 numbers each; fields as in `table`.

    A number is told: how far the illness went in a year.
    """
    fields = {"labels": labels, "train": train, "draw": draw, "transductive": transductive}
    whole = table_of(read_columns(DIABETES), DIABETES)
    return _named(DIABETES, whole, None, "target", **fields)


def _built_in(
    name: str, whole: Table, label: str, labels: int, train: int, draw: int, transductive: bool
) -> TableTask:
    """Return the task of a table with a column `class`, which is left out where `label` is empty."""
    if label not in ("", "class"):
        raise UsageError(f"The label of {name!r} is class, or none to be judged without: {name}?label=")
    fields = {"labels": labels, "train": train, "draw": draw, "transductive": transductive}
    if label:
        return _named(name, whole, None, label, **fields)
    made = _named(name, whole.without("class"), None, "", **fields)
    made.name += "&label="
    return made


def adult(*, labels: int = 200, train: int = 10000, draw: int = 0, transductive: bool = False) -> TableTask:
    """Make the task of the Adult census table, 14 mixed columns, official test rows; fields as in `table`."""
    whole, test = (
        _from_library("adult", f"adult_{part}.parquet", "UCI 2; OpenML 1590") for part in ("train", "test")
    )
    return _named(
        "adult", whole, test, "income", labels=labels, train=train, draw=draw, transductive=transductive
    )


def heloc(*, labels: int = 200, train: int = 0, draw: int = 0, transductive: bool = False) -> TableTask:
    """Make the task of FICO's table of 10,459 credit lines, 23 numbers each; fields as in `table`.

    The special values -7, -8 and -9 stay numbers, below all others.
    """
    whole = _from_library("heloc", "heloc.parquet", "FICO; Hugging Face mstz/heloc")
    fields = {"labels": labels, "train": train, "draw": draw, "transductive": transductive}
    return _named("heloc", whole, None, "RiskPerformance", **fields)
