"""Guided self-distillation: fit again to one's own predictions, with a weight of the labels that is computed.

Borup, Andersen 2021, "Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by
Self-Distillation", arXiv 2102.13088. Pick it to improve a ridge or kernel model whose penalty is off, at the
price of a few inner products; or to distil a network from itself without a grid over the weight: two
trainings a step tell it. If a grid over the penalty is cheap, that does as much for a kernel model. With
noisy labels and one training to spend, take ps-kd.

Deviations from the paper: the weight is computed on a share of the labelled items that is held apart, since
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

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.guided_pictures import (
    FitErrors,
    fit_errors,
    kernel_pictures,
    squared_error,
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
    held_places,
    new_classifier,
    require_labels,
    step_cost,
    supervise,
    trial_step,
)
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import TRAINED
from selfstudy.models.kernel_model import KernelModel
from selfstudy.models.kernels import require_room, spectrum_flops
from selfstudy.signals.teachers import FixedTeacher
from selfstudy.tasks.base import validation_rows
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.table_task import TableTask

TIMED = 1000  # rows whose decomposition is timed before a fit


@dataclass(frozen=True, kw_only=True)
class GuidedSelfDistillation(Method):
    """Distil a fit from itself, guided by the labels (Borup and Andersen 2021)."""

    works_on = ((ImageTask, TableTask), (ImageEncoder, KernelModel))

    steps: int = 2
    """tau, fits one after the other; the first is that to the labels alone."""
    label_weight: float | None = None
    """alpha, weight of the labels in every step from the second on; None computes it anew for each."""
    held_out: float = 0.2
    """Share of the labelled items that is not fitted: the weight is computed on them. With a label weight of
    your own, 0 fits all."""
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
                "your own, since the weight is computed on what is held out."
            )
        weight = self.label_weight
        if weight is not None and not (np.isfinite(weight) and (self.extrapolate or 0 <= weight <= 1)):
            raise UsageError(
                f"label_weight is {weight}; it must be from 0 to 1, or with extrapolate any number."
            )
        if self.extrapolate and self.loss_space == "ce":
            raise UsageError(
                "extrapolate does not go with the loss_space ce: a weight outside 0 to 1 makes targets below "
                "0, and their cross-entropy has no least value. Take softmax-mse or logits-mse."
            )
        if self.rank < 0:
            raise UsageError(f"rank is {self.rank}; it must be at least 0, which is exact.")
        self.training.validate()

    def cost(self, task: Any, model: Any) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        if isinstance(task, TableTask):
            rows = len(self._apart(len(task.required_labels().table))[0])
            require_room(rows, self.rank)
            return {"samples": rows, "flops": spectrum_flops(rows, self.rank)}
        require_labels(task.labelled)
        images = task.labelled.only(self._apart(len(task.labelled))[0])
        step = step_cost(model, self.training.batch_of(images))
        distilled = self._trainings - 1
        return {
            "samples": self.training.steps * step["samples"] * self._trainings,
            "flops": self.training.steps * step["flops"] * (1 + distilled * (1 + 1 / TRAINED)),
        }

    def trial(self, task: Any, model: Any) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes; of a kernel model a small decomposition."""
        if isinstance(task, TableTask):
            table = task.required_labels().table
            rows = model.features(table)[self._apart(len(table))[0]]
            some, kernel = rows[:TIMED], model.resolved(rows).function
            whole, part = (spectrum_flops(len(of), self.rank) for of in (rows, some))
            distiller = KernelSelfDistiller(kernel, self.lam, rank=self.rank)
            return lambda: distiller.fit(some, some[:, 0]), max(1, round(whole / part))
        require_labels(task.labelled)
        classifier = new_classifier(model, task.labelled)
        step = trial_step(classifier, self._losses(classifier, None, 1.0), task.labelled, self.training)
        return step, self._trainings * self.training.steps

    @property
    def _trainings(self) -> int:
        """Of networks: the first, and one or two for each further fit."""
        return 1 + (self.steps - 1) * (1 + (self.label_weight is None))

    @property
    def _clip(self) -> tuple[float, float] | None:
        return None if self.extrapolate else CONVEX

    def _apart(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of labelled items that are fitted, and of those held out.

        Raises:
            DataError: the weight is to be computed, and there is nothing to compute it on.
        """
        at, apart = held_places(count, self.held_out)
        if self.steps > 1 and self.label_weight is None and not len(apart):
            raise DataError(
                f"held_out={self.held_out:g} of {count} labelled items leaves none to compute the weight of "
                "the labels on. Raise it, label more items, or give label_weight yourself."
            )
        return at, apart

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        """Fit the labels, then step by step the labels and the fit of before."""
        if isinstance(task, TableTask):
            return self._fit_kernel(task, model, run)
        return self._fit_network(task, model, run)

    def _fit_network(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        require_labels(task.labelled)
        images, held = map(task.labelled.only, self._apart(len(task.labelled)))

        def trained(name: str, teacher: ImageClassifier | None, weight: float) -> ImageClassifier:
            return run.stage(name, lambda: self.trained(model, images, run, teacher, weight))

        fits = [trained("fit-1", None, 1.0)]
        weights: list[float] = []
        errors: dict[int, FitErrors] = {}
        for step in range(2, self.steps + 1):
            weight = self.label_weight
            if weight is None:
                alone = trained(f"teacher-alone-{step}", fits[-1], 0.0)
                weight = self.weight(fits[0], alone, held)
                f, g = (self._outputs(by, held) for by in (fits[0], alone))
                errors[step] = fit_errors(f, g, _one_hot(held))
            weights.append(weight)
            fits.append(trained(f"fit-{step}", fits[-1], weight))
        pictures = [weight_picture(errors, weights)] if errors else []
        if len(held) and self.steps > 1:
            found = [squared_error(self._outputs(by, held), _one_hot(held)) for by in fits]
            pictures.append(steps_picture(found))
        metrics = _metrics(task, weights, dict(enumerate(fits, 1)))
        return Fit(model=fits[-1], parts={"first fit": fits[0]}, metrics=metrics, pictures=pictures)

    def weight(self, first: ImageClassifier, alone: ImageClassifier, held: ImageSet) -> float:
        """Return the weight of the labels, from the fit to them and one to the teacher alone.

        Args:
            first: trained on the labels.
            alone: trained on the outputs of the teacher, without labels.
            held: labelled images that none of them was trained on.
        """
        f, g = (self._outputs(by, held) for by in (first, alone))
        return estimate_alpha(f, g, _one_hot(held), clip=self._clip)

    def trained(
        self,
        model: ImageEncoder,
        images: ImageSet,
        run: Run,
        teacher: ImageClassifier | None = None,
        weight: float = 1.0,
    ) -> ImageClassifier:
        """Return a classifier trained on labelled images and a teacher's outputs; within a stage.

        Args:
            model: of which a copy is trained.
            images: labelled ones.
            run: within a stage.
            teacher: what the student is held to beside the labels.
            weight: alpha, of the labels.
        """
        classifier = new_classifier(model, images, run.key("heads"))
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

    def _outputs(self, by: ImageClassifier, images: ImageSet) -> np.ndarray:
        """Return what a classifier says of images, in the space of the loss: [N, C]."""
        outputs = SPACES[self.loss_space].outputs
        return images.mapped(lambda pixels, _: outputs(by.scores(pixels))).numpy()

    def _fit_kernel(self, task: TableTask, model: KernelModel, run: Run) -> Fit:
        table, answers = task.required_labels()
        at, apart = self._apart(len(table))
        rows, wanted = model.features(table), answers.one_hot()
        ready = model.resolved(rows[at])

        @functools.cache
        def distiller() -> KernelSelfDistiller:
            fresh = KernelSelfDistiller(ready.function, self.lam, rank=self.rank)
            return fresh.fit(rows[at], wanted[at])

        def distilled() -> dict[str, Any]:
            run.meter.charge(samples=len(at), flops=spectrum_flops(len(at), self.rank))
            weights: list[float] = []
            held = rows[apart], wanted[apart]
            for step in range(2, self.steps + 1):
                weight = self.label_weight
                if weight is None:
                    weight = distiller().optimal_alpha(*held, step, self._clip, before=weights)
                weights.append(weight)
            return {"weights": weights, "pictures": kernel_pictures(distiller(), *held, weights)}

        def kernel_model(step: int) -> KernelModel:
            found, weights = distiller(), told["weights"]
            by = found.coefficients(step, weights, allow_extrapolation=True)
            return ready.fitted(found.decomposed.anchors, by, found.mean, answers.classes)

        told = run.stage("distillation", distilled)
        first = run.stage("fit-1", lambda: kernel_model(1))
        last = run.stage(f"fit-{self.steps}", lambda: kernel_model(self.steps)) if self.steps > 1 else first
        metrics = _metrics(task, told["weights"], {1: first, self.steps: last})
        return Fit(model=last, parts={"first fit": first}, metrics=metrics, pictures=told["pictures"])


def _metrics(task: Any, weights: list[float], fits: dict[int, Any]) -> dict[str, Any]:
    """Return the weights of steps 2 on, together and by step, and a row of validation results by fit."""
    by_step = {f"weight of the labels, step {step}": weight for step, weight in enumerate(weights, 2)}
    rows = validation_rows(task, {f"fit {step}": found for step, found in fits.items()})
    return {"label_weights": weights, **by_step, **rows}


def _one_hot(images: ImageSet) -> np.ndarray:
    """Return the labels of images, [N, C]."""
    return functional.one_hot(torch.from_numpy(images.labels), len(images.classes)).numpy()
