"""Rejection sampling: several fresh rationales a problem, and a gradient step on the right ones.

The plainest way up the gradient of log p(y | x): the mean of grad log p(z | x) over those of S draws from the
model that are right. A problem of which all draws fail gives nothing in that step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.loops import batch_indices
from selfstudy.learning.weighted_sequences import SequenceLearner, SequenceTuning, WeightedText
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rationales import draw_rationales
from selfstudy.search.reasoning import posed

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import ReasoningTask


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Settings of rejection sampling."""

    steps: int = 300
    """Gradient steps."""
    problems: int = 32
    """Problems of a step."""
    particles: int = 4
    """Rationales drawn for each (S)."""
    tuning: SequenceTuning = field(default_factory=SequenceTuning)
    """The gradient steps."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if min(self.steps, self.problems, self.particles) < 1:
            raise UsageError("Rejection needs steps, problems and particles of at least 1.")
        self.tuning.validate()


def rejection_weights(right: np.ndarray) -> np.ndarray:
    """Return the weight of each of S draws for P problems, [P, S], given which are right.

    Right ones share the weight of their problem, and solved problems weigh the same.

    >>> rejection_weights(np.array([[True, True], [True, False], [False, False]])).tolist()
    [[0.25, 0.25], [0.5, 0.0], [0.0, 0.0]]
    """
    count = right.sum(1, keepdims=True)
    return right / np.maximum(1, count) / max(1, (count > 0).sum())


def rejection_sampling(
    model: LanguageModel, task: ReasoningTask, settings: Rejection, run: Run, name: str = "rejection"
) -> LanguageModel:
    """Return `model` after gradient steps on its own right rationales; the given one is unchanged.

    Args:
        model: where training starts.
        task: problems of its training split are solved and checked.
        settings: see there.
        run: streams, checkpoints, log and meter.
        name: names the loop, uniquely within its stage.
    """
    settings.validate()
    count = min(settings.problems, len(task.train))
    learner = SequenceLearner(model, settings.tuning, run, name)
    prompts = [tuple(row) for row in learner.policy.encode_all([posed(model, task, p) for p in task.train])]
    for step in run.steps(settings.steps, state=learner.state, desc=name):
        chosen = batch_indices(run, name, step, len(prompts), count).repeat(settings.particles)
        keys = [run.key(name, step, i, task.train[n].id) for i, n in enumerate(chosen)]
        try:
            drawn = draw_rationales(
                learner.policy, task, [task.train[n] for n in chosen], run.meter, keys=keys
            )
            right = np.array([one.right for one in drawn]).reshape(count, settings.particles)
            weights = rejection_weights(right).ravel().tolist()
            texts = [
                WeightedText(prompts[n], one.tokens, weight)
                for n, one, weight in zip(chosen, drawn, weights, strict=True)
                if weight
            ]
            learner.charge(run.meter, texts)
        except BudgetSpent:
            break
        figures = learner.step(texts) if texts else {}
        tokens = sum(len(one.tokens) for one in drawn)
        run.log(part=name, step=step, right=float(right.mean()), generated_tokens=tokens, **figures)
    return learner.finished()
