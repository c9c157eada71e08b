"""Small sets of labelled examples as plain arrays: named ones, arrays of the user's, and tables.

Images are pooled to 8 x 8 and laid out as vectors. `digits`, `wine`, `breast-cancer` and `iris` come with
scikit-learn, and `clusters` is drawn; `fashion-mnist` and `cifar10` are files of `$SELFSTUDY_DATA`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.random import generator
from selfstudy.data.image_sets import read_archive
from selfstudy.data.readers import plain_text
from selfstudy.data.splits import SPLITS, TRAIN_END, VALIDATION_END
from selfstudy.data.tables import finite_numbers, kind_of, read_columns, require_column

SIDE = 8  # of pooled images
LARGEST = {"train": 12_000, "validation": 2_000, "test": 2_000}  # images read of a set that has more
EPSILON = 1e-6  # added to a standard deviation, so that constant pixels stay finite


class Examples(NamedTuple):
    """Inputs with their labels."""

    inputs: np.ndarray  # [n, m], float32
    labels: np.ndarray  # [n], int64, from 0


@dataclass(frozen=True)
class LabelledSet:
    """A set of labelled examples in splits that share none.

    Attributes:
        name: of the set.
        splits: examples by "train", "validation" and "test".
        labels: the names of the labels 0, 1, ...
        image: height and width of an input; (0, 0) where it is no image.
    """

    name: str
    splits: dict[str, Examples]
    labels: tuple[str, ...]
    image: tuple[int, int] = (0, 0)

    @property
    def features(self) -> int:
        """The length m of an input."""
        return self.splits["train"].inputs.shape[1]

    def only(self, chosen: Sequence[str]) -> LabelledSet:
        """Return the set with these labels alone, in this order.

        Raises:
            UsageError: a label that the set does not have, one named twice, or fewer than two.
        """
        for label in chosen:
            if label not in self.labels:
                raise UsageError(
                    f"The set {self.name!r} has no label {label!r}. {nearest(label, self.labels)}"
                )
        if len(set(chosen)) != len(chosen) or len(chosen) < 2:
            raise UsageError(f"Name two labels or more, each once, not {', '.join(chosen) or 'none'}.")
        place = np.full(len(self.labels), -1)
        place[[self.labels.index(label) for label in chosen]] = np.arange(len(chosen))
        kept = {
            split: Examples(examples.inputs[at], place[examples.labels[at]])
            for split, examples in self.splits.items()
            for at in [place[examples.labels] >= 0]
        }
        return LabelledSet(self.name, kept, tuple(chosen), self.image)

    def standardised(self, by: str = "all") -> LabelledSet:
        """Return the set less its mean and divided by its standard deviation, both of the training split.

        Args:
            by: "all" takes one mean and deviation of all numbers, as for pixels; "column" those of each.
        """
        train = self.splits["train"].inputs
        axis = 0 if by == "column" else None
        mean, deviation = train.mean(axis), train.std(axis) + EPSILON
        splits = {
            split: Examples(((examples.inputs - mean) / deviation).astype(np.float32), examples.labels)
            for split, examples in self.splits.items()
        }
        return LabelledSet(self.name, splits, self.labels, self.image)


def labelled_set(name: str, *, label: str = "label") -> LabelledSet:
    """Return a set by name, or of a table.

    Args:
        name: one of `SETS`, or the path of a .csv, .parquet or .jsonl file whose other columns are numbers.
        label: of a table, the column of the labels.

    Raises:
        UsageError: no set of that name.
        DataError: data that is not there or cannot be used.
    """
    if kind_of(Path(name)):
        return _table(Path(name), label)
    if name not in SETS:
        raise UsageError(
            f"There is no set of labelled examples {name!r}. {nearest(name, SETS)} Or give a .csv, "
            ".parquet or .jsonl file of numbers with a column of labels."
        )
    return SETS[name]()


def from_arrays(
    inputs: np.ndarray, labels: Sequence[object] | np.ndarray, *, name: str = "arrays"
) -> LabelledSet:
    """Return a set of the caller's examples, split 70/10/20 % in an order that does not depend on theirs.

    Args:
        inputs: [n, m], or images [n, h, w].
        labels: [n], of any kind.
        name: for reports.

    Raises:
        DataError: shapes that do not fit, numbers that are not finite, a single label, or too few examples.
    """
    inputs = np.asarray(inputs, dtype=np.float32)
    image = (inputs.shape[1], inputs.shape[2]) if inputs.ndim == 3 else (0, 0)
    inputs = inputs.reshape(len(inputs), -1) if inputs.ndim == 3 else inputs
    check_examples(inputs, labels, name)
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    order = generator("labelled set", len(inputs)).permutation(len(inputs))
    ends = [round(end * len(inputs)) for end in (TRAIN_END, VALIDATION_END)]
    parts = dict(zip(SPLITS, np.split(order, ends), strict=True))
    splits = {split: Examples(inputs[at], codes[at].astype(np.int64)) for split, at in parts.items()}
    return LabelledSet(name, splits, tuple(str(value) for value in names), image)


def check_examples(inputs: np.ndarray, labels: Sequence[object] | np.ndarray, name: str) -> None:
    """Refuse examples that nothing can be learned from.

    Raises:
        DataError: shapes that do not fit, numbers that are not finite, or a single label.
    """
    if inputs.ndim != 2 or len(inputs) != len(labels) or not inputs.size:
        raise DataError(
            f"{name} has inputs of shape {inputs.shape} and {len(labels)} labels; give inputs [n, m] and n "
            "labels."
        )
    bad = ~np.isfinite(inputs).all(1)
    if bad.any():
        raise DataError(
            f"{name} has {bad.sum()} inputs with numbers that are not finite, the first at row "
            f"{bad.argmax()}. Leave them out, or fill them in."
        )
    if len(set(np.asarray(labels).tolist())) < 2:
        raise DataError(f"{name} has a single label, so there is nothing to tell apart. Give two or more.")


def _table(path: Path, label: str) -> LabelledSet:
    columns = read_columns(str(path))
    require_column(str(path), label, columns)
    labels = [plain_text(cell) for cell in columns.pop(label)]
    if "" in labels:
        raise DataError(
            f"Row {labels.index('') + 1} of {path} has no label in the column {label!r}. Fill it in, or take "
            "the row out."
        )
    inputs = np.stack([finite_numbers(str(path), name, cells) for name, cells in columns.items()], 1)
    return from_arrays(inputs, labels, name=path.stem)


def _scikit_learn(name: str, loader: str, image: tuple[int, int] = (0, 0)) -> LabelledSet:
    import sklearn.datasets

    data = getattr(sklearn.datasets, loader)()
    inputs = data.data if image == (0, 0) else data.data.reshape(-1, *image)
    return from_arrays(inputs, data.target, name=name)


def clusters(*, classes: int = 10, features: int = 64, each: int = 100, spread: float = 1.0) -> LabelledSet:
    """Return examples that look like nothing: normal noise of deviation `spread` about normal centres."""
    random = generator("clusters", classes, features)
    centres = np.repeat(random.standard_normal((classes, features)), each, axis=0)
    noise = spread * random.standard_normal(centres.shape)
    return from_arrays(centres + noise, np.repeat(np.arange(classes), each), name="clusters")


def pooled(images: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Return images [n, h, w] or [n, h, w, 3] as vectors [n, side * side] of mean brightness, 0 to 1."""
    import torch

    pixels = torch.from_numpy(images).float() / 255
    grey = pixels.mean(-1) if pixels.dim() == 4 else pixels
    return torch.nn.functional.adaptive_avg_pool2d(grey[:, None], side).flatten(1).numpy()


