"""Pseudo-label pre-training: a teacher labels the pool, a fresh student learns that, then the true labels.

Guo 2020, "Predictions For Pre-training Language Models", arXiv 2011.09031. Pick it when texts are plentiful,
labels are few and the whole network may be trained. Against self-training, the usual way, its last step takes
back part of what wrong pseudo-labels taught; where labels can be had by asking, `hast` gets more out of them.

Deviations from the paper: its data sets and settings are not public, so all numbers are ours. Steps are
counted, not passes, so that recipes can be compared on equal work. Fine-tuning stops early by a fifth of the
labels of each class that has five or more; with fewer it takes all its steps. A pool's labels are classes:
the stages can learn numbers and tags too, but no task has them. How right the teacher is on the pool would
cost a label of each item; its accuracy on validation items is reported. Where the budget does not cover all
of step 3 the teacher is given back.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.items import Texts
from selfstudy.data.pool_parts import PoolParts, pool_parts
from selfstudy.learning.loops import check_not_negative, check_positive, check_shares
from selfstudy.learning.masked_language import MaskedLanguage, learn_words, masked_language_loss, tells_words
from selfstudy.learning.network_inputs import can_be_trained, inputs_of
from selfstudy.learning.staged_classifier import StagedClassifier, one_hot, staged_classifier
from selfstudy.learning.stages import Stage, StageTraining
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.signals.predictions import Chosen, Predictions, choose, known, predict_pool, warn_of_strangers
from selfstudy.tasks.pools import PoolTask
from selfstudy.tasks.pseudo_label_report import pseudo_label_report

HIDDEN = (256, 256)  # layers of the head on features that stay
_log = logging.getLogger(__name__)


class Recipe(NamedTuple):
    """What is done before, between and after; see `RECIPES`."""

    adapted: bool = False
    """Whether B first learns to tell hidden words of the pool."""
    start: Literal["", "base", "teacher"] = ""
    """What pseudo-labels are taught to: B, the teacher, or nothing at all."""
    mixed: bool = False
    """Whether the true labels are among them."""
    tuned: bool = False
    """Whether the true labels come last."""
    truth: bool = False
    """Whether the oracle labels the pool, not the teacher."""


RECIPES = {
    "base": Recipe(),
    "dapt": Recipe(adapted=True),
    "self-train": Recipe(start="base"),
    "mix": Recipe(start="base", mixed=True),
    "continue": Recipe(start="teacher", tuned=True),
    "method": Recipe(start="base", tuned=True),
    "dapt+method": Recipe(adapted=True, start="base", tuned=True),
    "upper": Recipe(start="base", tuned=True, truth=True),
}


class Trained(NamedTuple):
    """What each step gave; those after a step that was not taken are the ones before it."""

    parts: PoolParts
    teacher: FeatureClassifier
    predictions: Predictions | None
    chosen: Chosen | None
    student: FeatureClassifier
    final: FeatureClassifier


@dataclass(frozen=True, kw_only=True)
class PseudoLabelPretraining(Method):
    """Pre-train on a teacher's labels of the pool, then fine-tune on the true ones (Guo 2020)."""

    works_on = (PoolTask, (FlatEncoder, TextEncoder, ImageEncoder))

    recipe: Literal["base", "dapt", "self-train", "mix", "continue", "method", "dapt+method", "upper"] = (
        "method"
    )
    """The method, or what it is compared with: true labels alone, hidden words of the pool before them,
    pseudo-labels without the last step, both at once, pseudo-labels taught to the teacher itself, hidden
    words before the method, the oracle's labels of the whole pool."""
    rounds: int = 1
    """Times that the pool is labelled and learnt; each round's teacher is the model of the one before."""
    tau: float = 0.0
    """Least confidence of a pseudo-label; 0 keeps all."""
    balance: Literal["none", "sqrt"] = "none"
    """"sqrt" draws pseudo-labels so that classes are as the square roots of their numbers."""
    soft: bool = False
    """Whether the teacher's probabilities are learnt, not its most likely class."""
    mlm_weight: float = 0.0
    """gamma, weight of hidden words of the same texts in step 3; needs a model that tells words."""
    input_dropout: float = 0.0
    """Share of words, pixels or numbers that are hidden from the student in step 3 (noisy student: 0.1)."""
    train_encoder: bool = True
    """Whether an encoder that has weights is trained with its head; if not, its features stay."""
    hidden: tuple[int, ...] | None = None
    """Widths of the head's hidden layers; None is none on an encoder that is trained, 256,256 on others."""
    dropout: float = 0.2
    """After each hidden layer of the head."""
    held_out: float = 0.2
    """Share of the labels, of each class with five or more, that tells when fine-tuning is to stop."""
    strict: bool = False
    """Whether an unlabelled item that equals a labelled one is an error; if not it is left out."""
    teaching: StageTraining = field(default_factory=StageTraining)
    """Step 1: the teacher on the true labels."""
    pretraining: StageTraining = field(default_factory=StageTraining)
    """Step 3: the student on pseudo-labels."""
    tuning: StageTraining = field(default_factory=lambda: StageTraining(steps=200, learning_rate=3e-4))
    """Step 4: the student on the true labels."""
    adaptation: MaskedLanguage = field(default_factory=MaskedLanguage)
    """Hidden words of the pool, of the recipes dapt and dapt+method."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=0)
        check_not_negative(self, "tau", "mlm_weight")
        check_shares(self, "input_dropout", "dropout", "held_out")
        if not all(width > 0 for width in self.hidden or ()):
            raise UsageError(f"hidden is {self.hidden}; its widths must be at least 1.")
        if self.rounds > 1 and RECIPES[self.recipe].truth:
            raise UsageError(f"rounds is {self.rounds}; the recipe upper has one.")
        for part in (self.teaching, self.pretraining, self.tuning, self.adaptation):
            part.validate()

    def cost(self, task: PoolTask, model: Any) -> dict[str, float]:
        """Return at most what a fit spends, by budget unit."""
        recipe, labels = RECIPES[self.recipe], len(task.labelled)
        pool = len(task.pool) - labels
        seen = self.teaching.steps * min(self.teaching.batch, labels)
        if recipe.adapted:
            seen += self.adaptation.steps * min(self.adaptation.batch, pool)
        if recipe.start and self.pretraining.steps:
            seen += self.rounds * self.pretraining.steps * min(self.pretraining.batch, pool)
            if recipe.tuned:
                seen += self.rounds * self.tuning.steps * min(self.tuning.batch, labels)
        return {"samples": seen, **({"oracle_labels": pool} if recipe.truth else {})}

    def trial(self, task: PoolTask, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step of pre-training on a copy, and how many steps there are in all."""
        recipe, whole = RECIPES[self.recipe], self._whole(model)
        classifier = self._base(task, model, 0)
        at = np.arange(min(self.pretraining.batch, len(task.pool)))
        inputs = inputs_of(classifier.encoder, task.pool.only(at), whole=whole)

        def step() -> object:
            classifier.zero_grad()
            return classifier.train().head(inputs.features(classifier.encoder, at)).sum().backward()

        steps = self.teaching.steps + recipe.adapted * self.adaptation.steps
        later = bool(recipe.start) * self.pretraining.steps + recipe.tuned * self.tuning.steps
        return step, steps + self.rounds * later

    def fit(self, task: PoolTask, model: Any, run: Run) -> Fit:
        """Train `model`, or a head on it, on the pool of `task` by the recipe."""
        found = self.trained(task, model, run)
        steps = {"teacher": found.teacher, "student": found.student, "final": found.final}
        used = found.chosen.places if found.chosen else np.empty(0, dtype=np.int64)
        report = pseudo_label_report(task, found.parts, steps, found.predictions, used)
        parts = {"teacher": found.teacher, **report.tables}
        return Fit(model=found.final, parts=parts, metrics=report.metrics, pictures=report.pictures)

    def trained(self, task: PoolTask, model: Any, run: Run) -> Trained:
        """Return what each step gives; recipes of one round in one `run` share what they have in common."""
        recipe = RECIPES[self.recipe]
        self._check(model)
        parts = pool_parts(
            task.pool, task.given, held_out=self.held_out, rng=run.rng("held out"), strict=self.strict
        )
        base = self._base(task, model, run.key("head"))
        if recipe.adapted:
            texts = _texts(task, parts.unlabelled)
            base.encoder = run.stage("adapted", lambda: learn_words(run, model, texts, self.adaptation))
        stages = staged_classifier(run, base, task.pool, whole=self._whole(model))
        teacher = self._finetuned(stages, "teacher", base, parts, self.teaching)  # step 1
        found = Trained(parts, teacher, None, None, teacher, teacher)
        rounds = self.rounds if recipe.start and self.pretraining.steps else 0
        for count in range(1, rounds + 1):
            predictions = self._predicted(stages, found, task, count)  # step 2
            if predictions is None:
                break
            chosen = self._chosen(predictions, parts, run, count)
            found = found._replace(teacher=found.final, predictions=predictions, chosen=chosen)
            if not len(chosen.places):
                break
            start = found.teacher if recipe.start == "teacher" else base
            student = self._pretrained(stages, start, chosen, task, count)  # step 3
            final = student
            if recipe.tuned:
                final = self._finetuned(stages, f"tuned-{count}", student, parts, self.tuning)  # step 4
            found = found._replace(student=student, final=final)  # step 5: the next teacher
        return found

    def _check(self, model: Any) -> None:
        """Refuse a model that cannot do what the fields ask of it."""
        whole = self._whole(model)
        hides = self.input_dropout > 0 and whole and isinstance(model, TextEncoder)
        if (RECIPES[self.recipe].adapted or self.mlm_weight or hides) and not tells_words(model):
            raise UsageError(
                f"{model.name!r} cannot tell hidden words, which recipes with dapt, mlm-weight and "
                "input-dropout of texts ask for: take small-bert, or leave them out."
            )
        if self.mlm_weight and not whole:
            raise UsageError("mlm-weight trains the encoder: it needs train-encoder.")

    def _whole(self, encoder: Any) -> bool:
        return self.train_encoder and can_be_trained(encoder)

    def _base(self, task: PoolTask, model: Any, key: int) -> FeatureClassifier:
        """Return B: the encoder with a new head."""
        widths = self.hidden if self.hidden is not None else () if self._whole(model) else HIDDEN
        classes = len(task.classes)
        head = MlpHead(width=model.width, hidden=list(widths), classes=classes, dropout=self.dropout, key=key)
        return FeatureClassifier(model.copy(), head, task.classes).eval()

    def _name(self, step: str) -> str:
        """Return the name of a step's stage, which tells all recipes apart whose stages differ."""
        recipe = RECIPES[self.recipe]
        kinds = {"mixed": recipe.mixed, "continued": recipe.start == "teacher", "upper": recipe.truth}
        later = [kind for kind, so in kinds.items() if so and step not in ("teacher", "predictions-1")]
        return "-".join([*(["adapted"] if recipe.adapted else []), *later, step])

    def _finetuned(
        self,
        stages: StagedClassifier,
        name: str,
        start: FeatureClassifier,
        parts: PoolParts,
        training: StageTraining,
    ) -> FeatureClassifier:
        targets = one_hot(parts.labels, len(start.classes))
        stage = Stage(self._name(name), name, parts.fit, targets, training)
        held = (parts.held, parts.held_labels) if len(parts.held) else None
        return stages.trained(stage, start, held=held)

    def _predicted(
        self, stages: StagedClassifier, found: Trained, task: PoolTask, count: int
    ) -> Predictions | None:
        """Return the labels of the pool; None where there is nothing to label or no budget to learn it."""
        places, run = found.parts.unlabelled, stages.run
        if not len(places):
            warnings.warn("No item is without a label: the teacher is the model.", stacklevel=2)
            return None
        truth = RECIPES[self.recipe].truth
        samples = self.pretraining.steps * min(self.pretraining.batch, len(places))
        needed = {"samples": samples, **({"oracle_labels": len(places)} if truth else {})}
        if not run.meter.affords(**needed):
            _log.warning("The budget does not cover pre-training on the pool: the teacher is given back.")
            return None
        if truth:
            return known(places, task.ask(run, "pool", places)[0], len(task.classes))
        tell, name = partial(stages.probabilities, found.final), self._name(f"predictions-{count}")
        predictions = run.stage(name, lambda: predict_pool(tell, places, task.classes))
        warn_of_strangers(predictions, tell(found.parts.held))
        return predictions

    def _chosen(self, predictions: Predictions, parts: PoolParts, run: Run, count: int) -> Chosen:
        rng = run.rng("balance", count)
        chosen = choose(predictions, tau=self.tau, soft=self.soft, balance=self.balance, rng=rng)
        if not RECIPES[self.recipe].mixed or not len(chosen.places):
            return chosen
        own = one_hot(parts.labels, predictions.probabilities.shape[1])
        return Chosen(np.append(parts.fit, chosen.places), torch.cat([own, chosen.targets]))

    def _pretrained(
        self, stages: StagedClassifier, start: FeatureClassifier, chosen: Chosen, task: PoolTask, count: int
    ) -> FeatureClassifier:
        name, run = f"student-{count}", stages.run

        def words(classifier: FeatureClassifier, step: int, at: np.ndarray) -> torch.Tensor:
            key = run.key(name, "mask", step)
            return self.mlm_weight * masked_language_loss(classifier.encoder, _texts(task, at), key)

        stage = Stage(self._name(name), name, *chosen, self.pretraining, hidden=self.input_dropout)
        return stages.trained(stage, start, beside=words if self.mlm_weight else None)


def _texts(task: PoolTask, places: np.ndarray) -> list[str]:
    assert isinstance(task.pool, Texts)  # the model has been made for them, and refuses all else
    return [task.pool.texts[place] for place in places]
