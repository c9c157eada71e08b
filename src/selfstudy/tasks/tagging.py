"""Tasks of tagging: tell the part of speech, or any other tag, of every word of a sentence."""

from __future__ import annotations

import copy
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.made_tags import TAGS, made_sentences
from selfstudy.data.splits import SPLITS, split_of
from selfstudy.data.tagged import TaggedTexts, tagged
from selfstudy.data.tagged_files import Pairs, tagged_rows
from selfstudy.evaluation.pictures import bars, picture
from selfstudy.evaluation.scores import ACCURACY, Measured
from selfstudy.models.tagging.base import Tagger
from selfstudy.tasks.base import HeldOutTask, require_held

EWT = "ud_english_ewt"


class TaggingTask(HeldOutTask):
    """Tagged sentences to learn from, and held-out ones to judge on, word by word.

    Attributes:
        name: the specification that makes this task again.
        metric: accuracy over words.
        train: the sentences to learn from.
        classes: names of the tags.
        meter: where labels are counted; this task gives out none.
    """

    def __init__(self, name: str, splits: dict[str, TaggedTexts]) -> None:
        self.name, self.train, self.classes = name, splits["train"], splits["train"].classes
        self.metric = ACCURACY
        self.meter = Meter()
        self._held = {split: splits[split] for split in ("validation", "test")}

    def held(self, split: str) -> int:
        """Return how many words a split holds."""
        return self._held[split].words

    def limited(self, train: int) -> Self:
        """Return the task with the first `train` sentences."""
        bound = copy.copy(self)
        bound.train = self.train.only(slice(train))
        return bound

    def prepared(self, model: Tagger) -> Tagger:
        """Return a tagger made for these tags."""
        return model.made_for(self.train)

    def evaluate(self, model: Tagger, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return whether each of the first `limit` words of a split is told right; None is all.

        Args:
            model: a tagger.
            split: "test", or "validation", which a method may look at.
            limit: how many words; their sentences are read whole.
        """
        require_held(split)
        held = self._held[split]
        if limit is not None:
            held = held.only(slice(int((np.cumsum(held.lengths) < limit).sum()) + 1))
        right = model.label(held.sentences) == held.labels
        return Measured(tuple(right[:limit].astype(float).tolist()))

    def look(self, before: Tagger, after: Tagger, parts: dict[str, Any]) -> dict[str, Any]:
        """Return the accuracy on words that training did not have, and a picture of that on each tag."""
        held, known = self._held["test"], {word for sentence in self.train.sentences for word in sentence}
        new = np.array([word not in known for sentence in held.sentences for word in sentence], dtype=bool)
        right = {
            when: model.label(held.sentences) == held.labels
            for when, model in (("before", before), ("after", after))
        }
        metrics = {
            f"words that are new, {when}": self.metric.row(found[new].astype(float).tolist())
            for when, found in right.items()
            if new.any()
        }
        there = np.unique(held.labels)
        traces = [
            bars(
                when,
                [self.classes[tag] for tag in there],
                [found[held.labels == tag].mean() for tag in there],
            )
            for when, found in right.items()
        ]
        shown = picture(
            "Words told right, by tag", traces, x="tag", y="accuracy", layout={"barmode": "group"}
        )
        return {"metrics": metrics, "pictures": [shown]}


def made_tags(
    *, train: int = 100_000, validation: int = 10_000, test: int = 20_000, tags: int = len(TAGS)
) -> TaggingTask:
    """Make the task of a made-up language.

    Args:
        train: words to learn from, at least.
        validation: words that a method may look at.
        test: words to judge on.
        tags: how many of its ten tags it has.

    Raises:
        UsageError: a number out of range.
    """
    given = {"train": train, "validation": validation, "test": test, "tags": tags}
    if min(train, validation, test) < 1 or not 2 <= tags <= len(TAGS):
        raise UsageError(
            f"Task 'made-tags' has train={train}, validation={validation}, test={test} and tags={tags}: the "
            f"first three must be 1 or more, tags from 2 to {len(TAGS)}."
        )
    splits = {split: made_sentences(split, given[split], tags) for split in SPLITS}
    return TaggingTask("made-tags?" + "&".join(f"{name}={value}" for name, value in given.items()), splits)


def ewt(*, tags: str = "upos") -> TaggingTask:
    """Make the task of the English Web Treebank of Universal Dependencies, in its official splits.

    Args:
        tags: "upos", 17 tags, or "xpos", 49.

    Raises:
        UsageError: other tags.
        DataError: its files are not on this machine.
    """
    if tags not in ("upos", "xpos"):
        raise UsageError(f"tags={tags} of task 'ewt' must be upos or xpos.")
    files = {"train": "train", "validation": "dev", "test": "test"}
    pairs = {}
    for split, file in files.items():
        path = library_file(f"{EWT}/{file}.parquet")
        if path is None:
            raise DataError(
                f"The sentences of 'ewt' are not on this machine: set ${VARIABLE} to a folder that holds "
                f"{EWT}/{file}.parquet with lists tokens, upos and xpos (Hugging Face "
                "universal-dependencies/universal_dependencies, en_ewt). The task 'made-tags' needs no files."
            )
        pairs[split] = tagged_rows(str(path), "parquet", "tokens", tags)
    return TaggingTask(f"ewt?tags={tags}", _sets("ewt", pairs))


def sentences(kind: str, path: str, *, tags: str = "", words: str = "tokens", test: str = "") -> TaggingTask:
    """Make a task of the user's tagged sentences.

    Sentences are split by a hash of their words, 70/10/20 %, so that equal ones are in one split.

    Args:
        kind: "jsonl", "parquet" or "conllu".
        path: of the file.
        tags: column of the tags, a list or a text with blanks between; of CoNLL-U upos, xpos, lemma or
            deprel.
        words: column of the words, likewise; CoNLL-U has its own.
        test: another file to test on, in place of a split.

    Raises:
        UsageError: fields that cannot be right.
        DataError: files or rows that cannot be used.
    """
    if not path:
        raise UsageError(f"{kind}: needs a path, as in {kind}:mine.{kind}?tags=upos.")
    tags = tags or "upos"
    own = tagged_rows(path, kind, words, tags)
    ends = {"train_end": 0.875, "validation_end": 1.0} if test else {}
    pairs: dict[str, Pairs] = {split: [] for split in SPLITS}
    if test:
        pairs["test"] = tagged_rows(test, kind, words, tags)
    tested = {spoken for spoken, _ in pairs["test"]}
    for pair in own:
        if pair[0] not in tested:
            pairs[split_of(" ".join(pair[0]), **ends)].append(pair)
    if not all(pairs.values()):
        raise DataError(
            f"{path} has {len(own)} sentences, too few for training, validation and test (70, 10 and 20 %). "
            "Give a larger file."
        )
    given = {"tags": tags, "words": words if words != "tokens" else "", "test": test}
    fields = "&".join(f"{name}={quote(value, safe='/:.,')}" for name, value in given.items() if value)
    return TaggingTask(f"{kind}:{path}?{fields}", _sets(path, pairs))


def _sets(name: str, pairs: dict[str, Pairs]) -> dict[str, TaggedTexts]:
    classes = sorted({tag for split in pairs.values() for _, told in split for tag in told})
    return {
        split: tagged(name, [spoken for spoken, _ in found], [told for _, told in found], classes)
        for split, found in pairs.items()
    }