@functools.cache
def _archive(name: str, folder: str, source: str) -> LabelledSet:
    """Read `train.npz` and `test.npz` of a folder; validation is what follows in the training file."""
    images, labels = read_archive(name, f"{folder}/train.npz", source)
    count = min(LARGEST["train"], len(images) * 6 // 7)
    places = {"train": slice(count), "validation": slice(count, count + LARGEST["validation"])}
    splits = {split: Examples(pooled(images[at]), labels[at]) for split, at in places.items()}
    images, labels = read_archive(name, f"{folder}/test.npz", source)
    splits["test"] = Examples(pooled(images[: LARGEST["test"]]), labels[: LARGEST["test"]])
    names = tuple(str(label) for label in range(int(splits["train"].labels.max()) + 1))
    return LabelledSet(name, splits, names, (SIDE, SIDE))


SETS: dict[str, Callable[[], LabelledSet]] = {
    "digits": lambda: _scikit_learn("digits", "load_digits", (8, 8)),
    "wine": lambda: _scikit_learn("wine", "load_wine"),
    "breast-cancer": lambda: _scikit_learn("breast-cancer", "load_breast_cancer"),
    "iris": lambda: _scikit_learn("iris", "load_iris"),
    "clusters": clusters,
    "fashion-mnist": lambda: _archive("fashion-mnist", "fashion_mnist", "zalando-datasets/fashion_mnist"),
}
