"""Self-distilled further pre-training: pre-train further once, then again from the start beside that teacher.

Lee, Kang, Lee, Hwang, Kawaguchi 2023, "Self-Distillation for Further Pre-training of Transformers",
arXiv 2210.02871. Pick it to bring a pre-trained transformer into a domain with few inputs, far from what it
knows: plain further pre-training (`rounds 0`), the familiar alternative, over-fits to them there. With many
inputs it is enough. Where labels are few but a classifier can be taught, see pseudo-label-pretraining.

Deviations from the paper: both losses of a step are summed before one backward pass, which gives the same
gradient; the rounds share order, views and masks, so that they differ in their loss alone; views are a shift
and a mirror image; `weight_width` scales the distillation to other widths than the authors'.
Fine-tuning is optional, since the encoder serves any other method; that of images has no dropout. Of the
other regularisers the paper compares with, the L2 penalty towards the original weights is here (`pull`), the
rest is not.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.further_pictures import rounds_pictures
from selfstudy.learning.distillation import feature_distance
from selfstudy.learning.further_pretraining import (
    STREAM,
    Domain,
    FurtherPretraining,
    Losses,
    Pooling,
    domain_of,
    further_cost,
    has_first_weights,
    pretrain_further,
    step_further,
    trunk,
)
from selfstudy.learning.loops import check_positive
from selfstudy.learning.stages import StageTraining
from selfstudy.learning.supervised import Supervised, require_labels, step_cost
from selfstudy.learning.tuned_classifier import tuned_classifier
from selfstudy.learning.weight_distance import distance, require_same_weights, squared_distance
from selfstudy.models.encoders.masked_decoder import MaskedImageEncoder
from selfstudy.models.encoders.text_base import TextEncoder
from selfstudy.models.loading import model as load_model
from selfstudy.tasks.base import validation_rows
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.pools import PoolTask

LOOKS = 100  # times a round that the distance to the original weights is logged
_log = logging.getLogger(__name__)


def fine_tuning() -> Supervised:
    """Return how the authors fine-tune, for fewer steps and with a larger rate."""
    return Supervised(
        steps=400,
        batch=32,
        optimizer="adamw",
        learning_rate=5e-4,
        weight_decay=0.01,
        schedule="linear",
        warmup=0.05,
        clip=1.0,
    )


@dataclass(frozen=True, kw_only=True)
class SelfDistilledPretraining(Method):
    """Pre-train a transformer further without losing what it knew (Lee et al. 2023)."""

    works_on = ((ImageTask, PoolTask), (MaskedImageEncoder, TextEncoder))

    rounds: int = 1
    """Times that a student is distilled, each from the one before; 0 is plain further pre-training."""
    weight: float = 1.0
    """Of the squared distance to the teacher's representation, which is added to the masked loss."""
    weight_width: int = 0
    """Width of representation that `weight` is meant for (the authors': 768), scaled to the model's own;
    0 takes the weight as it is."""
    pooling: Pooling = "cls"
    """What represents an input: the last state of [CLS], or the mean over patches or words."""
    restart: Literal["origin", "teacher"] = "origin"
    """Where a student starts; "teacher" goes on from it, which takes the regularising effect away."""
    pull: float = 0.0
    """Weight of the squared distance to the original weights, which is added to the loss of every round: the
    usual way to stay near them (L2-SP)."""
    teacher: str = ""
    """Folder of a saved model that stands in for the first round; empty is none."""
    mask_ratio: float = 0.75
    """Share of an image's patches that is hidden; of words 15 % are."""
    norm_pix: bool = True
    """Whether a hidden patch is told as its pixels less their mean, over their deviation."""
    views: ImageViews = field(default_factory=lambda: ImageViews(crop=(1, 1), shift=0.07, jitter=0, grey=0))
    """Random views of images."""
    pretraining: FurtherPretraining = field(default_factory=FurtherPretraining)
    """Steps, batches and optimiser of each round."""
    result: Literal["encoder", "classifier"] = "encoder"
    """What is given back: the last encoder, or it fine-tuned with a new head on the labels (step 3)."""
    tuning: Supervised = field(default_factory=fine_tuning)
    """Fine-tuning of a classifier of images."""
    text_tuning: StageTraining = field(default_factory=lambda: StageTraining(steps=400, schedule="linear"))
    """Fine-tuning of a classifier of texts."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=-1)
        if not (min(self.weight, self.pull, self.weight_width) >= 0 and 0 < self.mask_ratio < 1):
            raise UsageError(
                f"weight is {self.weight}, pull {self.pull}, weight-width {self.weight_width} and mask-ratio "
                f"{self.mask_ratio}: the first three must be at least 0, the last between 0 and 1."
            )
        if self.teacher and not self.rounds:
            raise UsageError("With rounds 0 there are no students: leave the teacher out, or give rounds.")
        for settings in (self.views, self.pretraining, self.tuning, self.text_tuning):
            settings.validate()

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        """Pre-train copies of `model` on the unlabelled inputs of `task`, round by round."""
        origin = task.prepared(model)
        if self.result == "classifier":
            require_labels(_labelled(task))
        if self.rounds and has_first_weights(origin):
            _log.warning(
                "The model has never been trained, so there is nothing to stay near: pre-train it on a "
                "larger set first, with rounds 0, and give the folder of the result."
            )
        domain = self.domain(task, origin)
        if domain.samples < self.pretraining.batch:
            warnings.warn(
                f"There are {domain.samples} unlabelled inputs, fewer than a batch of "
                f"{self.pretraining.batch}: a batch is all of them.",
                stacklevel=2,
            )
        models = self.trained(domain, origin, run)
        last = list(models.values())[-1]
        metrics: dict[str, Any] = {}
        for name, found in {"original": origin, **models}.items():
            metrics[f"distance, {name}"] = distance(found, origin)
            metrics[f"distance of the encoder, {name}"] = distance(trunk(found), trunk(origin))
        metrics |= _validated(task, {"original": origin, **models})
        final = last
        if self.result == "classifier":
            final = tuned_classifier(run, last, _labelled(task), self.tuning, self.text_tuning)
        parts = {name: found for name, found in models.items() if found is not final}
        pictures = rounds_pictures(
            run.metrics(), models, _inputs(task), ratio=self.mask_ratio, normalised=self.norm_pix
        )
        return Fit(model=final, parts=parts, metrics=metrics, pictures=pictures)

    def trained(self, domain: Domain, origin: Any, run: Run) -> dict[str, Any]:
        """Return the model of each round that the budget covers, by name: the teacher, then students."""
        last = run.stage("teacher", lambda: self._given(origin) or self._round(domain, origin, None, run))
        found = {"teacher": last}
        for number in range(1, self.rounds + 1):
            if not run.meter.affords(**self._round_cost(origin, domain.samples, distilled=True)):
                _log.warning("The budget does not cover student %d, which is left out.", number)
                break
            name, work = f"student-{number}", partial(self._round, domain, origin, last, run)
            last = found[name] = run.stage(name, work)
        return found

    def _round(self, domain: Domain, origin: Any, teacher: Any, run: Run) -> Any:
        """Return what one round makes of the original weights; within a stage."""
        start = teacher if teacher is not None and self.restart == "teacher" else origin
        student = start.copy()
        losses = self._losses(domain, origin, teacher, student, run.key)
        cost = self._step_cost(origin, domain.samples, distilled=teacher is not None)
        pretrain_further(
            run,
            student,
            losses,
            samples=domain.samples,
            settings=self.pretraining,
            flops=cost.get("flops", 0.0),
        )
        return student

    def _losses(
        self, domain: Domain, origin: Any, teacher: Any, student: Any, key: Callable[..., int]
    ) -> Callable[[int, np.ndarray], Losses]:
        """Return the losses of a step and the places of its inputs; without a teacher, of the first round."""
        every = max(1, self.pretraining.steps // LOOKS)
        if teacher is not None:
            teacher = teacher.copy().requires_grad_(False).eval()

        def losses(step: int, at: np.ndarray) -> Losses:
            inputs = domain.inputs(key(STREAM, "view", step), at)
            terms = {"masked": domain.masked_loss(student, inputs, key(STREAM, "mask", step))}
            if teacher is not None and self.weight:
                h = domain.represent(student, inputs)  # [B, d]
                with torch.no_grad():
                    h_teacher = domain.represent(teacher, inputs)
                terms["distillation"] = self._scaled(h.shape[1]) * feature_distance(h, h_teacher)
            if self.pull:
                terms["pull"] = self.pull * squared_distance(student, origin)
            found = {"loss": torch.stack(list(terms.values())).sum()}
            found |= {name: term.detach() for name, term in terms.items()}
            if step % every == 0:
                found["distance"] = squared_distance(student, origin).detach().sqrt()
            return found

        return losses

    def _scaled(self, width: int) -> float:
        """Return the weight of the distillation for representations of this width."""
        return self.weight * (self.weight_width / width if self.weight_width else 1.0)

    def _given(self, origin: Any) -> Any:
        """Return the teacher of the field; None where there is none."""
        if not self.teacher:
            return None
        given = load_model(self.teacher)
        if type(given) is not type(origin):
            raise UsageError(
                f"The teacher {self.teacher!r} is another kind of model than {origin.name!r}. Give the "
                "folder of one of the same kind."
            )
        require_same_weights(origin, given, what=f"The teacher {self.teacher!r}")
        return given

    def domain(self, task: Any, origin: Any) -> Domain:
        """Return the unlabelled inputs of a task, and what a model made for them does with them."""
        return domain_of(
            _inputs(task),
            origin,
            views=self.views,
            ratio=self.mask_ratio,
            normalised=self.norm_pix,
            pooling=self.pooling,
        )

    def cost(self, task: Any, model: Any) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        origin = task.prepared(model)
        samples = len(_inputs(task))
        spent: Counter[str] = Counter()
        if not self.teacher:
            spent.update(self._round_cost(origin, samples, distilled=False))
        for _ in range(self.rounds):
            spent.update(self._round_cost(origin, samples, distilled=True))
        if self.result == "classifier":
            images = isinstance(origin, MaskedImageEncoder)
            plan = self.tuning if images else self.text_tuning
            batch = min(plan.batch, len(task.labelled))
            step = step_cost(origin, batch) if images else {"samples": float(batch)}
            spent.update({unit: plan.steps * amount for unit, amount in step.items()})
        return dict(spent)

    def _round_cost(self, origin: Any, samples: int, *, distilled: bool) -> dict[str, float]:
        step = self._step_cost(origin, samples, distilled=distilled)
        return {unit: self.pretraining.steps * amount for unit, amount in step.items()}

    def _step_cost(self, origin: Any, samples: int, *, distilled: bool) -> dict[str, float]:
        distilled = distilled and self.weight > 0
        return further_cost(
            origin, min(self.pretraining.batch, samples), self.mask_ratio, distilled=distilled
        )

    def trial(self, task: Any, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step of a student on a copy, and how many steps there are."""
        origin = task.prepared(model)
        domain, student = self.domain(task, origin), origin.copy()
        losses = self._losses(domain, origin, origin if self.rounds else None, student, stream_key)
        optimizer = self.pretraining.optimizer_of(student)
        at = np.arange(min(self.pretraining.batch, domain.samples))

        def step() -> object:
            return step_further(student, optimizer, lambda: losses(1, at), self.pretraining, 0)

        return step, (self.rounds + 1 - bool(self.teacher)) * self.pretraining.steps


def _inputs(task: Any) -> Any:
    return task.train if isinstance(task, ImageTask) else task.pool


def _labelled(task: Any) -> Any:
    """Return the labelled inputs of a task, with their labels."""
    if isinstance(task, ImageTask):
        return task.labelled
    at = task.labelled
    return replace(task.pool.only(at), labels=task.given[at], classes=task.classes)


def _validated(task: Any, models: dict[str, Any]) -> dict[str, Any]:
    """Return how good probes of models are on validation inputs; nothing where a pool has too few labels."""
    known = not isinstance(task, PoolTask) or len(np.unique(task.given[task.labelled])) > 1
    return validation_rows(task, models) if known else {}
