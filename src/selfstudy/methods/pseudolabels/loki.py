"""Loki: predict the label that is nearest to all probable ones, also one that was never seen.

Roberts, Li, Adila, Cromp, Huang, Zhao, Sala 2023, "Geometry-Aware Adaptation for Pretrained Models",
arXiv 2307.12226. Pick it in the place of argmax where labels have distances (stars, angles, a taxonomy), an
error costs as much as it is far, and items of some labels only could be had. The classifier stays as it is.
Without such distances, or where every error costs the same, keep argmax: Loki may lower the accuracy while it
lowers the cost. The restricted Bayes rule, which minds distances too but never leaves the observed labels, is
reported beside it: what Loki gains over that is what labels are worth that were never seen.

Deviations from the paper: ties go to observed labels, then to the more probable, not to the first in the
list. Where labels form no tree and no line, the label to observe next is found greedily by linear programs,
and with more than 400 labels it is the one farthest from the observed ones. Fine-tuning through the rule
takes a softmax over its scores; straight-through gradients and SPIGOT are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.data.label_table import GIVEN, PREDICTED, LabelTable
from selfstudy.evaluation.label_distances import (
    ARGMAX,
    FITTED,
    LOKI,
    MEDOID,
    RESTRICTED,
    compared_rules,
)
from selfstudy.evaluation.label_pictures import costs_by_class, locus_map
from selfstudy.evaluation.labelling_pictures import doubtful_items
from selfstudy.evaluation.pictures import Picture
from selfstudy.learning.label_heads import name_head, trained_head, tuned_through_rule
from selfstudy.learning.loops import check_positive
from selfstudy.learning.stages import StageTraining
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import Head, MlpHead
from selfstudy.models.encoders.features import features_of
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.models.labels.classifier import Classifier, LokiClassifier, class_probabilities
from selfstudy.models.labels.rule import LokiRule, numbers_of
from selfstudy.models.temperature_scaling import fitted_temperature
from selfstudy.tasks.label_metrics import GradedTask

_log = logging.getLogger(__name__)
TRIED = 256  # items that a trial predicts


def head_training() -> StageTraining:
    """Return how a perceptron is trained unless told."""
    return StageTraining(steps=600, learning_rate=2e-3)


def no_training() -> StageTraining:
    """Return settings that leave a head as it is."""
    return StageTraining(steps=0)


@dataclass(frozen=True, kw_only=True)
class Loki(Method):
    """Predict Frechet means of labels in the place of the most probable class (Roberts et al. 2023)."""

    works_on = (GradedTask, (FlatEncoder, TextEncoder, ImageEncoder, Classifier))

    probabilities: Literal["linear", "mlp", "names"] = "linear"
    """Where those of the observed labels come from when the model is an encoder: a linear classifier of its
    features or a perceptron, on the given labels; or how like the labels' names an item is, without any."""
    exponent: Literal[1, 2] = 2
    """Of distances: 2 for means, 1 for medians."""
    temperature: float | None = 1.0
    """That the classifier's logits are divided by; None fits it on validation items of observed labels."""
    hidden: int = 256
    """Units of the perceptron's one hidden layer."""
    training: StageTraining = field(default_factory=head_training)
    """Of the perceptron."""
    prompt: str = "{}"
    """Around each name with `probabilities names`, such as "a photo of a {}."."""
    name_temperature: float = 0.07
    """Of the softmax over likeness to names."""
    tuning: StageTraining = field(default_factory=no_training)
    """Of the head through Loki's rule, on the given labels; 0 steps leave it as it is. A ready classifier is
    never tuned."""
    tuning_temperature: float = 0.1
    """Of the softmax over all labels that is tuned through, in mean costs between observed ones."""
    proposals: int = 3
    """Labels proposed to be observed next."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, temperature=0, hidden=0, name_temperature=0, tuning_temperature=0, proposals=-1)
        self.training.validate()
        self.tuning.validate()
        try:
            named = self.prompt.format("a label") != self.prompt
        except (IndexError, KeyError, ValueError):
            named = False
        if not named:
            raise UsageError(f"The prompt {self.prompt!r} must have {{}} once, where the name goes.")

    def cost(self, task: GradedTask, model: Any) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        return {"samples": sum(self._samples(task, model))}

    def trial(self, task: GradedTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return the rule on some items, which takes longest among many labels, and how often it does."""
        known = model.classes if isinstance(model, Classifier) else task.observed
        rule = LokiRule(task.space, known, exponent=self.exponent)
        alike = np.full((TRIED, len(rule.observed)), 1 / len(rule.observed))
        return lambda: rule.predict(alike), -(-len(task.pool) // TRIED)

    def fit(self, task: GradedTask, model: Any, run: Run) -> Fit:
        """Put Loki's rule on `model`, or on a classifier of the observed labels on its features."""
        classifier = model if isinstance(model, Classifier) else self._classifier(task, model, run)
        observed, seen = numbers_of(task.space, classifier.classes), task.validation_items
        looked = class_probabilities(classifier, seen) if len(seen) else torch.empty(0, len(observed))
        fitted = _fitted_temperature(looked, seen.labels, observed)
        rule = LokiRule(
            task.space, observed, exponent=self.exponent, temperature=self._temperature(fitted, task)
        )
        found = rule.wrap(classifier)
        proposed, reached = rule.next_class(self.proposals), rule.reachable()
        metrics: dict[str, Any] = {
            "labels": len(task.classes),
            "labels_observed": len(observed),
            "labels_reachable": "not found out" if reached is None else int(reached.sum()),
            "label_next": ", ".join(task.classes[label] for label in proposed) or "all are within reach",
        }
        if fitted is not None:
            metrics["fitted_temperature"] = fitted
        compared, pictures = _compared(task, observed, looked, fitted)
        table = _table(task, found)
        drawn = locus_map(task.space, observed, reached, proposed)
        return Fit(
            model=found,
            parts={"labels": table},
            metrics={**metrics, **compared},
            pictures=[*pictures, *([drawn] if drawn else []), doubtful_items(table)],
        )

    def _classifier(self, task: GradedTask, encoder: Any, run: Run) -> FeatureClassifier:
        """Return a classifier of the observed labels on an encoder's features."""
        names = tuple(task.classes[label] for label in task.observed)
        at = task.labelled
        head = run.stage("head", lambda: self._head(task, encoder, run, names))
        if self.tuning.steps:
            features, rule = features_of(encoder, task.pool.only(at)), self._rule(task, names)
            head = run.stage(
                "through-loki",
                lambda: tuned_through_rule(
                    run, head, features, task.given[at], rule, self.tuning, self.tuning_temperature
                ),
            )
        return FeatureClassifier(encoder, head, names).eval()

    def _head(self, task: GradedTask, encoder: Any, run: Run, names: tuple[str, ...]) -> Head:
        if self.probabilities == "names":
            if not isinstance(encoder, TextEncoder):
                raise UsageError(
                    f"Names of labels are texts, which the model {encoder.name!r} does not read. Take an "
                    "encoder of texts, such as minilm, or --probabilities linear."
                )
            return name_head(encoder, names, prompt=self.prompt, temperature=self.name_temperature)
        at = task.labelled
        if self.probabilities == "linear":
            run.meter.charge(samples=len(at))
            return task.probed(encoder).head
        features = features_of(encoder, task.pool.only(at))
        columns = np.searchsorted(task.observed, task.given[at])
        head = MlpHead(width=features.shape[1], hidden=[self.hidden], classes=len(names), key=run.key("head"))
        return trained_head(run, head, features, columns, self.training)

    def _rule(self, task: GradedTask, names: tuple[str, ...]) -> LokiRule:
        return LokiRule(task.space, names, exponent=self.exponent)

    def _temperature(self, fitted: float | None, task: GradedTask) -> float:
        if self.temperature is not None:
            return self.temperature
        if fitted is None:
            raise DataError(
                f"The task {task.name!r} has no validation items of observed labels to fit a temperature on. "
                "Give a temperature; 1 leaves probabilities as they are."
            )
        return fitted

    def _samples(self, task: GradedTask, model: Any) -> list[int]:
        """Return how many samples the head sees, and in tuning."""
        if isinstance(model, Classifier):
            return [0]
        count = len(task.labelled)
        seen = {
            "linear": count,
            "mlp": self.training.steps * min(self.training.batch, count),
            "names": 0,
        }
        return [seen[self.probabilities], self.tuning.steps * min(self.tuning.batch, count)]


def _fitted_temperature(looked: torch.Tensor, truth: np.ndarray, observed: np.ndarray) -> float | None:
    """Return the temperature fitted on items of observed labels; None where there is none."""
    columns = {int(label): column for column, label in enumerate(observed)}
    at = np.flatnonzero(np.isin(truth, observed))
    if not len(at):
        return None
    return fitted_temperature(
        looked[torch.from_numpy(at)], np.array([columns[int(label)] for label in truth[at]])
    )


def _compared(
    task: GradedTask, observed: np.ndarray, looked: torch.Tensor, fitted: float | None
) -> tuple[dict[str, Any], list[Picture]]:
    """Return rows and figures of each way to predict validation items, and what each class costs."""
    truth = task.validation_items.labels
    if not len(truth):
        return {}, []
    ways = compared_rules(task.space, observed, looked, truth, fitted=fitted)
    mean = {way: float(costs.squared.mean()) for way, costs in ways.items()}
    if mean[LOKI] > mean[ARGMAX]:
        better = mean.get(FITTED, np.inf) <= mean[ARGMAX]
        _log.warning(
            "On validation items Loki costs %.4g at temperature 1, the most probable class %.4g. %s",
            mean[LOKI],
            mean[ARGMAX],
            f"At the fitted temperature it costs {mean[FITTED]:.4g}: take --temperature None."
            if better
            else "Look at the classifier first.",
        )
    metrics: dict[str, Any] = {}
    for way, costs in ways.items():
        metrics[f"validation, {way}"] = task.metric.row(costs.squared.tolist())
        if way == MEDOID:
            continue
        metrics[f"accuracy, {way}"] = costs.accuracy
        if costs.unseen.any():
            metrics[f"accuracy on labels not observed, {way}"] = costs.unseen_accuracy
    drawn = {way: ways[way] for way in (ARGMAX, RESTRICTED, LOKI)}
    return metrics, [costs_by_class(drawn, truth, task.classes, observed)]


def _table(task: GradedTask, model: LokiClassifier) -> LabelTable:
    """Return the label of each item; its confidence is the largest probability of an observed label."""
    probabilities = model.observed_probabilities(task.pool)
    given = task.given != UNKNOWN
    return task.label_table(
        np.where(given, task.given, model.rule.predict(probabilities).numpy()),
        np.where(given, 1.0, probabilities.max(1).values.double().numpy()),
        [GIVEN if known else PREDICTED for known in given],
    )
