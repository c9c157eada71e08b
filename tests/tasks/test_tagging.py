"""Tagging tasks: their splits, what they judge, and the user's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.made_tags import made_sentences
from selfstudy.models.tagging.frequency import FrequencyTagger
from selfstudy.tasks.tagging import TaggingTask

SMALL = "made-tags?train=1500&validation=400&test=600&tags=6"


def written(path: Path, count: int = 60, start: int = 0) -> Path:
    texts = made_sentences("train", 3000, 6)
    ends = np.cumsum(texts.lengths)
    with path.open("w") as out:
        for place in range(start, start + count):
            tags = [
                texts.classes[tag]
                for tag in texts.labels[ends[place] - len(texts.sentences[place]) : ends[place]]
            ]
            print(json.dumps({"tokens": texts.sentences[place], "upos": tags}), file=out)
    return path


def test_the_made_up_task() -> None:
    """Oracle: the name makes the task again; held-out items are words."""
    task = selfstudy.task(SMALL)
    again = selfstudy.task(task.name)
    assert isinstance(task, TaggingTask) and task.train.sentences == again.train.sentences
    assert 400 <= len(task.validation) < 430 and 600 <= len(task.test) < 630
    assert task.limited(3).train.sentences == task.train.sentences[:3]
    with pytest.raises(UsageError, match="tags from 2 to 10"):
        selfstudy.task("made-tags?tags=11")


def test_what_is_judged() -> None:
    """Oracle: right and wrong word by word, by hand; a limit takes the first words of whole sentences."""
    task = selfstudy.task(SMALL)
    tagger = task.prepared(FrequencyTagger())
    tagger.learn(task.train, 0)
    for split in ("test", "validation"):
        told = np.concatenate(
            [[tag] for sentence in tagger.predict(task._held[split].sentences) for tag in sentence]
        )
        wanted = [task.classes[label] for label in task._held[split].labels]
        right = tuple((told == wanted).astype(float))
        assert task.evaluate(tagger, split=split).values == right
        for limit in (1, 37, 10_000):
            assert task.evaluate(tagger, split=split, limit=limit).values == right[:limit]
    with pytest.raises(UsageError, match="no split 'train'"):
        task.evaluate(tagger, split="train")


def test_what_else_is_told() -> None:
    """Oracle: the words that training did not have, and the accuracy on each tag, counted by hand."""
    task = selfstudy.task(SMALL)
    before = task.prepared(FrequencyTagger())
    after = before.copy()
    after.learn(task.train, 0)
    look = task.look(before, after, {})
    known = {word for sentence in task.train.sentences for word in sentence}
    held = task._held["test"]
    new = [word not in known for sentence in held.sentences for word in sentence]
    right = np.array(task.evaluate(after).values)
    row = look["metrics"]["words that are new, after"]
    assert row["count"] == sum(new) and row["accuracy"] == pytest.approx(right[new].mean())
    traces = {trace["name"]: trace for trace in look["pictures"][0]["traces"]}
    nouns = held.labels == task.classes.index("NOUN")
    assert dict(zip(traces["after"]["x"], traces["after"]["y"], strict=True))["NOUN"] == pytest.approx(
        right[nouns].mean(), abs=1e-4
    )


def test_own_sentences(tmp_path: Path) -> None:
    """Oracle: each sentence in one split by its words; equal ones together; a file to test on takes its own
    out of training; the classes are all tags that occur."""
    path = written(tmp_path / "mine.jsonl")
    task = selfstudy.task(f"jsonl:{path}?tags=upos")
    splits = {"train": task.train, **task._held}
    assert sum(map(len, splits.values())) == 60
    assert len(task.train) > len(task._held["test"]) > 0
    assert task.classes == tuple(sorted(made_sentences("train", 3000, 6).classes))
    assert selfstudy.task(task.name).train.sentences == task.train.sentences
    other = written(tmp_path / "test.jsonl", 20, 40)
    tested = selfstudy.task(f"jsonl:{path}?tags=upos&test={other}")
    assert len(tested._held["test"]) == 20
    assert not set(tested._held["test"].sentences) & set(tested.train.sentences)
    with pytest.raises(DataError, match="too few"):
        selfstudy.task(f"jsonl:{written(tmp_path / 'few.jsonl', 2)}?tags=upos")
    with pytest.raises(UsageError, match="needs a path"):
        selfstudy.task("conllu:?tags=upos")


def test_the_treebank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: files of its layout in the folder of data sets, each a split; without them an error."""
    import pyarrow
    import pyarrow.parquet

    monkeypatch.delenv("SELFSTUDY_DATA", raising=False)
    with pytest.raises(DataError, match=r"ud_english_ewt/train\.parquet"):
        selfstudy.task("ewt")
    with pytest.raises(UsageError, match="upos or xpos"):
        selfstudy.task("ewt?tags=pos")
    (tmp_path / "ud_english_ewt").mkdir()
    rows: dict[str, Any] = {"tokens": [["a", "cat"], ["it"]], "upos": [["DET", "NOUN"], ["PRON"]]}
    for file in ("train", "dev", "test"):
        pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "ud_english_ewt" / f"{file}.parquet")
    monkeypatch.setenv("SELFSTUDY_DATA", str(tmp_path))
    task = selfstudy.task("ewt")
    assert task.name == "ewt?tags=upos" and task.train.words == 3 and task.classes == ("DET", "NOUN", "PRON")


def test_models_of_another_kind() -> None:
    """Oracle: a tagger of other tags is refused by the task."""
    tagger = selfstudy.task("made-tags?train=50&validation=10&test=10&tags=3").prepared(FrequencyTagger())
    with pytest.raises(UsageError, match="knows the tags"):
        selfstudy.task(SMALL).prepared(tagger)
