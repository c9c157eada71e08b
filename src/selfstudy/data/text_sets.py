"""Labelled sets of texts by name: made-up messages, and files of `$SELFSTUDY_DATA`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.items import Texts
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.made_texts import messages
from selfstudy.data.tables import read_columns


class _File(NamedTuple):
    """Where a set lies: train and test files, columns of text, label and its name, and where it is from."""

    train: str
    test: str
    text: str
    label: str
    source: str


FOLDER = "text_cls"
FILES = {
    "ag-news": _File("ag_news_train", "ag_news_test", "text", "label_name", "fancyzhx/ag_news"),
    "trec": _File("trec_train", "trec_test", "text", "label_name", "CogComp/trec"),
    "trec-fine": _File("trec_train", "trec_test", "text", "fine_label_name", "CogComp/trec"),
    "sst2": _File("sst2_train", "sst2_test", "text", "label", "stanfordnlp/sst2"),
    "subj": _File("subj", "", "text", "label", "SetFit/subj"),
    "dbpedia": _File("dbpedia14_sample", "", "text", "label_name", "fancyzhx/dbpedia_14"),
    "banking77": _File("banking77_train", "banking77_test", "text", "label_name", "PolyAI/banking77"),
    "sms-spam": _File("sms_spam", "", "text", "label_name", "ucirvine/sms_spam"),
}
NAMES = ("messages", *FILES)
VALIDATION, TEST = 0.1, 0.2  # shares of a training file where there is no file for them


@functools.cache
def text_splits(name: str) -> dict[str, Texts]:
    """Return a set by name, in the splits "train", "validation" and "test" that share no text.

    A text that occurs twice is kept once; one of the training file that is in the test file is left out.

    Raises:
        UsageError: no set of that name.
        DataError: its files are not on this machine.
    """
    if name == "messages":
        return messages()
    if name not in FILES:
        raise UsageError(f"There is no set of texts {name!r}. {nearest(name, NAMES)}")
    file = FILES[name]
    rows = _rows(name, file.train)
    tested = _rows(name, file.test) if file.test else {}
    classes = tuple(sorted({*rows.values(), *tested.values()}))
    kept = {text: label for text, label in rows.items() if text not in tested}
    texts, codes = list(kept), {label: code for code, label in enumerate(classes)}
    order = generator("text set", name).permutation(len(texts))
    ends = np.cumsum([round(VALIDATION * len(texts)), 0 if tested else round(TEST * len(texts))])

    def taken(found: dict[str, str], chosen: list[str]) -> Texts:
        labels = np.array([codes[found[text]] for text in chosen], dtype=np.int64)
        return Texts(name, tuple(chosen), labels, classes)

    parts = [[texts[place] for place in np.sort(part)] for part in np.split(order, ends)]
    test = taken(tested, list(tested)) if tested else taken(kept, parts[1])
    return {"train": taken(kept, parts[2]), "validation": taken(kept, parts[0]), "test": test}


def _rows(name: str, file: str) -> dict[str, str]:
    where = f"{FOLDER}/{file}.parquet"
    path = library_file(where)
    said = FILES[name]
    if path is None:
        raise DataError(
            f"The texts of {name!r} are not on this machine: set ${VARIABLE} to a folder that holds {where}, "
            f"with columns {said.text} and {said.label} (Hugging Face {said.source}). The set 'messages' "
            "needs no files."
        )
    columns: dict[str, list[Any]] = read_columns(str(Path(path)), "parquet")
    pairs = zip(columns[said.text], columns[said.label], strict=True)
    return {" ".join(str(text).split()): str(label) for text, label in pairs}
