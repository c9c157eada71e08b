"""Pools whose labels are all given and partly wrong: `noisy:fashion-mnist?rate=0.5&outside=0.7`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.image_sets import SETS, UNKNOWN, image_splits
from selfstudy.data.library import VARIABLE, library_file
from selfstudy.data.oracles import HiddenLabels
from selfstudy.data.text_sets import NAMES, text_splits
from selfstudy.evaluation.noise_detection import detection_found
from selfstudy.tasks.pools import AnyItems, PoolTask

SYMMETRIC, ASYMMETRIC = "symmetric", "asymmetric"
RATE, OUTSIDE = 0.5, 0.7  # unless told
LEFT_OUT = 2  # classes, whose items are those out of distribution
# Kinds of human labels, and what the file of CIFAR-10N calls them.
HUMAN = {"worst": "worse_label", "aggre": "aggre_label", "random1": "random_label1"}
HUMAN_SET, HUMAN_FILE = "cifar10", "cifar_n/cifar10_subset_train_human.npz"


class NoisyPool(PoolTask):
    """A pool of which every item has a label, and nobody knows which of them are wrong.

    Which they are is hidden behind the oracle, and told of after the training alone.
    """

    def __init__(
        self,
        name: str,
        pool: AnyItems,
        given: np.ndarray,
        truth: np.ndarray,
        classes: tuple[str, ...],
        held: dict[str, AnyItems],
    ) -> None:
        super().__init__(name, pool, given, classes, held, HiddenLabels(truth, classes))
        self._truth = truth  # UNKNOWN for what is of no class; for what is told after training alone

    def limited(self, train: int) -> Self:
        """Return the task with the first `train` items."""
        bound = super().limited(train)
        at = np.arange(min(len(self.pool), train))
        bound.pool, bound.given, bound.ids = self.pool.only(at), self.given[at], self.ids[: len(at)]
        bound._truth = self._truth[at]
        return bound

    def look(self, before: Any, after: Any, parts: dict[str, Any]) -> dict[str, Any]:
        """Return what there is to say of the features, and how well the wrong labels were found.

        Args:
            before: the untrained encoder.
            after: the trained one.
            parts: what else the method gave. One like a `SampleTable`, with `suspect`, `noisy`, `history` and
                `epochs`, is held against the truth.
        """
        found = super().look(before, after, parts)
        wrong, outside = self._truth != self.given, self._truth == UNKNOWN
        metrics = {
            **found["metrics"],
            "labels wrong": float(wrong.mean()),
            "items of no class": float(outside.mean()),
        }
        pictures = list(found["pictures"])
        for part in parts.values():
            if hasattr(part, "history"):
                told = detection_found(part, wrong, outside)
                metrics |= told["metrics"]
                pictures += told["pictures"]
        return {"metrics": metrics, "pictures": pictures}


def noisy(
    name: str,
    *,
    kind: str = SYMMETRIC,
    rate: float | None = None,
    outside: float | None = None,
    draw: int = 0,
    train: int = 0,
    test: int = 0,
) -> NoisyPool:
    """Return a set of images or texts with wrong labels among those to learn from; held-out ones are right.

    Args:
        name: of the set.
        kind: of the noise: "symmetric", any other class; "asymmetric", the next class; or, of cifar10, labels
            that people gave: "worst", "aggre" or "random1" of CIFAR-10N.
        rate: share of wrong labels, 0.5 unless told.
        outside: share of them that are on items of no class at all, 0.7 unless told: items of the last two
            classes of the set, which the task does not know, with random labels. 0 leaves no class out.
        draw: names which items are drawn, and what is wrong with them.
        train: items to learn from; 0 is as many as there are.
        test: test items, the first ones; 0 is all.

    Raises:
        UsageError: no such set or kind, or numbers that the set does not have.
        DataError: the human labels are not on this machine.
    """
    if name not in (*SETS, *NAMES):
        raise UsageError(f"There is no set {name!r} to make noisy. {nearest(name, [*SETS, *NAMES])}")
    if kind not in (SYMMETRIC, ASYMMETRIC, *HUMAN):
        raise UsageError(
            f"kind={kind} must be {SYMMETRIC}, {ASYMMETRIC}, or of {HUMAN_SET} {', '.join(HUMAN)}."
        )
    if kind in HUMAN and (name != HUMAN_SET or rate is not None or outside is not None):
        raise UsageError(
            f"kind={kind} is labels that people gave to {HUMAN_SET}: take noisy:{HUMAN_SET}?kind={kind}, "
            "without rate and outside."
        )
    splits: dict[str, Any] = dict(image_splits(name) if name in SETS else text_splits(name))
    if test:
        splits["test"] = splits["test"].only(slice(test))
    if kind in HUMAN:
        fields = {"kind": kind, "draw": draw, "train": train, "test": test}
        drawn = _people(splits["train"], kind, draw, train)
    else:
        rate = RATE if rate is None else rate
        outside = OUTSIDE if outside is None else outside
        fields = {"kind": kind, "rate": rate, "outside": outside, "draw": draw, "train": train, "test": test}
        drawn = _made(name, splits["train"], kind, rate, outside, draw, train)
    shown = "&".join(
        f"{field}={value}" for field, value in fields.items() if value or field in ("rate", "outside")
    )
    held = {split: _of_classes(splits[split], drawn.classes) for split in ("validation", "test")}
    return NoisyPool(
        f"noisy:{name}?{shown}",
        splits["train"].only(drawn.places),
        drawn.given,
        drawn.truth,
        splits["train"].classes[: drawn.classes],
        held,
    )


class _Drawn(NamedTuple):
    """Places of items [N], labels, the truth (UNKNOWN: of no class), and how many classes are known."""

    places: np.ndarray
    given: np.ndarray
    truth: np.ndarray
    classes: int


def _made(
    name: str, items: AnyItems, kind: str, rate: float, outside: float, draw: int, train: int
) -> _Drawn:
    if not (0 <= rate < 1 and 0 <= outside <= 1):
        raise UsageError(f"rate={rate} must be from 0 to below 1, and outside={outside} from 0 to 1.")
    classes = len(items.classes) - (LEFT_OUT if rate and outside else 0)
    if classes < 2:
        raise UsageError(
            f"{name!r} has {len(items.classes)} classes, too few to leave {LEFT_OUT} out: take outside=0."
        )
    inside = np.flatnonzero(items.labels < classes)
    beyond = np.flatnonzero(items.labels >= classes)
    most = len(inside) / (1 - rate * outside)
    if rate * outside:
        most = min(most, len(beyond) / (rate * outside))
    count = train or int(most)
    if not 2 <= count <= most:
        raise UsageError(f"train={train} must be from 2 to {int(most)}, what {name!r} has at this noise.")
    wrong = round(rate * count)
    strangers = round(outside * wrong)
    rng = generator("noisy", name, kind, draw)
    chosen_in = rng.permutation(inside)[: count - strangers]
    chosen_out = rng.permutation(beyond)[:strangers]
    labels = items.labels[chosen_in]
    steps = (
        rng.integers(1, classes, len(labels)) if kind == SYMMETRIC else np.ones(len(labels), dtype=np.int64)
    )
    flipped = np.arange(len(labels)) < wrong - strangers  # they are in a random order already
    given_in = np.where(flipped, (labels + steps) % classes, labels)
    given = np.concatenate([given_in, rng.integers(0, classes, strangers)])
    truth = np.concatenate([labels, np.full(strangers, UNKNOWN)])
    places = np.concatenate([chosen_in, chosen_out])
    order = np.argsort(places, kind="stable")
    return _Drawn(places[order], given[order], truth[order], classes)


def _people(items: AnyItems, kind: str, draw: int, train: int) -> _Drawn:
    path = library_file(HUMAN_FILE)
    if path is None:
        raise DataError(
            f"The human labels of {HUMAN_SET} are not on this machine: set ${VARIABLE} to a folder that "
            f"holds {HUMAN_FILE}, with {', '.join(HUMAN.values())} (UCSC-REAL/cifar-10-100n)."
        )
    with np.load(path, allow_pickle=False) as data:
        said = data[HUMAN[kind]].astype(np.int64)[: len(items)]
    if not 0 <= train <= len(items):
        raise UsageError(f"train={train} must be from 0, all, to {len(items)}.")
    places = np.sort(generator("noisy", HUMAN_SET, draw).permutation(len(items))[: train or len(items)])
    return _Drawn(places, said[places], items.labels[places], len(items.classes))


def _of_classes(items: AnyItems, classes: int) -> AnyItems:
    kept = items.only(np.flatnonzero(items.labels < classes))
    return replace(kept, classes=items.classes[:classes])


def require_noisy(task: PoolTask) -> None:
    """Refuse tasks without labels to doubt, or whose items cannot be told apart.

    Raises:
        DataError: fewer than two classes or labels, or two items of one name.
    """
    if len(task.classes) < 2 or len(task.labelled) < 2:
        raise DataError(
            f"{task.name} has {len(task.classes)} classes and {len(task.labelled)} given labels. Labels can "
            "be doubted where there are two of each or more; labels=0 gives all that there are."
        )
    twice = [name for name, count in Counter(task.ids).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} items of {task.name} share their name with another, such as {twice[0]!r}. What is "
            "found out about an item is kept by its name: give each its own."
        )
