"""Distilling the knowledge in data pruning: train on a small part of the data, held to what all of it taught.

Ben-Baruch, Botach, Kviatkovsky, Aggarwal, Medioni 2024, "Distilling the Knowledge in Data Pruning",
arXiv 2403.07854. Pick it when many networks or many runs are trained on one labelled set, and each should
see a part of it: a teacher that once saw everything gives soft labels to what is kept, and then a random
part does as well as one chosen with care. For one network trained once it saves nothing, since the teacher
costs a full training: train on all of it.

Deviations from the paper: the weight of the teacher comes by a rule of ours, 1 - sqrt(f)/2, or from images
set aside, since the paper reads its weights off a grid; short runs start from the encoder's own weights and
differ in heads, order and views; GraNd's gradients are taken in evaluation mode; memorisation is told from a
few pairs of runs on halves of the images, where its authors take thousands of runs; images only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.pruned import PrunedTable, kept_count, kept_places
from selfstudy.evaluation.pruning_pictures import pruning_pictures
from selfstudy.learning.loops import check_positive
from selfstudy.learning.pruned_distillation import (
    alpha_rule,
    best_alpha,
    distilled_losses,
    knowledge,
    share_right,
    train_student,
    warn_of_cropping,
    warn_of_divergence,
)
from selfstudy.learning.pruning_evidence import pruning_scores, scoring_cost, scoring_steps
from selfstudy.learning.supervised import (
    Supervised,
    held_places,
    new_classifier,
    require_labels,
    step_cost,
    trial_step,
)
from selfstudy.learning.taught import taught, teacher_starts
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.classifier import ImageClassifier
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.signals.pruning_scores import pruner
from selfstudy.signals.teachers import CachedScores, EnsembleTeacher, FixedTeacher, Teacher
from selfstudy.tasks.base import validation_rows
from selfstudy.tasks.images import ImageTask

TAUGHT, ALONE = "with the teacher", "labels alone"
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
LOOKS = {"rule": (), "estimate": (0.0, 1.0), "grid": GRID}  # weights of the students that one is chosen by


@dataclass(frozen=True, kw_only=True)
class PruningDistillation(Method):
    """Train on a kept fraction of the images with a teacher that saw them all (Ben-Baruch et al. 2024)."""

    works_on = (ImageTask, ImageEncoder)

    fraction: float = 0.1
    """f, share of the labelled images that the student is trained on."""
    pruner: str = "random"
    """Which are kept: random, el2n, grand, forgetting, memorisation, margin, herding, moderate, or a function
    of your own, module:function."""
    stratified: bool = True
    """Whether each class keeps its share."""
    alpha: float | None = None
    """Weight of the teacher beside the labels, from 0, no teacher, to 1; None is as `choose_alpha` says."""
    choose_alpha: Literal["rule", "estimate", "grid"] = "rule"
    """How alpha is chosen: "rule" is 1 - sqrt(f)/2; the others look at images set aside, "estimate" in closed
    form, from a student of the labels and one of the teacher alone, "grid" at five students."""
    aside: float = 0.1
    """Share of the labelled images set aside for "estimate" and "grid"; neither teacher nor student is
    trained on them."""
    temperature: float = 2.0
    """T, which softens the scores of teacher and student; the student's gradients grow with it, up to its
    square."""
    teacher: str = ""
    """A trained classifier's folder, or a model that is trained as the teacher, such as mlp?hidden=64; empty
    is the model itself."""
    teachers: int = 1
    """Networks that teach together, by the mean of their scores."""
    teacher_scores: Literal["live", "cached"] = "live"
    """Whether the teacher is asked about each view, or once about each image as it is."""
    short_runs: int = 2
    """R, short runs that scores are averaged over; for memorisation R pairs of runs on halves."""
    scoring: Supervised = field(default_factory=lambda: Supervised(steps=100))
    """A short run, of a few passes over all images."""
    teaching: Supervised = field(default_factory=Supervised)
    """Training of a teacher on all images, and of the full run that forgetting is counted in."""
    training: Supervised = field(default_factory=Supervised)
    """Training of a student."""
    length: Literal["steps", "epochs"] = "steps"
    """Whether a student takes all steps of `training`, or fewer in proportion to the fraction."""
    compare: bool = True
    """Whether a student without a teacher is trained on the same images too, for the report."""
    curve: tuple[float, ...] = ()
    """Further fractions that students are trained on, for the report."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, temperature=0, teachers=0, short_runs=0)
        for name, share in [("fraction", self.fraction), *(("curve", one) for one in self.curve)]:
            if not 0 < share <= 1:
                raise UsageError(f"{name} is {share:g}; a kept fraction is above 0 and at most 1.")
        if not (0 <= (self.alpha or 0) <= 1 and 0 < self.aside < 1):
            raise UsageError(
                f"alpha is {self.alpha} and aside {self.aside:g}: the weight of the teacher is from 0 to 1, "
                "the share that is set aside above 0 and below 1."
            )
        pruner(self.pruner)
        for settings in (self.scoring, self.teaching, self.training):
            settings.validate()
        if self.teacher_scores == "cached":
            warn_of_cropping(self.training.views)

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends at most, by budget unit."""
        data, _, _ = self._data(task.labelled)
        spent = [scoring_cost(self.pruner, model, data, **self._scoring)]
        starts = self._starts(model, data)
        for start in starts:
            if isinstance(start, ImageEncoder):
                one = step_cost(start, self.teaching.batch_of(data))
                spent.append({unit: self.teaching.steps * amount for unit, amount in one.items()})
        encoders = [one.encoder if isinstance(one, ImageClassifier) else one for one in starts]
        asked = sum(map(forward_flops, encoders), 0.0)
        if starts and self.teacher_scores == "cached":
            spent.append({"flops": len(data) * asked})
            asked = 0.0
        for fraction, alpha in self._students():
            plan, kept = self._plan(fraction), kept_count(data.labels, fraction, stratified=self.stratified)
            samples = plan.steps * plan.batch_of(data.only(slice(kept)))
            passes = TRAINED * forward_flops(model) + (asked if alpha != 0 else 0.0)
            spent.append({"samples": samples, "flops": samples * passes})
        return {unit: sum(part.get(unit, 0.0) for part in spent) for unit in ("samples", "flops")}

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return a student's step on a copy, and how many steps a fit takes."""
        data, _, _ = self._data(task.labelled)
        student, teacher = (new_classifier(model, data) for _ in range(2))
        fixed = FixedTeacher(teacher, task.classes)
        losses = distilled_losses(student, fixed, 0.5, self.temperature, np.arange(len(data)))
        untrained = sum(isinstance(start, ImageEncoder) for start in self._starts(model, data))
        steps = scoring_steps(self.pruner, **self._scoring) + untrained * self.teaching.steps
        steps += sum(self._plan(fraction).steps for fraction, _ in self._students())
        return trial_step(student, losses, data, self.training), steps

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Train a teacher and scores on all labelled images of `task`, copies of `model` on those kept."""
        data, held, items = self._data(task.labelled)
        teachers = taught(run, self._starts(model, data), data, self.teaching)
        teacher = self._teacher(teachers, data, run)
        scores = pruning_scores(run, self.pruner, model, data, **self._scoring)
        students: dict[tuple[float, float], ImageClassifier] = {}

        def student(fraction: float, alpha: float) -> ImageClassifier:
            name, places = f"student-{fraction:g}-{alpha:g}", self._kept(data, scores, fraction)
            if (fraction, alpha) not in students:
                students[fraction, alpha] = run.stage(
                    name,
                    lambda: train_student(
                        run, model, data, self._plan(fraction),
                        teacher=teacher, alpha=alpha, temperature=self.temperature, places=places,
                    ),
                )  # fmt: skip
                warn_of_divergence(run.metrics(), name)
            return students[fraction, alpha]

        looked = {alpha: student(self.fraction, alpha) for alpha in self._looks}
        alphas, told = self._alphas(looked, held)
        found = {f: {TAUGHT if a else ALONE: student(f, a)} for f, a in alphas.items()}
        if self.compare:
            for fraction, of in found.items():
                of[ALONE] = student(fraction, 0.0)
        kept = np.isin(np.arange(len(data)), self._kept(data, scores, self.fraction))
        table = PrunedTable(data.classes, data.labels, scores, kept, items)
        rows = self._rows(task, teachers, found)
        return Fit(
            model=student(self.fraction, alphas[self.fraction]),
            parts={**{f"teacher-{number}": one for number, one in enumerate(teachers)}, "kept": table},
            metrics={
                **rows,
                **told,
                **knowledge(data, teachers, found[self.fraction]),
                "kept": int(kept.sum()),
            },
            pictures=pruning_pictures(table, data, rows, task.metric, ranked=self.pruner != "random"),
        )

    # The data, and the fractions and weights that students are trained with.

    @property
    def _looks(self) -> tuple[float, ...]:
        return LOOKS[self.choose_alpha] if self.alpha is None else ()

    @property
    def _scoring(self) -> dict[str, Any]:
        return {"short": self.scoring, "full": self.teaching, "runs": self.short_runs}

    def _data(self, labelled: ImageSet) -> tuple[ImageSet, ImageSet, np.ndarray]:
        """Return the images that are pruned, those set aside to choose by, and the places of the first."""
        require_labels(labelled)
        at, aside = held_places(len(labelled), self.aside if self._looks else 0.0)
        if self._looks and not len(aside):
            raise UsageError(
                f"aside={self.aside:g} of {len(labelled)} labelled images leaves none to choose alpha by. "
                "Raise it, or give alpha itself."
            )
        data = labelled.only(at)
        for fraction in (self.fraction, *self.curve):
            kept_count(data.labels, fraction)  # refuses to keep none before any work
        return data, labelled.only(aside), at

    def _kept(self, data: ImageSet, scores: np.ndarray, fraction: float) -> np.ndarray:
        return kept_places(scores, data.labels, fraction, stratified=self.stratified)

    def _plan(self, fraction: float) -> Supervised:
        steps = self.training.steps
        return replace(
            self.training, steps=max(1, round(fraction * steps)) if self.length == "epochs" else steps
        )

    def _students(self) -> set[tuple[float, float | None]]:
        """Return fractions and weights of all students; None where a weight is found on the way."""
        pairs: set[tuple[float, float | None]] = {(self.fraction, alpha) for alpha in self._looks}
        for fraction in {self.fraction, *self.curve}:
            if self.compare:
                pairs.add((fraction, 0.0))
            if not self._looks:
                pairs.add((fraction, alpha_rule(fraction) if self.alpha is None else self.alpha))
            elif self.choose_alpha != "grid" or fraction != self.fraction:
                pairs.add((fraction, None))
        return pairs

    def _alphas(
        self, looked: dict[float, ImageClassifier], held: ImageSet
    ) -> tuple[dict[float, float], dict[str, Any]]:
        """Return the weight of the teacher at each fraction, and what there is to say of the choice."""
        fractions = sorted({self.fraction, *self.curve})
        right = {alpha: share_right(one, held) for alpha, one in looked.items()}
        said: dict[str, Any] = {f"images set aside, alpha {alpha:g}": share for alpha, share in right.items()}
        if not looked:
            alphas = {f: alpha_rule(f) if self.alpha is None else self.alpha for f in fractions}
        elif self.choose_alpha == "grid":
            alphas = dict.fromkeys(fractions, max(right, key=lambda alpha: right[alpha]))
        else:
            alphas = dict.fromkeys(fractions, best_alpha(looked[0.0], looked[1.0], held))
        return alphas, {**said, "alpha": alphas[self.fraction]}

    # Teachers.

    def _starts(self, model: ImageEncoder, labelled: ImageSet) -> list[ImageClassifier | ImageEncoder]:
        return [] if self.alpha == 0 else teacher_starts(self.teacher, model, labelled, self.teachers)

    def _teacher(self, teachers: list[ImageClassifier], data: ImageSet, run: Run) -> Teacher | None:
        if not teachers:
            return None
        teacher = EnsembleTeacher([FixedTeacher(one, data.classes) for one in teachers])
        if self.teacher_scores == "live":
            return teacher
        run.meter.charge(flops=len(data) * teacher.flops)
        return CachedScores(teacher, data)

    # What there is to say.

    def _rows(
        self,
        task: ImageTask,
        teachers: list[ImageClassifier],
        found: dict[float, dict[str, ImageClassifier]],
    ) -> dict[str, Any]:
        """Return a row of validation results for each network."""
        networks = {f"{name}, {f:.3g} kept": one for f, of in found.items() for name, one in of.items()}
        networks |= dict(zip(["teacher"], teachers[:1], strict=False))
        return validation_rows(task, networks)
