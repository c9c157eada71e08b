"""Tasks of pools: many items, few of them labelled, and an oracle that may be asked for more labels."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN, ImageSet
from selfstudy.data.items import Texts, Vectors, shown, unlabelled
from selfstudy.data.label_table import LabelTable
from selfstudy.data.labelled import balanced_places
from selfstudy.data.oracles import NEW, HiddenLabels, Oracle, Query
from selfstudy.evaluation.embedding_map import SHOWN, embedding_map
from selfstudy.evaluation.probes import LinearProbe, linear_probe
from selfstudy.evaluation.scores import ACCURACY, Measured
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.features import features_of
from selfstudy.tasks.base import HeldOutTask, require_held

AnyItems = ImageSet | Texts | Vectors
YES = 1  # what `confirmed` returns for a class that was confirmed; 0 is no, UNKNOWN is not sure


class PoolTask(HeldOutTask):
    """A pool of items of which few are labelled, and held-out items to judge on.

    An encoder is judged by the accuracy of a linear classifier of its frozen features, fitted on the labels
    that were given at the start; a classifier by its own.

    Attributes:
        name: the specification that makes this task again.
        metric: accuracy.
        pool: the N items to learn from; their labels are not in it.
        given: [N], labels that may be used from the start; `UNKNOWN` elsewhere.
        classes: the names of the labels.
        meter: where every label that the oracle gives is counted.
        ids: what each item is called in tables, such as the number of its row.
        files: where each item lies that is a file of its own, which people are shown; else none.
    """

    def __init__(
        self,
        name: str,
        pool: AnyItems,
        given: np.ndarray,
        classes: tuple[str, ...],
        held: dict[str, AnyItems],
        oracle: Oracle,
        *,
        ids: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.pool = unlabelled(pool)
        self.given = given
        self.classes = classes
        self.metric = ACCURACY
        self.meter = Meter()
        self.ids = ids or tuple(map(str, range(len(pool))))
        self.files: tuple[Path, ...] = ()
        self._held, self._oracle = held, oracle

    @property
    def labelled(self) -> np.ndarray:
        """Places of the items whose label is given from the start."""
        return np.flatnonzero(self.given != UNKNOWN)

    @property
    def answered_by(self) -> str:
        """What a label is from that the oracle gives: "person", "program" or "asked"."""
        return self._oracle.kind

    def held(self, split: str) -> int:
        """Return how many items a split holds."""
        return len(self._held[split])

    def limited(self, train: int) -> Self:
        """Return the task with the given labels and the first unlabelled items, `train` in all."""
        order = np.argsort(self.given == UNKNOWN, kind="stable")  # those with labels first
        at = np.sort(order[: max(train, len(self.labelled))])
        bound = copy.copy(self)
        bound.pool, bound.given = self.pool.only(at), self.given[at]
        bound.ids = tuple(self.ids[place] for place in at)
        bound.files = tuple(self.files[place] for place in at) if self.files else ()
        bound._oracle = _Moved(self._oracle, at)
        return bound

    def prepared(self, model: Any) -> Any:
        """Return an encoder made for these items: their widths and statistics."""
        return model.made_for(self.pool)

    def features(self, encoder: Any) -> torch.Tensor:
        """Return the features [N, d] of the pool."""
        return features_of(encoder, self.pool)

    def ask(
        self,
        run: Run,
        name: str,
        places: np.ndarray,
        *,
        guesses: np.ndarray | None = None,
        classes: tuple[str, ...] | None = None,
        allow_new: bool = False,
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels [B] that the oracle gives, and the names of all classes; in a stage of its own.

        `UNKNOWN` stands for "not sure". Each item asked for counts as one label.

        Args:
            run: of the method.
            name: of the query, the only one of that name within the run.
            places: [B], within the pool.
            guesses: [B, C], what the model thinks, which a person is shown.
            classes: names so far; None are those of the task.
            allow_new: whether an answer may name another class, which is then added.

        Raises:
            BudgetSpent: so many labels are not in the budget; none is asked for.
            Waiting: a person has not answered yet.
            DataError: an answer that is no class.
        """
        known = classes or self.classes
        query = Query(
            name=name,
            places=np.asarray(places),
            classes=known,
            guesses=np.empty((0, 0)) if guesses is None else np.asarray(guesses),
            allow_new=allow_new,
        )
        said = self._answers(run, query)
        fresh = [one.removeprefix(NEW) for one in said if one.startswith(NEW)] if allow_new else []
        names = (*known, *(one for one in dict.fromkeys(fresh) if one not in known))
        codes = {label: code for code, label in enumerate(names)}
        plain = [one.removeprefix(NEW) if allow_new else one for one in said]
        wrong = next((one for one in plain if one and one not in codes), None)
        if wrong is not None:
            raise DataError(f"The answer {wrong!r} is none of the classes: {', '.join(names[:10])}.")
        return np.array([codes[one] if one else UNKNOWN for one in plain], dtype=np.int64), names

    def confirm(
        self,
        run: Run,
        name: str,
        places: np.ndarray,
        proposed: np.ndarray,
        classes: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """Return whether each item is of the class proposed for it: 1 yes, 0 no, `UNKNOWN` not sure: [B].

        A confirmation counts as one label; raises as `ask` does.
        """
        query = Query(
            name=name,
            places=np.asarray(places),
            classes=classes or self.classes,
            confirm=np.asarray(proposed),
        )
        meaning = {"yes": YES, "no": 0, "": UNKNOWN}
        return np.array([meaning[one] for one in self._answers(run, query)], dtype=np.int64)

    def _answers(self, run: Run, query: Query) -> list[str]:
        def asked() -> list[str]:
            if not len(query.places):
                return []
            self.meter.charge(oracle_labels=len(query.places))
            return self._oracle.answers(query, run.directory)

        return run.stage(f"labels-{query.name}", asked)

    def evaluate(self, model: Any, *, split: str = "test", limit: int | None = None) -> Measured:
        """Return whether each of the first `limit` items of a split is told right; None is all.

        Args:
            model: an encoder, whose features are probed, or a classifier with `classify(items)`.
            split: "test", or "validation", which a method may look at.
            limit: how many items.
        """
        require_held(split)
        held = self._held[split].only(slice(limit))
        if not len(held):  # a file with few labels may have none to validate on
            return Measured(())
        right = self._told(model, held) == held.labels
        return Measured(tuple(right.astype(float).tolist()))

    def _told(self, model: Any, items: AnyItems) -> np.ndarray:
        if isinstance(model, ImageClassifier):
            return items.mapped(lambda pixels, _: model.classify(pixels)).numpy()  # type: ignore[union-attr]
        if hasattr(model, "classify"):
            return model.classify(items).numpy()
        return self.probe(model).predict(features_of(model, items)).numpy()

    def probe(self, encoder: Any) -> LinearProbe:
        """Return a linear classifier of the encoder's features, fitted on the given labels alone."""
        at = self.labelled
        features = features_of(encoder, self.pool.only(at))
        return linear_probe(features, torch.from_numpy(self.given[at]), len(self.classes))

    def label_table(
        self,
        labels: np.ndarray,
        confidence: np.ndarray,
        sources: Iterable[str],
        *,
        classes: tuple[str, ...] = (),
        suspect: np.ndarray | None = None,
    ) -> LabelTable:
        """Return a label of each item of the pool as a table; see `LabelTable`.

        Args:
            labels: [N]; `UNKNOWN` where there is none.
            confidence: [N], from 0 to 1.
            sources: [N], where each label is from.
            classes: names; none are those of the task.
            suspect: [N], how likely a given label is wrong.
        """
        return LabelTable(
            ids=self.ids,
            shown=tuple(shown(self.pool, place) for place in range(len(self.pool))),
            labels=labels,
            confidence=confidence,
            sources=tuple(sources),
            classes=classes or self.classes,
            suspect=suspect,
        )

    def look(self, before: Any, after: Any, parts: dict[str, Any]) -> dict[str, Any]:
        """Return the map of held-out items in the features before and after, where training moved them."""
        held = self._held["test"].only(slice(SHOWN))
        if len(held) < 2 or not hasattr(after, "encoder"):
            return {"metrics": {}, "pictures": []}
        first, second = features_of(before, held), features_of(after, held)
        if first.shape == second.shape and torch.equal(first, second):
            return {"metrics": {}, "pictures": []}
        return {
            "metrics": {},
            "pictures": [embedding_map(first.numpy(), second.numpy(), held.labels, self.classes)],
        }


def require_given(task: PoolTask) -> None:
    """Refuse a task that gives no label of a class.

    Raises:
        DataError: names the classes.
    """
    had = set(task.given[task.labelled].tolist())
    missing = [name for code, name in enumerate(task.classes) if code not in had]
    if missing or len(task.classes) < 2:
        raise DataError(
            f"No label is given of {', '.join(map(repr, missing[:5]))}: give one example of each class, of "
            "two classes or more, before others are asked for."
            if missing
            else f"There is one class, {task.classes[0]!r}: give labels of two or more."
        )


class _Moved:
    """An oracle of a pool of which some items were taken."""

    def __init__(self, oracle: Oracle, at: np.ndarray) -> None:
        self._oracle, self._at, self.kind = oracle, at, oracle.kind

    def answers(self, query: Query, directory: Path) -> list[str]:
        """Ask for the same items by their places in the whole pool."""
        moved = Query(**{**query.__dict__, "places": self._at[query.places]})
        return self._oracle.answers(moved, directory)


def pool_task(
    name: str,
    splits: dict[str, AnyItems],
    *,
    labels: int,
    draw: int = 0,
    train: int = 0,
    test: int = 0,
    enrolled: int = 0,
) -> PoolTask:
    """Return the task of a set whose labels are all known, most of which are hidden behind the oracle.

    Args:
        name: of the specification, without fields.
        splits: "train", "validation" and "test".
        labels: labels given at the start, of each class as many as of the others or one more; 0 is all.
        draw: names which items are drawn and which of them are labelled.
        train: items of the pool, drawn from the training split; 0 is all.
        test: test items, the first ones; 0 is all.
        enrolled: classes that the task knows, the first ones; items of the others stay in the pool, and the
            oracle calls them new. 0 is all.

    Raises:
        UsageError: numbers that the set does not have.
    """
    given_fields = {"labels": labels, "draw": draw, "train": train, "test": test, "enrolled": enrolled}
    fields = "&".join(
        f"{field}={value}" for field, value in given_fields.items() if value or field == "labels"
    )
    whole = splits["train"]
    if train:
        if not 0 < train <= len(whole):
            raise UsageError(f"train={train} must be from 1 to {len(whole)}, the training items of {name!r}.")
        at = generator("pool", name, draw).permutation(len(whole))[:train]
        whole = whole.only(np.sort(at))
    classes = whole.classes
    if enrolled and not 2 <= enrolled < len(classes):
        raise UsageError(
            f"enrolled={enrolled} must be from 2 to {len(classes) - 1}, one class less than all."
        )
    known = classes[: enrolled or len(classes)]
    given = np.full(len(whole), UNKNOWN)
    of_known = np.where(whole.labels < len(known), whole.labels, UNKNOWN)
    count = labels or int((of_known != UNKNOWN).sum())
    at = balanced_places(of_known, count, draw, name)
    given[at] = whole.labels[at]
    held: dict[str, AnyItems] = {}
    for split in ("validation", "test"):
        judged = splits[split].only(np.flatnonzero(splits[split].labels < len(known)))
        held[split] = judged.only(slice(test or None)) if split == "test" else judged
    return PoolTask(f"{name}?{fields}", whole, given, known, held, HiddenLabels(whole.labels, classes))
