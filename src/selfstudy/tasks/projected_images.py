"""projected-images - learn a new classification from examples in the context, thousands of them from one set.

`projected-images?base=digits&classes=5&tasks=65536&context=30&bias=0.5`. Each sequence shows examples of one
task: a random projection and a random order of the labels (Kirsch et al. 2022, arXiv 2212.04458). A model is
judged by the label of the last example, on tasks and images that it was not trained on.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator
from selfstudy.data.labelled_images import LabelledSet, labelled_set
from selfstudy.data.projected_tasks import FIRST_TEST_ID, FIRST_VALIDATION_ID, MOST_TASKS, TaskAugmenter
from selfstudy.evaluation.in_context_curves import Phase, phase, right_by_position
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.models.in_context.sequences import SequenceModel
from selfstudy.tasks.sampled import SampledTask

CHUNK = 256  # sequences that a model reads at once in an evaluation
CURVE_ITEMS = 512  # sequences of an accuracy curve


class Sequences(NamedTuple):
    """Examples of B tasks, in sequences of L = N + 1."""

    ids: np.ndarray  # [B], of the tasks
    inputs: torch.Tensor  # [B, L, m'], projected
    labels: torch.Tensor  # [B, L], permuted


class ProjectedImages(SampledTask):
    """Sequences of projected examples; test and validation have tasks, images and streams of their own.

    Args:
        name: the specification.
        base: the examples, standardised, with labels 0 .. C - 1.
        augmenter: makes tasks of them.
        context: N, examples before the one to tell.
        items: sequences of an evaluation.
        seed: of the evaluation's streams.
        seen_tasks: evaluate on the tasks trained on.
        seen_images: evaluate on the images trained on.
        rest: the other labels of the same set, of which nothing is trained on; None where there are too few.

    Raises:
        UsageError: more labels than classes, or a context of no example.
        DataError: too few examples for a sequence.
    """

    def __init__(
        self,
        name: str,
        base: LabelledSet,
        augmenter: TaskAugmenter,
        *,
        context: int,
        items: int,
        seed: int = 0,
        seen_tasks: bool = False,
        seen_images: bool = False,
        rest: LabelledSet | None = None,
    ) -> None:
        super().__init__(name, ACCURACY, items)
        if context < 1 or items < 1:
            raise UsageError(f"context is {context} and items {items}; both must be at least 1.")
        if len(base.labels) > augmenter.classes:
            raise UsageError(
                f"The set {base.name!r} has {len(base.labels)} labels, more than the {augmenter.classes} "
                "classes of the task. Choose some of them, or raise classes."
            )
        for split, examples in base.splits.items():
            if len(examples.labels) <= context:
                raise DataError(
                    f"The split {split} of {base.name!r} has {len(examples.labels)} examples, too few for "
                    f"sequences of {context + 1}. Give more examples, or a shorter context."
                )
        self.base, self.augmenter, self.context, self.seed, self.rest = base, augmenter, context, seed, rest
        self.seen_tasks, self.seen_images = seen_tasks, seen_images

    def batch(
        self, size: int, rng: np.random.Generator, *, tasks: int | None = None, length: int | None = None
    ) -> Sequences:
        """Draw sequences to train on: tasks and images each with replacement.

        Args:
            size: B.
            rng: where from.
            tasks: of the first so many tasks; None is all, T.
            length: of the sequences; None is N + 1.
        """
        ids = rng.integers(tasks or self.augmenter.tasks, size=size)
        train = self.base.splits["train"]
        places = rng.integers(len(train.labels), size=(size, length or self.context + 1))
        return self._show(ids, "train", places, bias=None)

    def sequences(
        self, count: int, split: str, *, seen_tasks: bool | None = None, seen_images: bool | None = None
    ) -> Sequences:
        """Return sequences to evaluate on, the same at every call; no example occurs twice in a sequence.

        Args:
            count: how many; the first of more are the same.
            split: "test" or "validation".
            seen_tasks: of tasks trained on, biased as they are; None is the task's own switch. New tasks have
                all orders of the labels alike.
            seen_images: images trained on; None is the task's own switch.
        """
        seen_tasks = self.seen_tasks if seen_tasks is None else seen_tasks
        seen_images = self.seen_images if seen_images is None else seen_images
        images = "train" if seen_images else split
        name = ("projected images", self.base.name, self.seed, split, seen_tasks, seen_images)
        first = FIRST_TEST_ID if split == "test" else FIRST_VALIDATION_ID
        ids = generator(*name, "ids").integers(self.augmenter.tasks if seen_tasks else MOST_TASKS, size=count)
        rng, n = generator(*name, "images"), len(self.base.splits[images].labels)
        places = np.stack(
            [rng.choice(n, self.context + 1, replace=False, shuffle=True) for _ in range(count)]
        )
        return self._show(
            ids if seen_tasks else first + ids, images, places, bias=None if seen_tasks else 0.0
        )

    def _show(self, ids: np.ndarray, split: str, places: np.ndarray, bias: float | None) -> Sequences:
        inputs, labels = (torch.from_numpy(values[places]) for values in self.base.splits[split])
        return Sequences(ids, *self.augmenter(ids, inputs, labels, bias=bias))

    def measure(self, model: SequenceModel, split: str, count: int) -> list[float]:
        """Return 1 for each sequence whose last label the model tells, else 0."""
        self.require_fit(model)
        return right(model, self.sequences(count, split))[:, -1].tolist()

    def accuracy_curve(
        self,
        model: SequenceModel,
        split: str = "validation",
        *,
        seen_tasks: bool | None = None,
        seen_images: bool | None = None,
        count: int = CURVE_ITEMS,
    ) -> list[float]:
        """Return accuracy at each position, 1 to N + 1; see `sequences`."""
        drawn = self.sequences(count, split, seen_tasks=seen_tasks, seen_images=seen_images)
        return right(model, drawn).mean(0).tolist()

    def phase(self, model: SequenceModel, split: str = "validation", count: int = CURVE_ITEMS) -> Phase:
        """Return what the model has become: "fail", "memorise", "identify" or "learn".

        Seen tasks come with seen images, as they were trained on, new tasks with new images.
        """
        seen = self.accuracy_curve(model, split, seen_tasks=True, seen_images=True, count=count)
        unseen = self.accuracy_curve(model, split, seen_tasks=False, seen_images=False, count=count)
        return phase(seen, unseen, self.augmenter.classes)

    def with_tasks(self, tasks: int) -> ProjectedImages:
        """Return the same with another number of tasks, T."""
        other = copy.copy(self)
        other.augmenter = TaskAugmenter(**{**vars(self.augmenter), "tasks": tasks})
        return other

    def on(self, data: LabelledSet) -> ProjectedImages:
        """Return the same kind of sequences of other examples, projected to the same length.

        Raises:
            UsageError: more labels than classes.
        """
        augmenter = TaskAugmenter(**{**vars(self.augmenter), "features": data.features, "identity": False})
        return ProjectedImages(
            f"{self.name} on {data.name}",
            data.standardised(),
            augmenter,
            context=self.context,
            items=self.items,
            seed=self.seed,
        )

    def require_fit(self, model: SequenceModel) -> None:
        """Refuse a model that cannot read the sequences.

        Raises:
            UsageError: another length of inputs or number of classes, or a context longer than its positions.
        """
        if not isinstance(model, SequenceModel):
            given = getattr(model, "name", type(model).__name__)
            raise UsageError(
                f"The task {self.name!r} needs a sequence model, not {given!r}. Give --model "
                "sequence-transformer, sequence-lstm, sequence-fast-weights or sequence-mlp."
            )
        if (model.inputs, model.classes) != (self.augmenter.inputs, self.augmenter.classes):
            raise UsageError(
                f"The model {model.name!r} takes {model.inputs} inputs and {model.classes} classes, the task "
                f"{self.augmenter.inputs} and {self.augmenter.classes}. Make both the same."
            )
        if self.context >= model.positions:
            raise UsageError(
                f"The context of {self.context} examples and the one to tell are longer than the "
                f"{model.positions} positions of the model {model.name!r}. Give the model "
                f"positions={self.context + 1}, or the task a context of at most {model.positions - 1}."
            )


def right(model: SequenceModel, sequences: Sequences) -> torch.Tensor:
    """Return which labels the model tells, 1 or 0: [B, L]."""
    with torch.inference_mode():
        parts = [
            right_by_position(model(inputs, labels), labels)
            for inputs, labels in zip(
                sequences.inputs.split(CHUNK), sequences.labels.split(CHUNK), strict=True
            )
        ]
    return torch.cat(parts).float()


def projected_images(
    *,
    base: str = "digits",
    label: str = "label",
    labels: str = "",
    classes: int = 5,
    tasks: int = 65536,
    context: int = 30,
    inputs: int = 64,
    bias: float = 0.5,
    identity: bool = False,
    by: str = "all",
    items: int = 512,
    seed: int = 0,
    seen_tasks: bool = False,
    seen_images: bool = False,
) -> ProjectedImages:
    """Make the task.

    Args:
        base: digits, fashion-mnist, wine, breast-cancer, iris, clusters, or a .csv or .parquet file.
        label: of a file, the column of the labels.
        labels: those trained on, separated by commas; the first `classes` where empty.
        classes: C, the labels that a model can tell apart.
        tasks: T, the number of projections and orders of the labels trained on.
        context: N, labelled examples before the one to tell.
        inputs: m', the length of a projected example.
        bias: p, the share of tasks that keep the order of the labels; new tasks never do.
        identity: whether the first task leaves examples as they are.
        by: "all" standardises with one mean and deviation, as for pixels; "column" each feature by itself.
        items: test sequences.
        seed: gives other tasks to the same numbers, and other test sequences.
        seen_tasks: judge on the tasks trained on.
        seen_images: judge on the images trained on.

    Raises:
        UsageError: fields that cannot be right.
        DataError: data that is not there or cannot be used.
    """
    given = locals()
    if by not in ("all", "column"):
        raise UsageError(f"by={by} is unknown: take 'all' or 'column'.")
    if classes < 2 or inputs < 1:
        raise UsageError(f"classes is {classes} and inputs {inputs}; they must be at least 2 and 1.")
    data = labelled_set(base, label=label)
    chosen = [word.strip() for word in labels.split(",")] if labels else data.labels[:classes]
    others = [word for word in data.labels if word not in chosen][:classes]
    rest = data.only(others).standardised(by) if len(others) == classes else None
    augmenter = TaskAugmenter(
        features=data.features,
        inputs=inputs,
        classes=classes,
        tasks=tasks,
        bias=bias,
        identity=identity,
        seed=seed,
    )
    return ProjectedImages(
        _name(given),
        data.only(chosen).standardised(by),
        augmenter,
        context=context,
        items=items,
        seed=seed,
        seen_tasks=seen_tasks,
        seen_images=seen_images,
        rest=rest,
    )


def _name(given: dict[str, object]) -> str:
    defaults = projected_images.__kwdefaults__ or {}
    fields = "&".join(f"{field}={value}" for field, value in given.items() if value != defaults[field])
    return f"projected-images?{fields}" if fields else "projected-images"
