"""GPICL: train a sequence model on thousands of small classifications until it is a learning algorithm.

Kirsch, Harrison, Sohl-Dickstein, Metz 2022, "General-Purpose In-Context Learning by Meta-Learning
Transformers", arXiv 2212.04458. Every task is a random projection of the images of one set with a random
order of the labels. With few tasks the model memorises them; with many it learns to learn: it reads labelled
examples of a set it has never seen and tells the next label, with no gradient step. Pick it to see memorising
turn into learning, or to get such a classifier for small problems. To classify one set with plenty of labels,
train a classifier on it; with few, nearest neighbours need no training beforehand.

Deviations from the paper: keys are smeared over two tokens (Olsson et al. 2022, arXiv 2209.11895) unless the
model says smear=false, and images have 8 x 8 pixels, so that the loss leaves its plateau within minutes on
one core; sequences to evaluate on hold no example twice; whether a task keeps the order of the labels (the
bias) is a function of its id, not of the batch; the MLP reads the examples up to a position behind zeros, one
position at a time with the same weights; fast weights are written by the delta rule; MAML is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.labelled_images import labelled_set
from selfstudy.evaluation.in_context_curves import learned, phase, plateau_left, smoothed
from selfstudy.evaluation.in_context_pictures import Cell, in_context_pictures
from selfstudy.learning.loops import check_not_negative, check_positive, update
from selfstudy.learning.meta_training import MetaTrained, Trace, sequence_loss
from selfstudy.models.in_context.sequences import SequenceModel
from selfstudy.tasks.projected_figures import examples, figures
from selfstudy.tasks.projected_images import ProjectedImages, Sequences, right

SMOOTHED = 20  # steps whose mean loss tells that the plateau is left
CELL_SEQUENCES = 256  # of each accuracy in the map


@dataclass(frozen=True, kw_only=True)
class Gpicl(Method):
    """Meta-train a sequence model to learn in its context, and map when it does (Kirsch et al. 2022)."""

    works_on = (ProjectedImages, SequenceModel)

    steps: int = 1200
    """Optimiser steps (the paper: tens of thousands)."""
    batch: int = 32
    """Sequences a step; more shorten the plateau (the paper: 128 to 1,024 and above)."""
    learning_rate: float = 1e-3
    """Of Adam, after the warm-up."""
    warmup: int = 200
    """Steps over which the learning rate rises."""
    epsilon: float = 1e-10
    """Of Adam; gradients on the plateau are tiny, and 1e-8 slows them down."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    curriculum: Literal["none", "tasks", "length"] = "none"
    """What grows over the first half of the steps: the number of tasks, or the length of sequences."""
    looks: int = 20
    """Times that accuracy by position is measured on the way."""
    items: int = 512
    """Validation sequences of each measurement."""
    elsewhere: str = "clusters"
    """Sets to try the model on that it was never trained on: names or files, separated by commas."""
    map_tasks: tuple[int, ...] = (16, 512, 65536)
    """Numbers of tasks in the transition map; none of them and of the widths, no map."""
    map_widths: tuple[int, ...] = (16, 64)
    """Widths of the models in the map."""
    map_steps: int = 1000
    """Optimiser steps of each model in the map."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, batch=0, looks=0, items=0, map_steps=0)
        check_not_negative(self, "warmup")
        if not all(0 < value < math.inf for value in (self.learning_rate, self.epsilon, self.clip)):
            raise UsageError("learning_rate, epsilon and clip must be above 0.")
        if bool(self.map_tasks) != bool(self.map_widths) or min((*self.map_tasks, *self.map_widths, 1)) < 1:
            raise UsageError(
                f"map_tasks is {self.map_tasks} and map_widths {self.map_widths}: give numbers of at least 1 "
                "for both, or leave both empty for no map."
            )

    def cost(self, task: ProjectedImages, model: SequenceModel) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        trainings = [(self.steps, model), *((self.map_steps, start) for _, start in self._cells(task, model))]
        spent = [(steps, self._step_cost(task, start)) for steps, start in trainings]
        return {unit: sum(steps * cost[unit] for steps, cost in spent) for unit in ("samples", "flops")}

    def trial(self, task: ProjectedImages, model: SequenceModel) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes; the map's count by their arithmetic."""
        task.require_fit(model)
        learner = model.copy()
        optimizer = self._optimizer(learner)
        drawn = task.batch(self.batch, np.random.default_rng(0))
        steps = self.cost(task, model)["flops"] / self._step_cost(task, model)["flops"]
        return lambda: self._step(learner, optimizer, drawn, 0), round(steps)

    def fit(self, task: ProjectedImages, model: SequenceModel, run: Run) -> Fit:
        """Meta-train `model` on `task`, and models of other widths on other numbers of tasks for the map."""
        task.require_fit(model)
        elsewhere = self._elsewhere(task)
        cells = self._cells(task, model)

        trained = run.stage("learner", lambda: self.meta_train(task, model, run))
        rows = run.stage("figures", lambda: figures(task, elsewhere, trained.model, count=self.items))
        transitions = [
            Cell(**run.stage(f"map-{at.augmenter.tasks}-{start.width}", partial(self._cell, at, start, run)))
            for at, start in cells
        ]

        classes = task.augmenter.classes
        left = self._plateau(trained.trace, classes)
        named = {f"{row['on']}{row['by'] and ': '}{row['by']}": row for row in rows}
        metrics: dict[str, Any] = {name: self._metric(task, row) for name, row in named.items()}
        metrics["phase"] = task.phase(trained.model, count=self.items)
        metrics["plateau_left_at"] = left
        metrics["accessible_state"] = trained.model.accessible_state(task.context)
        metrics["map"] = [asdict(cell) for cell in transitions]
        pictures = in_context_pictures(
            trained.trace, rows, transitions, examples(task), classes=classes, left=left
        )
        return Fit(model=trained.model, metrics=metrics, pictures=pictures)

    def meta_train(
        self,
        task: ProjectedImages,
        model: SequenceModel,
        run: Run,
        *,
        steps: int | None = None,
        looks: bool = True,
    ) -> MetaTrained:
        """Train a copy of `model` on batches of sequences, each of a task drawn anew.

        Args:
            task: gives the sequences.
            model: where it starts; left as it is.
            run: within a stage of its own.
            steps: in place of the field.
            looks: whether to measure on the way, and to log.
        """
        learner, trace, steps = model.copy(), Trace(), steps or self.steps
        optimizer = self._optimizer(learner)
        state: dict[str, Stateful] = {"model": learner, "optimizer": optimizer, "trace": trace}
        every = max(1, steps // self.looks)
        for step in run.steps(steps, state=state, desc="meta-train", cost=self._step_cost(task, model)):
            if looks and step % every == 0:
                trace.looks.append(self._look(task, learner, step))
            drawn = task.batch(self.batch, run.rng("batch", step), **self._grown(task, step / steps))
            trace.losses.append(self._step(learner, optimizer, drawn, step))
            if looks:
                run.log(step=step, loss=trace.losses[-1])
        if looks:
            trace.looks.append(self._look(task, learner, len(trace.losses)))
        return MetaTrained(learner, trace)

    def _optimizer(self, learner: SequenceModel) -> torch.optim.Adam:
        return torch.optim.Adam(learner.parameters(), lr=0.0, eps=self.epsilon, fused=True)

    def _step(
        self, learner: SequenceModel, optimizer: torch.optim.Adam, drawn: Sequences, step: int
    ) -> float:
        loss = sequence_loss(learner, drawn.inputs, drawn.labels)
        loss.backward()
        update(optimizer, self.learning_rate * min(1.0, (step + 1) / (self.warmup + 1)), self.clip)
        return loss.item()

    def _step_cost(self, task: ProjectedImages, model: SequenceModel) -> dict[str, float]:
        return {"samples": self.batch, "flops": 6.0 * model.weights * self.batch * (task.context + 1)}

    def _grown(self, task: ProjectedImages, progress: float) -> dict[str, int]:
        """Return the sizes of a batch at a share of the training, as the curriculum has them."""
        share = min(1.0, 2 * progress)
        if self.curriculum == "tasks":
            return {"tasks": round(task.augmenter.tasks**share)}
        if self.curriculum == "length":
            return {"length": 2 + int(share * (task.context - 1))}
        return {}

    def _look(self, task: ProjectedImages, learner: SequenceModel, step: int) -> dict[str, Any]:
        new = task.sequences(self.items, "validation", seen_tasks=False, seen_images=False)
        with torch.inference_mode():
            loss = float(sequence_loss(learner, new.inputs, new.labels))
        seen = task.accuracy_curve(learner, seen_tasks=True, seen_images=True, count=self.items)
        return {"step": step, "loss": loss, "seen": seen, "new": right(learner, new).mean(0).tolist()}

    def _elsewhere(self, task: ProjectedImages) -> dict[str, ProjectedImages]:
        """Return what the model is never trained on, by name; of sets with many labels the first C."""
        others = {} if task.rest is None else {f"other labels of {task.base.name}": task.rest}
        for name in filter(None, map(str.strip, self.elsewhere.split(","))):
            data = labelled_set(name)
            others[data.name] = data.only(data.labels[: task.augmenter.classes])
        return {name: task.on(data) for name, data in others.items()}

    def _cells(
        self, task: ProjectedImages, model: SequenceModel
    ) -> list[tuple[ProjectedImages, SequenceModel]]:
        """Return the tasks and untrained models of the map."""
        return [
            (task.with_tasks(tasks), type(model)(**{**model.config, "width": width}))
            for tasks in self.map_tasks
            for width in self.map_widths
        ]

    def _cell(self, task: ProjectedImages, start: SequenceModel, run: Run) -> dict[str, Any]:
        trained = self.meta_train(task, start, run, steps=self.map_steps, looks=False)
        seen, new = (
            task.accuracy_curve(trained.model, seen_tasks=known, seen_images=known, count=CELL_SEQUENCES)
            for known in (True, False)
        )
        cell = Cell(
            tasks=task.augmenter.tasks,
            width=start.width,
            state=start.accessible_state(task.context),
            seen=seen,
            new=new,
            phase=phase(seen, new, task.augmenter.classes),
        )
        return asdict(cell)

    @staticmethod
    def _plateau(trace: Trace, classes: int) -> int | None:
        return plateau_left(range(len(trace.losses)), smoothed(trace.losses, SMOOTHED), classes)

    @staticmethod
    def _metric(task: ProjectedImages, row: dict[str, Any]) -> dict[str, Any]:
        by_model = {} if row["by"] else {"first": row["curve"][0], "gain": learned(row["curve"])}
        return task.metric.row(row["last"], **by_model)
