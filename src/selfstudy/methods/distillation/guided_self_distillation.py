"""Guided self-distillation: fit again to one's own predictions, with a weight of the labels that is computed.

Borup, Andersen 2021, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
Self-Distillation", arXiv 2102.13088. Pick it to improve a ridge or kernel model whose penalty is off, at the
price of a few inner products; or to distil a network from itself without a grid over the weight: two
trainings a step tell it. If a grid over the penalty is cheap, that does as much for a kernel model. With
noisy labels and one training to spend, take ps-kd.

Deviations from the paper: the weight is told from a share of the labelled items that is held apart, since
which data the authors used is not said; networks decay their weights, where the authors add the plain norm of
each; every training of a run starts at the same weights and sees the same images in the same order, so that
fits differ by their targets alone. A weight outside 0 to 1 is allowed where it is asked for (`extrapolate`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.guided_pictures import (
    FitErrors,
    fit_errors,
    kernel_pictures,
    steps_picture,
    weight_picture,
)
from selfstudy.learning.kernel_self_distillation import KernelSelfDistiller
from selfstudy.learning.label_weight import CONVEX, estimate_alpha
from selfstudy.learning.loops import check_positive
from selfstudy.learning.output_spaces import SPACES, SpaceName, guided_loss
from selfstudy.learning.supervised import (
    ImageLosses,
    Losses,
    Seen,
    Supervised,
    held_apart,
    held_places,
    require_labels,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.flops import TRAINED
from selfstudy.models.kernel_model import KernelModel
from selfstudy.signals.teachers import FixedTeacher
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.table_task import TableTask

DECOMPOSITION = 9  # operations of an eigendecomposition of n rows over n^3


@dataclass(frozen=True, kw_only=True)
class GuidedSelfDistillation(Method):
    """Distil a fit from itself, guided by the labels (Borup and Andersen 2021)."""

    works_on = ((ImageTask, TableTask), (ImageEncoder, KernelModel))

    steps: int = 2
    """tau, fits one after the other; the first is that to the labels alone."""
    label_weight: float | None = None
    """alpha, weight of the labels in every step from the second on; None tells it anew in each."""
    held_out: float = 0.2
    """Share of the labelled items that is not fitted, on which the weight is told."""
    extrapolate: bool = False
    """Whether the weight may lie outside 0 to 1, beyond both the first fit and the distilled one."""
    lam: float = 1.0
    """Ridge penalty lambda of a kernel model."""
    rank: int = 0
    """Rows whose span stands for all in the kernel matrix (Nystrom); 0 is exact, up to 20,000 rows."""
    loss_space: SpaceName = "softmax-mse"
    """What of a network is held to labels and teacher: squared errors of probabilities or of scores, or the
    cross-entropy of probabilities."""
    training: Supervised = field(default_factory=Supervised)
    """How a network is trained, each time."""

    def suits(self, task: Any, model: Any) -> bool:
        """Take images with an encoder, or a table with a kernel model."""
        pairs = ((ImageTask, ImageEncoder), (TableTask, KernelModel))
        return any(isinstance(task, tasks) and isinstance(model, models) for tasks, models in pairs)

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, lam=0)
        if not (0 < self.held_out < 1 or (self.held_out == 0 and self.label_weight is not None)):
            raise UsageError(
                f"held_out is {self.held_out}: it must be above 0 and below 1, or 0 with a label_weight of "
                "your own, since the weight is told from what is held out."
            )
        weight = self.label_weight
        if weight is not None and not (np.isfinite(weight) and (self.extrapolate or 0 <= weight <= 1)):
            raise UsageError(
                f"label_weight is {weight}; it must be from 0 to 1, or with extrapolate any number."
            )
        if self.rank < 0:
            raise UsageError(f"rank is {self.rank}; it must be at least 0, which is exact.")
        self.training.validate()

    def cost(self, task: Any, model: Any) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        if isinstance(task, TableTask):
            return _kernel_cost(len(task.required_labels().table), self.rank)
        require_labels(task.labelled)
        images = len(held_apart(task.labelled, self.held_out)[1])
        step = step_cost(model, min(self.training.batch, images))
        distilled = (self.steps - 1) * (1 + (self.label_weight is None))
        trainings = 1 + distilled * (1 + 1 / TRAINED)
        return {
            "samples": self.training.steps * step["samples"] * (1 + distilled),
            "flops": self.training.steps * step["flops"] * trainings,
        }

    def trial(self, task: Any, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes; of a kernel model the decomposition."""
        if isinstance(task, TableTask):
            rows = model.features(task.required_labels().table)
            kernel = model.resolved(rows).function
            return lambda: KernelSelfDistiller(kernel, self.lam, rank=self.rank).fit(rows, rows[:, 0]), 1
        require_labels(task.labelled)
        classifier = _classifier(task, model, key=0)
        trainings = 1 + (self.steps - 1) * (1 + (self.label_weight is None))
        step = trial_step(classifier, self._losses(classifier, None, 1.0), task.labelled, self.training)
        return step, trainings * self.training.steps

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        """Fit the labels, then step by step the labels and the fit of before."""
        if isinstance(task, TableTask):
            return self._fit_kernel(task, model, run)
        return self._fit_network(task, model, run)

    def _fit_network(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        require_labels(task.labelled)
        _, images, held = held_apart(task.labelled, self.held_out)

        def trained(name: str, teacher: ImageClassifier | None, weight: float) -> ImageClassifier:
            return run.stage(name, lambda: self.trained(task, model, images, run, teacher, weight))

        fits = [trained("fit-1", None, 1.0)]
        weights: list[float] = []
        errors: dict[int, FitErrors] = {}
        for step in range(2, self.steps + 1):
            teacher, weight = fits[-1], self.label_weight
            if weight is None and held is not None:
                alone = trained(f"teacher-alone-{step}", teacher, 0.0)
                weight = self.weight(fits[0], alone, held)
                errors[step] = fit_errors(*self._outputs(fits[0], alone, held))
            assert weight is not None
            weights.append(weight)
            fits.append(trained(f"fit-{step}", teacher, weight))
        metrics = _told(weights)
        if len(task.validation):
            for step, found in enumerate(fits, 1):
                row = task.metric.row(task.evaluate(found, split="validation").values)
                metrics[f"validation, fit {step}"] = row
        pictures = []
        if errors:
            assert held is not None
            mine = [fit_errors(*self._outputs(found, found, held)).first for found in fits]
            pictures = [weight_picture(errors, weights), steps_picture(mine)]
        return Fit(model=fits[-1], parts={"first fit": fits[0]}, metrics=metrics, pictures=pictures)

    def weight(self, first: ImageClassifier, alone: ImageClassifier, held: ImageSet) -> float:
        """Return the weight of the labels, from the fit to them and one to the teacher alone.

        Args:
            first: trained on the labels.
            alone: trained on the outputs of the teacher, without labels.
            held: labelled images that none of them was trained on.
        """
        return estimate_alpha(*self._outputs(first, alone, held), clip=None if self.extrapolate else CONVEX)

    def trained(
        self,
        task: ImageTask,
        model: ImageEncoder,
        images: ImageSet,
        run: Run,
        teacher: ImageClassifier | None = None,
        weight: float = 1.0,
    ) -> ImageClassifier:
        """Return a classifier trained on labelled images and a teacher's outputs; within a stage.

        Args:
            task: says the classes.
            model: of which a copy is trained.
            images: labelled ones.
            run: within a stage.
            teacher: what the student is held to beside the labels.
            weight: alpha, of the labels.
        """
        classifier = _classifier(task, model, run.key("heads"))
        losses = self._losses(classifier, teacher, weight)
        copies = 1 + (teacher is not None) / TRAINED
        supervise(run, classifier, losses, images, self.training, copies=lambda _: copies)
        return classifier

    def _losses(
        self, classifier: ImageClassifier, teacher: ImageClassifier | None, weight: float
    ) -> ImageLosses:
        space, classes = SPACES[self.loss_space], classifier.classes
        source = FixedTeacher(teacher, classes) if teacher else None

        def losses(seen: Seen) -> Losses:
            scores = classifier(seen.images)  # [B, C]
            hard = functional.one_hot(seen.labels, len(classes)).float()
            said = source.scores(seen.images, seen.places) if source else None
            right = (scores.detach().argmax(1) == seen.labels).float().mean()
            return {"loss": guided_loss(space, scores, hard, said, weight), "right": right}

        return losses

    def _outputs(
        self, first: ImageClassifier, alone: ImageClassifier, held: ImageSet
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what two classifiers say of held-out images, and the labels, [V, C] each."""
        outputs = SPACES[self.loss_space].outputs

        def said(by: ImageClassifier) -> np.ndarray:
            return held.mapped(lambda pixels, _: outputs(by.scores(pixels))).numpy()

        hard = functional.one_hot(torch.from_numpy(held.labels), len(held.classes))
        return said(first), said(alone), hard.numpy()

    def _fit_kernel(self, task: TableTask, model: KernelModel, run: Run) -> Fit:
        table, answers = task.required_labels()
        at, apart = held_places(len(table), self.held_out)
        rows, wanted = model.features(table), answers.one_hot()
        ready = model.resolved(rows[at])

        @functools.cache
        def distiller() -> KernelSelfDistiller:
            fresh = KernelSelfDistiller(ready.function, self.lam, rank=self.rank)
            return fresh.fit(rows[at], wanted[at])

        def distilled() -> dict[str, Any]:
            run.meter.charge(**_kernel_cost(len(table), self.rank))
            weights: list[float] = []
            for step in range(2, self.steps + 1):
                weights.append(self._kernel_weight(distiller(), rows[apart], wanted[apart], step, weights))
            pictures = kernel_pictures(distiller(), rows[apart], wanted[apart], weights)
            return {"weights": weights, "pictures": pictures}

        def kernel_model(step: int) -> KernelModel:
            found, weights = distiller(), told["weights"]
            by = found.coefficients(step, weights, allow_extrapolation=True)
            return ready.fitted(found.decomposed.anchors, by, found.mean, answers.classes)

        told = run.stage("distillation", distilled)
        first = run.stage("fit-1", lambda: kernel_model(1))
        last = run.stage(f"fit-{self.steps}", lambda: kernel_model(self.steps)) if self.steps > 1 else first
        metrics = _told(told["weights"])
        if task.held("validation"):
            for name, found in {"fit 1": first, f"fit {self.steps}": last}.items():
                row = task.metric.row(task.evaluate(found, split="validation").values)
                metrics[f"validation, {name}"] = row
        return Fit(model=last, parts={"first fit": first}, metrics=metrics, pictures=told["pictures"])

    def _kernel_weight(
        self, found: KernelSelfDistiller, rows: np.ndarray, wanted: np.ndarray, step: int, before: list[float]
    ) -> float:
        """Return the weight of the labels in a step: as was asked, or the best on held-out rows."""
        if self.label_weight is not None:
            return self.label_weight
        clip = None if self.extrapolate else CONVEX
        return found.optimal_alpha(rows, wanted, step, clip, before=before)


def _told(weights: list[float]) -> dict[str, Any]:
    """Return the weights of steps 2 on as metrics, together and by step, which the report lists."""
    by_step = {f"weight of the labels, step {step}": weight for step, weight in enumerate(weights, 2)}
    return {"label_weights": weights, **by_step}


def _classifier(task: ImageTask, model: ImageEncoder, key: int) -> ImageClassifier:
    return ImageClassifier(model.copy(), task.classes, {CLASS: len(task.classes)}, key=key)


def _kernel_cost(rows: int, rank: int) -> dict[str, float]:
    """Return what a decomposition of the kernel matrix spends."""
    side = min(rank or rows, rows)
    return {"samples": rows, "flops": float(DECOMPOSITION * side**3 + (2 * rows * side**2 if rank else 0))}
