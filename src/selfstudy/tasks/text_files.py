"""A user's texts of which few are labelled: `csv:reviews.csv?text=body&label=stars`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import LONGEST, Texts
from selfstudy.data.readers import plain_text
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.data.tables import read_columns, require_column
from selfstudy.tasks.own_pools import own_pool
from selfstudy.tasks.pools import PoolTask

LEAST_LABELLED = 10  # rows without which there is nothing to test on

_log = logging.getLogger(__name__)


def text_pool(
    kind: str,
    path: str,
    *,
    text: str = "",
    label: str = "",
    id: str = "",
    labels: int = 0,
    draw: int = 0,
    merge: bool = False,
    oracle: str = "",
    test: str = "",
) -> PoolTask:
    """Make a task of a file of texts; rows without a label are the pool.

    Labelled rows are split by a hash of their text, 70/10/20 %, so that more rows never move one from one
    split to another. Rows of equal text are one item.

    Args:
        kind: "csv", "parquet" or "jsonl".
        path: of the file.
        text: column of the text.
        label: column of the label; empty cells are unknown.
        id: column of what a row is called in results; empty is its number, from 1.
        labels: labels given at the start, of the training rows; 0 is all.
        draw: names which.
        merge: whether labels that differ in blanks and capitals alone are one.
        oracle: "person", who is asked at the labelling page; "labels", those that were not given at the
            start; or "module:function", which takes a list of texts and returns the name of a class each,
            None where it is not sure. Empty is the person where a row has no label.
        test: another file of labelled rows to test on, in place of a split.

    Raises:
        UsageError: fields that cannot be right.
        DataError: files or cells that cannot be used.
    """
    if not path:
        raise UsageError(f"{kind}: needs a path, as in {kind}:reviews.{kind}?text=body&label=stars.")
    if not text or not label:
        raise UsageError(f"{kind}:{path} needs both columns, as in ?text=body&label=stars.")
    own = _rows(path, kind, text, label, id)
    other = _rows(test, kind, text, label) if test else None
    names = _spellings([*own.labels, *(other.labels if other else ())], path, label, merge)
    classes = tuple(sorted(set(names.values())))
    whole = _texts(path, own, names, classes)
    splits = _split(whole, _texts(test, other, names, classes) if other else None)
    given = {"text": text, "label": label, "id": id, "labels": labels, "draw": draw, "merge": merge}
    fields = {**given, "oracle": oracle, "test": test}
    called = dict(zip(reversed(own.texts), reversed(own.ids), strict=True))  # of equal texts the first
    ids = tuple(called[one] for one in splits["train"].texts)
    return own_pool(f"{kind}:{path}", fields, splits, labels, draw, oracle, ids)


class _Rows(NamedTuple):
    texts: list[str]
    labels: list[str]
    """Empty where there is none."""
    ids: list[str]


def _rows(path: str, kind: str, text: str, label: str, name: str = "") -> _Rows:
    columns = read_columns(path, kind)
    for column in filter(None, (text, label, name)):
        require_column(path, column, columns)
    texts = _plain(path, text, columns[text])
    empty = sum(not one for one in texts)
    long = sum(len(one) > LONGEST for one in texts)
    if empty:
        _log.warning("%s: %d of %d rows have no text and are left out.", path, empty, len(texts))
    if long:
        _log.warning("%s: %d texts are longer than %d characters; the rest is not read.", path, long, LONGEST)
    labels = _labels(path, label, columns[label])
    ids = _plain(path, name, columns[name]) if name else [str(row + 1) for row in range(len(texts))]
    kept = [place for place, one in enumerate(texts) if one]
    if not kept:
        raise DataError(f"No row of {path} has a text in the column {text!r}.")
    read = ([one[:LONGEST] for one in texts], labels, ids)
    return _Rows(*([column[place] for place in kept] for column in read))


def _plain(path: str, column: str, cells: Sequence[Any]) -> list[str]:
    try:
        return [plain_text(cell) for cell in cells]
    except TypeError as error:
        raise DataError(f"A cell in the column {column!r} of {path}: {error}.") from None


def _labels(path: str, column: str, cells: Sequence[Any]) -> list[str]:
    """Return labels as they are written, stray blanks included: they are merged only when asked."""
    _plain(path, column, cells)
    return [cell if isinstance(cell, str) and cell.strip() else plain_text(cell) for cell in cells]


def _spellings(labels: Sequence[str], path: str, column: str, merge: bool) -> dict[str, str]:
    """Return the class of every spelling.

    Raises:
        DataError: spellings that differ in blanks and capitals alone, unless they are to be merged.
    """
    counts = Counter(one for one in labels if one)
    groups: dict[str, list[str]] = {}
    for one, _ in counts.most_common():
        groups.setdefault(" ".join(one.split()).casefold(), []).append(one)
    several = [group for group in groups.values() if len(group) > 1]
    if several and not merge:
        would = "; ".join(
            f"{', '.join(f'{one!r} ({counts[one]} rows)' for one in group)} would be {group[0].strip()!r}"
            for group in several[:5]
        )
        raise DataError(
            f"Labels in the column {column!r} of {path} differ in blanks or capitals alone: {would}. Add "
            "merge=true to the task to merge them so, or mend the file."
        )
    return {one: group[0].strip() for group in groups.values() for one in group}


def _texts(path: str, rows: _Rows, names: dict[str, str], classes: tuple[str, ...]) -> Texts:
    """Return the rows as items: equal texts once, without a label where rows contradict each other."""
    said: dict[str, set[str]] = {}
    for text, label in zip(rows.texts, rows.labels, strict=True):
        said.setdefault(text, set()).update({names[label]} if label else ())
    torn = sum(len(found) > 1 for found in said.values())
    if torn:
        _log.warning("%s: %d texts have several labels and count as unlabelled.", path, torn)
    codes = {one: code for code, one in enumerate(classes)}
    labels = [codes[next(iter(found))] if len(found) == 1 else UNKNOWN for found in said.values()]
    return Texts(path, tuple(said), np.array(labels, dtype=np.int64), classes)


def _split(whole: Texts, other: Texts | None) -> dict[str, Texts]:
    ends = {"train_end": 0.875, "validation_end": 1.0} if other else {}
    splits = np.array([split_of(text, **ends) for text in whole.texts])
    splits[whole.labels == UNKNOWN] = "train"
    known = int((whole.labels != UNKNOWN).sum())
    found = {split: whole.only(np.flatnonzero(splits == split)) for split in SPLITS}
    if other is not None:
        tested = set(other.texts)
        found["test"] = other.only(np.flatnonzero(other.labels != UNKNOWN))
        for split in ("train", "validation"):
            kept = [place for place, text in enumerate(found[split].texts) if text not in tested]
            found[split] = found[split].only(np.array(kept, dtype=np.int64))
    if not len(found["test"]) or (other is None and known < LEAST_LABELLED):
        raise DataError(
            f"{whole.name} has {known} labelled rows of different text, too few to test on a fifth of them. "
            f"Label {LEAST_LABELLED} or more, or name a labelled file with test=."
        )
    return found
