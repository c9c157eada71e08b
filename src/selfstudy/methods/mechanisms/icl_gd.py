"""In-context learning by gradient descent: train linear self-attention, compare it with explicit descent.

von Oswald, Niklasson, Randazzo, Sacramento, Mordvintsev, Zhmoginov and Vladymyrov 2022, "Transformers Learn
In-Context by Gradient Descent", arXiv 2212.07677. A layer of linear self-attention can take a step of
gradient descent on the examples in its context. Here it is trained without being told so, and then compared
with the step: what it predicts, how it reacts to the query, its weights, and away from its training problems.
Pick it to watch or unit-test learning in context. `one-step-gd` asks the other question, how far such a layer
is from the best possible one, for Gaussian inputs of any covariance, with noise and non-linear responses.

Deviations from the paper and its program:
- The error is the squared one, without the paper's half; gradients are of half of it, as there.
- Steps are on the sum over the context: η, on the mean, is n times as large. Both are reported.
- The best step of plain descent comes from its closed form where there is one, else from Brent's search, step
  and curvature of GD++ from Nelder and Mead's. The program scans 250 steps, and trains GD++.
- One layer is trained for 2,000 steps and not 5,000; its loss is level by then.
- With sine responses the features start from weights of the usual size, and inputs alone are embedded.
- A user's table, or scikit-learn's diabetes, can take the place of what the paper samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.regression import Batch, Predictor
from selfstudy.evaluation.alignment import alignment, can_average, interpolate, squared_errors
from selfstudy.evaluation.descent_pictures import descent_pictures
from selfstudy.evaluation.descent_search import best_curved_descent, best_descent
from selfstudy.evaluation.in_context_optimum import one_layer_optimum
from selfstudy.evaluation.out_of_distribution import Curves, departures, repeated
from selfstudy.evaluation.tolerances import within
from selfstudy.learning.in_context import ContextTraining, step_cost, train_in_context, trial_step
from selfstudy.learning.loops import check_positive
from selfstudy.models.in_context.descent_weights import gd_attention
from selfstudy.models.in_context.embedded import EmbeddedAttention, FeatureDescent
from selfstudy.models.in_context.linear_attention import LinearSelfAttention
from selfstudy.models.in_context.paired_tokens import PairedTokens
from selfstudy.models.in_context.parts import DEEP
from selfstudy.models.in_context.predictors import gradient_descent, zero
from selfstudy.tasks.regression import REGRESSORS, SQUARED_ERROR, InContextRegression, require_fit

MODEL, DESCENT, FEATURES = "the model", "gradient descent", "descent on learned features"
GAP = 0.02  # of the error above that of gradient descent, for one layer
COSINE = 0.99


@dataclass(frozen=True, kw_only=True)
class IclGd(Method):
    """Train a model to regress in context, measure how near it is to gradient descent (von Oswald 2022)."""

    works_on = (InContextRegression, REGRESSORS)

    steps: int | None = None
    """Training steps; None is 2,000 for one layer and 5,000 for more."""
    batch: int = 2048
    """Problems in a step, drawn afresh."""
    learning_rate: float | None = None
    """Of Adam; None is 1e-3, and 5e-4 for more than three layers."""
    clip: float | None = None
    """Largest norm of the gradient; None is 0.001 for one or two layers and 10 for more."""
    problems: int = 10_000
    """Held-out problems of the comparison."""
    snapshots: int = 24
    """Points of training at which the model is compared for the pictures."""

    def validate(self) -> None:
        """Check the fields."""
        check_positive(self, steps=0, batch=0, learning_rate=0, clip=0, problems=1, snapshots=0)

    def training(self, model: Any) -> ContextTraining:
        """Return the settings for a model of this depth."""
        depth = model.layers
        return ContextTraining(
            steps=self.steps or (2000 if depth == 1 else 5000),
            batch=self.batch,
            learning_rate=self.learning_rate or (5e-4 if depth > DEEP else 1e-3),
            betas=(0.9, 0.98),
            clip=self.clip or (0.001 if depth <= 2 else 10.0),
            snapshots=self.snapshots,
        )

    def cost(self, task: InContextRegression, model: Any) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        settings = self.training(model)
        one = step_cost(model, settings, task.problems.context)
        return {unit: settings.steps * amount for unit, amount in one.items()}

    def trial(self, task: InContextRegression, model: Any) -> tuple[Callable[[], object], int]:
        """Return a callable that does one training step on a copy, and how many a fit takes."""
        require_fit(task, model)
        settings = self.training(model)
        return trial_step(model, task.batch, settings), settings.steps

    def fit(self, task: InContextRegression, model: Any, run: Run) -> Fit:
        """Train a copy of `model` on the task's problems, and compare it with descent on held-out ones."""
        require_fit(task, model)
        settings, context = self.training(model), task.problems.context
        path = run.stage("train", lambda: train_in_context(model, task.batch, settings, context, run))
        found = run.stage("references", lambda: best_steps(task, model.descent_steps, self.problems))
        references = named(found, model.descent_steps)
        parts = {}
        if isinstance(model, EmbeddedAttention):
            own = run.stage("features", lambda: self._descent_on_features(task, model, run))
            references, parts = {FEATURES: own, **references}, {"features": own}
        held_out = task.held_out("validation", self.problems)
        metrics = run.stage("comparison", lambda: compare(path.model, references, held_out, found))
        held_to = metrics.pop("held_to")
        metrics["descent"] = {**found, "eta": context * found["step"]}
        metrics["departures"] = run.stage(
            "departures", lambda: self._departures(task, path.model, references, found)
        )
        return Fit(
            model=path.model,
            parts=parts,
            metrics=metrics,
            held_to=held_to,
            pictures=descent_pictures(path, references, metrics, held_out),
        )

    def _descent_on_features(
        self, task: InContextRegression, model: EmbeddedAttention, run: Run
    ) -> FeatureDescent:
        """Train the features of one explicit step of descent as the model's were trained."""
        start = FeatureDescent(dimensions=model.dimensions, width=model.width, seed=model.config["seed"])
        settings, context = self.training(model), task.problems.context
        return train_in_context(start, task.batch, settings, context, run, "train").model

    def _departures(
        self, task: InContextRegression, model: Any, references: dict[str, Predictor], found: dict[str, float]
    ) -> dict[str, Curves]:
        """Measure what changes away from the training problems, on a fifth of the problems."""

        def draw(**changes: Any) -> Batch:
            return task.held_out("validation", max(1, self.problems // 5), **changes)

        curves = departures({MODEL: model, **references}, task.problems, draw)
        if isinstance(model, LinearSelfAttention) and model.layers == 1:
            curves["layer applied again and again"] = repeated(model, found["step"], draw())
        return curves


def best_steps(task: InContextRegression, steps: int, problems: int) -> dict[str, float]:
    """Return the best step of plain descent, and the best step and curvature of GD++, for so many steps.

    "closed form" tells whether one step of descent is known to be the best that a layer can do.
    """
    tuning = task.held_out("validation", problems, stream="tuning")
    best = one_layer_optimum(task.problems) if steps == 1 else None
    known = best is not None and best.exact and best.isotropic
    step = best.step if best and known else best_descent(tuning, steps)
    curved_step, curvature = best_curved_descent(tuning, steps) if steps > 1 else (step, 0.0)
    return {
        "steps": steps,
        "step": step,
        "GD++ step": curved_step,
        "GD++ curvature": curvature,
        "closed form": known,
    }


def named(found: dict[str, float], steps: int) -> dict[str, Predictor]:
    """Return the references as predictors; with one step GD++ is gradient descent."""
    references = {DESCENT: gradient_descent(found["step"], steps)}
    if steps > 1:
        references["GD++"] = gradient_descent(found["GD++ step"], steps, found["GD++ curvature"])
    return references


def compare(
    model: Any, references: dict[str, Predictor], batch: Batch, found: dict[str, float]
) -> dict[str, Any]:
    """Return errors and alignment on the same problems, and what one layer is held to.

    Args:
        model: that was trained.
        references: by name, the nearest first.
        batch: held-out problems.
        found: by `best_steps`.
    """
    errors = {
        name: squared_errors(p, batch) for name, p in {MODEL: model, **references, "zero": zero}.items()
    }
    first = next(iter(references))
    gaps = {name: float(errors[MODEL].mean() / errors[name].mean()) - 1 for name in references}
    alike = {name: alignment(model, reference, batch)._asdict() for name, reference in references.items()}
    rows = {name: SQUARED_ERROR.row(values.tolist()) for name, values in errors.items()}
    held_to: list[dict[str, Any]] = []
    figures: dict[str, Any] = {**rows, "gaps": gaps, "alignment": alike, "held_to": held_to}
    if isinstance(model, PairedTokens):
        figures["copying"] = model.copying(batch.context, batch.query)
    # Where a layer can do better than descent, or is not known not to, it is held to nothing.
    exact = found["closed form"] and model.layers == 1
    if exact:
        held_to.append(within("error against gradient descent", abs(gaps[first]), most=GAP))
        held_to.append(within("cosine of sensitivities", alike[first]["cosine"], least=COSINE))
    if model.layers == 1 and isinstance(model, LinearSelfAttention) and can_average(model):
        mixed = squared_errors(interpolate(model, gd_attention(model.dimensions, found["step"])), batch)
        figures["averaged weights"] = SQUARED_ERROR.row(mixed.tolist())
        gap = abs(float(mixed.mean() / errors[first].mean()) - 1)
        if exact:
            held_to.append(within("error of averaged weights against gradient descent", gap, most=GAP))
    return figures
