"""Transductive clustering: label a whole batch of items from a few labelled ones, without training.

Ziko, Boudiaf, Dolz, Granger, Ben Ayed 2021, "Transductive Few-Shot Learning: Clustering is All You Need?",
arXiv 2106.09516. Pick it when a good encoder is there, each class has one to ten labels, and items come in
batches in which classes are about as frequent. It takes seconds where training takes minutes. Against the
nearest mean of the labelled items (`prototypes fixed`, smoothness 0) it also uses where the other items lie.
Where the classes are no clusters of the features it is worse than that, and says so in its pictures: train a
classifier then, with hast or pseudo-label-pretraining.

Deviations from the paper: the mean that is taken off the features is that of the pool, as there are no base
classes; smoothness and sharpness are chosen on halves of the given labels in place of development classes;
the graph is made symmetric; the distance is multiplied by a sharpness T; the energy has half the smoothness,
which is the one that the authors' steps descend. The classifier that is saved keeps the prototypes found in
the pool and makes each new batch smooth around them; it does not move them again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.items import require_finite
from selfstudy.data.label_table import GIVEN, PREDICTED, LabelTable
from selfstudy.evaluation.labelling_pictures import doubtful_items
from selfstudy.evaluation.transduction_pictures import (
    energy_picture,
    grid_picture,
    label_map,
    ways_picture,
)
from selfstudy.learning.joint_head import JointHead, joint_head
from selfstudy.learning.loops import check_positive
from selfstudy.learning.parts import Parts
from selfstudy.learning.transduction import (
    Found,
    Transduction,
    class_means,
    graph_of,
    one_round,
    transduce,
    transformed,
    warn_of,
)
from selfstudy.learning.transduction_tuning import SHARPNESS, SMOOTHNESS, Grid, grid_on_halves, halves
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.signals.affinity import Affinity
from selfstudy.tasks.pools import PoolTask, require_given

TUNED_ON = 1000  # unlabelled items that the choice of settings looks at, at most


class Batch(NamedTuple):
    """A pool as the method sees it: transformed features of s labelled items and q others."""

    centre: torch.Tensor  # [d]
    support: torch.Tensor  # [s, d]
    labels: np.ndarray  # [s]
    queries: torch.Tensor  # [q, d]
    places: np.ndarray  # [q], of the queries within the pool
    classes: int

    @property
    def targets(self) -> torch.Tensor:
        """Y [s, K], 0 or 1."""
        return functional.one_hot(torch.from_numpy(self.labels), self.classes).float()


@dataclass(frozen=True, kw_only=True)
class TransductiveClustering(Method):
    """Cluster a pool around its labelled items, near items alike (Ziko et al. 2021)."""

    works_on = (PoolTask, (FlatEncoder, TextEncoder, ImageEncoder))

    joint: Transduction = field(default_factory=Transduction)
    """How items are labelled together."""
    halves: int = 4
    """Times that half of the given labels is held out, to choose smoothness and sharpness; 0 takes those of
    `joint`."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, halves=-1)
        self.joint.validate()

    def cost(self, task: PoolTask, model: Any) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        labelled = len(task.labelled)
        queries = len(task.pool) - labelled
        counts = np.bincount(task.given[task.labelled])
        held = int((counts // 2).sum())
        tuned = (min(queries, TUNED_ON) + held) * len(SHARPNESS) * len(SMOOTHNESS) * self.halves * bool(held)
        ways = 2 if len(task.validation) else 1
        return {"samples": float(self._rounds * (tuned + ways * queries))}

    def trial(self, task: PoolTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return one round, and how many a fit takes at most without the choice of settings."""
        batch = self.batch(task, model)
        graph, means = self._graph(batch), class_means(batch.support, batch.targets)
        numbers = torch.tensor(self.joint.sharpness), torch.tensor(self.joint.smoothness)
        return lambda: one_round(batch.queries, means, self.joint, *numbers, graph), self._rounds

    def fit(self, task: PoolTask, model: Any, run: Run) -> Fit:
        """Label the pool of `task` from its given labels, by the features of `model`."""
        require_given(task)
        batch = self.batch(task, model)
        grid = run.stage("settings", lambda: self.choose(batch, run))
        chosen = replace(self.joint, **grid["best"])
        graph = self._graph(batch)

        def labelled() -> Parts:
            means = class_means(batch.support, batch.targets)
            found = transduce(
                batch.support,
                batch.targets,
                batch.queries,
                chosen,
                graph=graph,
                start=means,
                meter=run.meter,
                look=lambda done: run.log(round=done),
            )
            warn_of(found, chosen)
            energies = [steps.tolist() for steps in found.energies]
            parts = {"head": self._head(batch, found, chosen), "labels": label_table(task, batch, found)}
            return Parts(parts, {"energies": energies, "energy_rises": found.rises})

        result = run.stage("labelled", labelled)
        classifier = FeatureClassifier(model, result.parts["head"], task.classes)
        table = result.parts["labels"]
        ways = run.stage("ways", lambda: self.ways(task, model, batch, graph, chosen, classifier, run))
        pictures = [energy_picture(result.facts["energies"])]
        pictures += [ways_picture(ways)] if ways else []
        pictures += [grid_picture(SMOOTHNESS, SHARPNESS, np.array(grid["right"]))] if grid["right"] else []
        drawn = np.concatenate([task.labelled, run.rng("map").permutation(batch.places)])
        every = torch.empty(len(task.pool), batch.queries.shape[1])
        every[task.labelled], every[batch.places] = batch.support, batch.queries
        pictures += [label_map(every.numpy(), table.labels, task.given, task.classes, drawn)]
        pictures += [doubtful_items(table)] if len(batch.places) else []
        return Fit(
            model=classifier,
            parts={"labels": table},
            metrics={
                "smoothness": chosen.smoothness,
                "sharpness": chosen.sharpness,
                "rounds": len(result.facts["energies"]),
                "energy_rises": result.facts["energy_rises"],
                **{f"validation, {way}": accuracy for way, accuracy in ways.items()},
            },
            pictures=pictures,
        )

    def batch(self, task: PoolTask, model: Any) -> Batch:
        """Return the pool as the method sees it."""
        features = task.features(model)
        require_finite(features, task.pool.name)
        centre = features.mean(0)
        features = transformed(features, self.joint.transform, centre)
        places = np.flatnonzero(task.given == UNKNOWN)
        at = task.labelled
        return Batch(centre, features[at], task.given[at], features[places], places, len(task.classes))

    def choose(self, batch: Batch, run: Run) -> dict[str, Any]:
        """Return the smoothness and sharpness with which held-out labels are found best, and how often."""
        splits = [halves(batch.labels, run.rng("halves", number)) for number in range(self.halves)]
        usual = {"smoothness": self.joint.smoothness, "sharpness": self.joint.sharpness}
        if not splits:
            return {"best": usual, "right": []}
        if splits[0] is None:
            warnings.warn(
                "No class has two labels, so none can be held out to choose by: smoothness is "
                f"{self.joint.smoothness:g} and sharpness {self.joint.sharpness:g}, as joint has them.",
                stacklevel=2,
            )
            return {"best": usual, "right": []}
        some = run.rng("tuned on").permutation(len(batch.queries))[:TUNED_ON]
        grid: Grid = grid_on_halves(
            batch.support,
            batch.labels,
            batch.queries[some],
            batch.classes,
            self.joint,
            [split for split in splits if split is not None],
            meter=run.meter,
        )
        smoothness, sharpness = grid.best(self.joint)
        return {"best": {"smoothness": smoothness, "sharpness": sharpness}, "right": grid.right.tolist()}

    def ways(
        self,
        task: PoolTask,
        model: Any,
        batch: Batch,
        graph: Affinity | None,
        chosen: Transduction,
        full: FeatureClassifier,
        run: Run,
    ) -> dict[str, float]:
        """Return the accuracy of the method and of its parts on validation items; nothing without such."""
        if not len(task.validation) or not run.meter.affords(samples=self._rounds * len(batch.queries)):
            return {}
        still = Found(torch.empty(0), class_means(batch.support, batch.targets), ())
        plain, smooth = (replace(chosen, smoothness=one) for one in (0.0, chosen.smoothness))
        clustered = transduce(
            batch.support, batch.targets, batch.queries, plain, graph=graph, meter=run.meter
        )
        heads: dict[str, JointHead] = {
            "nearest prototype": self._head(batch, still, plain),
            "prototypes fixed": self._head(batch, still, smooth),
            "k-means": self._head(batch, clustered, plain),
        }
        readers = {way: FeatureClassifier(model, head, task.classes) for way, head in heads.items()}
        readers["full"] = full
        found = {way: task.evaluate(reader, split="validation").values for way, reader in readers.items()}
        return {way: float(np.mean(values)) for way, values in found.items()}

    def _graph(self, batch: Batch) -> Affinity | None:
        return graph_of(batch.queries, batch.support, self.joint)

    @property
    def _rounds(self) -> int:
        return 1 if self.joint.prototypes == "fixed" else self.joint.rounds

    @staticmethod
    def _head(batch: Batch, found: Found, settings: Transduction) -> JointHead:
        return joint_head(found.prototypes, batch.centre, batch.support, batch.targets, settings)


def label_table(task: PoolTask, batch: Batch, found: Found) -> LabelTable:
    """Return the label of each item of the pool: given, or found."""
    labels, confidence = task.given.copy(), np.ones(len(task.given))
    labels[batch.places] = found.labels.numpy()
    confidence[batch.places] = found.assignments.amax(-1).numpy()
    sources = np.full(len(labels), GIVEN, dtype=object)
    sources[batch.places] = PREDICTED
    return task.label_table(labels, confidence, sources)
