"""The best one-layer learner in context: train a layer of linear attention, hold it to its exact optimum.

Mahankali, Hashimoto and Ma 2023, "One Step of Gradient Descent is Provably the Optimal In-Context Learner
with One Layer of Linear Self-Attention", arXiv 2307.03576. The best that a layer of linear self-attention can
do is one step of gradient descent: preconditioned where inputs are not isotropic, and still on linear least
squares where answers are not linear. Pick it to test code or models that learn in context against exact
figures. `icl-gd` asks what deeper models do, and compares with descent of as many steps.

Deviations from the paper:
- It is a paper of theorems without experiments; training, sizes and tolerances are ours.
- Closed forms of step, preconditioner and risk are derived where the paper gives expectations. The prior
  N(0, I) with any covariance, and random ReLU networks, are cases that it does not spell out.
- Errors are squared errors without a half. Steps are on the sum over the context, as in the paper.
- The theorems are about the global minimum. The form with one vector and one matrix reaches it; four matrices
  may end elsewhere, so `restarts` trains several times and keeps the best on validation problems.
- Rows of a table are no Gaussian inputs: there the closed form is a prediction, and said to be one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.alignment import squared_errors
from selfstudy.evaluation.one_step_pictures import one_step_pictures, risks_by_context
from selfstudy.evaluation.verification import references, verify_icl
from selfstudy.learning.in_context import ContextTraining, Trajectory, step_cost, train_in_context, trial_step
from selfstudy.learning.loops import check_positive
from selfstudy.tasks.regression import REGRESSORS, SQUARED_ERROR, InContextRegression, require_fit

CHOOSING = 4000  # validation problems on which the best restart is chosen


@dataclass(frozen=True, kw_only=True)
class OneStepGd(Method):
    """Train a layer of linear attention and verify that it is one step of descent (Mahankali 2023)."""

    works_on = (InContextRegression, REGRESSORS)

    steps: int = 1500
    """Training steps."""
    batch: int = 512
    """Problems in a step, drawn afresh."""
    learning_rate: float = 1e-2
    """Of Adam at the start; it falls to 0 along half a cosine."""
    restarts: int = 1
    """Trainings from different first weights, of which the best on validation problems is kept."""
    problems: int = 20_000
    """Held-out problems of the verification."""
    snapshots: int = 24
    """Points of training at which the layer is looked at for the pictures."""

    def validate(self) -> None:
        """Check the fields."""
        check_positive(self, steps=0, batch=0, learning_rate=0, restarts=0, problems=1, snapshots=0)

    @property
    def training(self) -> ContextTraining:
        """Settings of one training."""
        return ContextTraining(
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            schedule="cosine",
            snapshots=self.snapshots,
        )

    def cost(self, task: InContextRegression, model: Any) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        one = step_cost(model, self.training, task.problems.context)
        return {unit: self.restarts * self.steps * amount for unit, amount in one.items()}

    def trial(self, task: InContextRegression, model: Any) -> tuple[Callable[[], object], int]:
        """Return a callable that does one training step on a copy, and how many a fit takes."""
        require_fit(task, model)
        return trial_step(model, task.batch, self.training), self.restarts * self.steps

    def fit(self, task: InContextRegression, model: Any, run: Run) -> Fit:
        """Train a copy of `model` on the task's problems, and verify it on held-out ones."""
        require_fit(task, model)
        paths = [
            run.stage(f"train-{restart}", partial(self._train, task, model, run, restart))
            for restart in range(self.restarts)
        ]
        tuning = task.held_out("validation", min(self.problems, CHOOSING), stream="tuning")
        risks = [float(squared_errors(path.model, tuning).mean()) for path in paths]
        path = paths[risks.index(min(risks))]
        known = references(task.problems, tuning)
        held_out = task.held_out("validation", self.problems)
        rows = {
            name: SQUARED_ERROR.row(squared_errors(predictor, held_out).tolist())
            for name, predictor in {"the model": path.model, **known}.items()
        }
        verified = verify_icl(path.model, task.problems, held_out)
        by_context = run.stage("by-context", lambda: risks_by_context(task.problems, task.held_out))
        metrics = {**rows, "restarts": risks, "verification": verified, "by_context": by_context}
        return Fit(
            model=path.model,
            metrics=metrics,
            held_to=verified.pop("held_to", []),
            pictures=one_step_pictures(path, known, metrics, held_out),
        )

    def _train(self, task: InContextRegression, model: Any, run: Run, restart: int) -> Trajectory:
        """Train from the given first weights, or in a restart from those of the next seed."""
        start = model
        if restart:
            start = type(model)(**{**model.config, "seed": model.config["seed"] + restart})
        return train_in_context(
            start, task.batch, self.training, task.problems.context, run, f"train-{restart}"
        )
