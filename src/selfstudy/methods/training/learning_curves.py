"""Learning curves: train on growing samples until what more data would bring is known to be little.

Vilares Ferro, Darriba Bilbao, Ribadas Pena 2017, "Modeling of learning curves with applications to POS
tagging", arXiv 2402.02515. Pick it while data are still being labelled, to know whether more of them are
worth it, or to know early which of two systems will be better in the end; the threshold is in points of
accuracy. To choose hyper-parameters on one fixed data set successive halving needs no model of the curve;
where all data are there and training is cheap, train on all of them.

Deviations: the exponent is the best of 60 on a logarithmic grid, refined by halving the interval by the sign
of the derivative. The working level is the one at which the look-ahead is complete, since
anchoring cannot start earlier in a live run. One split is judged on, not ten of cross-validation. Definitions
of levels follow the companion papers arXiv 2402.02516 and 2402.02522 as far as they are known.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selfstudy.core.errors import BudgetSpent, DataError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.tagged import Level, nested_levels
from selfstudy.evaluation.learning_curve_pictures import trace_pictures
from selfstudy.evaluation.learning_traces import LearningTrace, Status
from selfstudy.evaluation.power_trends import LEAST
from selfstudy.evaluation.trend_quality import percentage_error
from selfstudy.learning.kept import Kept
from selfstudy.learning.loops import check_positive
from selfstudy.learning.supervised import (
    Supervised,
    new_classifier,
    plain_losses,
    require_labels,
    step_cost,
    train_classifier,
    trial_step,
)
from selfstudy.learning.tagging import tagging_cost, train_tagger
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.tagging.base import Tagger
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.nested import item_sizes, with_labelled
from selfstudy.tasks.tagging import TaggingTask

CALM = 0.1  # points a step that the backbone of the paper may change by: 2e-5 a word, in steps of 5,000
AnyTask = TaggingTask | ImageTask
AnyModel = Tagger | ImageEncoder


@dataclass(frozen=True, kw_only=True)
class LearningCurves(Method):
    """Train on nested samples and stop when the gain still to come is small (Vilares Ferro et al. 2017)."""

    works_on = ((TaggingTask, ImageTask), (Tagger, ImageEncoder))

    kernel: int = 5000
    """Units of the first sample, words of sentences or images; cut at the end of a sentence."""
    step: int = 5000
    """Units that each further sample has more."""
    tau: float = 1.0
    """Gain still to come, in points of accuracy, at which it stops."""
    nu: float | None = None
    """Verticality threshold: points by which the asymptote may change a unit of data and still be calm; None
    is a tenth of a point a step."""
    slow_down: float = 1.0
    """The threshold is nu to the power of one over this; below 1 it asks for a calmer asymptote."""
    look_ahead: int = 5
    """Calm changes of the asymptote in a row that make the working level."""
    anchored: bool = True
    """Whether trends are held to the asymptote before, from the working level on."""
    to_the_end: bool = False
    """Whether to use all data although it has converged, to see how right the predictions were."""
    ahead: int = 0
    """Units of data that accuracy is predicted for; 0 is all that the task has."""
    wanted: float | None = None
    """Accuracy, in points, of which it is told how much data it needs."""
    judged: int = 10_000
    """Validation words or images that accuracy is measured on; 0 is all."""
    training: Supervised = field(default_factory=Supervised)
    """How image classifiers are trained on each sample."""

    def suits(self, task: Any, model: Any) -> bool:
        """Taggers are for sentences, encoders for images."""
        return super().suits(task, model) and isinstance(task, TaggingTask) == isinstance(model, Tagger)

    def validate(self) -> None:
        """Check the fields."""
        check_positive(self, kernel=0, step=0, look_ahead=0, tau=0, nu=0, slow_down=0)
        check_positive(self, ahead=-1, judged=-1)
        self._trace()
        self.training.validate()

    def cost(self, task: AnyTask, model: AnyModel) -> dict[str, float]:
        """Return what a fit spends, by budget unit, if it never stops."""
        spent: dict[str, float] = {}
        for level in self._levels(task, np.arange(len(item_sizes(task)))):
            for unit, amount in self._level_cost(task, model, level).items():
                spent[unit] = spent.get(unit, 0) + amount
        return spent

    def trial(self, task: AnyTask, model: AnyModel) -> tuple[Callable[[], object], int]:
        """Return training a tagger on the first sample, or a step of a classifier; and how many there are."""
        levels = self._levels(task, np.arange(len(item_sizes(task))))
        first: Any = with_labelled(task, np.arange(levels[0].items))
        if isinstance(model, Tagger):
            tagger = model.made_for(first.train)
            words = sum(level.units for level in levels)
            return lambda: tagger.learn(first.train, 0), round(words / levels[0].units)
        classifier = new_classifier(model, first.labelled)
        step = trial_step(classifier, plain_losses(classifier), first.labelled, self.training)
        return step, self.training.steps * len(levels)

    def fit(self, task: AnyTask, model: AnyModel, run: Run) -> Fit:
        """Train copies of `model` on growing samples of the labelled data of `task`; give the last."""
        order = run.rng("order").permutation(len(item_sizes(task)))
        levels, trace = self._levels(task, order), self._trace()
        whole = int(item_sizes(task).sum())
        unit = "words" if isinstance(task, TaggingTask) else "images"
        needed = self.look_ahead + LEAST + 1
        if len(levels) < needed:
            warnings.warn(
                f"{task.name!r} has {whole:,} labelled {unit}: {len(levels)} samples by kernel={self.kernel} "
                f"and step={self.step}. A prediction needs {needed} or more, by smaller steps.",
                stacklevel=2,
            )
        kept, statuses = Kept(run.directory / "learner"), list[Status]()
        for level in levels:
            sample = with_labelled(task, order[: level.items])
            try:
                accuracy = run.stage(
                    f"level-{level.number}",
                    lambda sample=sample, level=level: self._observed(sample, model, run, kept, level),  # type: ignore[misc]
                )
            except BudgetSpent:
                break
            status = trace.add(level.units, 100 * accuracy)
            statuses.append(status)
            run.log(units=level.units, accuracy=accuracy, asymptote=status.asymptote, layer=status.layer)
            if status.converged and not self.to_the_end:
                break
        learner = kept.read(levels[len(statuses) - 1].number) if statuses else model.copy()
        pictures = trace_pictures(trace, statuses, self.ahead or whole, unit) if statuses else []
        return Fit(model=learner, metrics=self._told(trace, whole, unit), pictures=pictures)

    def _observed(self, sample: AnyTask, model: AnyModel, run: Run, kept: Kept, level: Level) -> float:
        """Train on a sample, keep what it gave, and return its accuracy on validation data."""
        learner = self._trained(sample, model, run)
        if run.meter.refused:  # trained in part is no observation
            raise BudgetSpent(f"The budget ends within sample {level.number}.")
        right = sample.evaluate(learner, split="validation", limit=self.judged or None).values
        kept.write(level.number, learner)
        return float(np.mean(right))

    def _trained(self, sample: AnyTask, model: Any, run: Run) -> Any:
        if isinstance(sample, TaggingTask):
            return train_tagger(run, model, sample.train)
        return train_classifier(run, model, sample.labelled, self.training)

    def _levels(self, task: AnyTask, order: np.ndarray) -> list[Level]:
        if isinstance(task, ImageTask):
            require_labels(task.labelled)
        if not len(task.validation):
            raise DataError(
                f"The task {task.name!r} has no validation items, on which accuracies are measured. Give it "
                "some, or take another task."
            )
        sizes = item_sizes(task)
        levels = nested_levels(sizes[order], self.kernel, self.step)
        if not levels:
            raise DataError(
                f"{task.name!r} has {sizes.sum():,} units of labelled data, less than kernel={self.kernel}. "
                "Take a smaller kernel, or more data."
            )
        return levels

    def _trace(self) -> LearningTrace:
        nu = CALM / self.step if self.nu is None else self.nu
        return LearningTrace(nu, self.slow_down, self.look_ahead, self.tau, 100.0, anchored=self.anchored)

    def _level_cost(self, task: AnyTask, model: Any, level: Level) -> dict[str, float]:
        if isinstance(task, TaggingTask):
            return tagging_cost(model, level.units)
        step = step_cost(model, self.training.batch_of(task.labelled.only(slice(level.items))))
        return {unit: self.training.steps * amount for unit, amount in step.items()}

    def _told(self, trace: LearningTrace, whole: int, unit: str) -> dict[str, Any]:
        """Return where the trace ended, and what it predicts, or why it predicts nothing."""
        status = trace.status
        told: dict[str, Any] = {"samples": status.level, f"{unit} used": int(trace.xs[-1]) if trace.xs else 0}
        if trace.xs:
            told["validation accuracy, points"] = trace.ys[-1]
            told["share of the data"] = trace.xs[-1] / whole
        if status.converged:
            at = status.converged
            told["converged at"] = int(trace.xs[at - 1])
            if at < status.level:
                later = percentage_error(trace.trends[at - LEAST], trace.xs[at:], trace.ys[at:])
                told["error of what was predicted there, percent"] = later
        try:
            trend = trace.trend
        except DataError as early:
            return {**told, "prediction": str(early)}
        ahead = self.ahead or whole
        told |= {
            "asymptote, points": trend.c,
            "gain still to come, points": status.layer,
            f"predicted at {ahead:,} {unit}, points": trend.predict(ahead),
        }
        if self.wanted is not None:
            try:
                told[f"{unit} for {self.wanted:g} points"] = trend.inverse(self.wanted)
            except DataError as never:
                told[f"{unit} for {self.wanted:g} points"] = str(never)
        return told
