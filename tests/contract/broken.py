"""Methods that break one contract each; apart from that they are ReST-EM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from selfstudy.core.budget import Meter
from selfstudy.core.method import Fit
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import fine_tune
from selfstudy.methods.reasoning.rest_em import RestEm, solution_example
from selfstudy.search.solvers import greedy_solver, sample_solutions


def shifted(model: Any, by: Any) -> Any:
    """A copy with `by` added to some weights."""
    copy = model.copy()
    with torch.no_grad():
        copy.module.lm_head.weight.add_(by)
    return copy


@dataclass(frozen=True, kw_only=True)
class LearnsNothing(RestEm):
    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        return Fit(model=model.copy())


@dataclass(frozen=True, kw_only=True)
class UsesGlobalRandomness(RestEm):
    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        return Fit(model=shifted(model, 0.01 * torch.randn(1)))


@dataclass(frozen=True, kw_only=True)
class IgnoresTheSeed(RestEm):
    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        return Fit(model=shifted(model, 0.01))


@dataclass(frozen=True, kw_only=True)
class ForgetsOnResume(RestEm):
    """Keeps in memory what happens inside a stage; a resumed run reads the stage back and knows nothing."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        seen: list[str] = []
        for r in range(2):
            run.stage(f"look-{r}", lambda: [seen.append(problem.id) for problem in task.train])
        trained = super().fit(task, model, run).model
        return Fit(model=shifted(trained, 0.01 * len(seen)))


@dataclass(frozen=True, kw_only=True)
class CountsNothing(RestEm):
    """Draws on a meter of its own."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        keys = [run.key(problem.id) for problem in task.train]
        sample_solutions(model, task, task.train, Meter(), keys=keys, temperature=1.0)
        return super().fit(task, model, run)


@dataclass(frozen=True, kw_only=True)
class Overspends(RestEm):
    """Meters everything, but lifts the limits."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        run.meter.budget = type(run.meter.budget)()
        return super().fit(task, model, run)


@dataclass(frozen=True, kw_only=True)
class KeepsNoRecords(RestEm):
    """Draws on the run's meter, outside of every stage."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        keys = [run.key(problem.id) for problem in task.train]
        sample_solutions(model, task, task.train, run.meter, keys=keys, temperature=1.0)
        return super().fit(task, model, run)


@dataclass(frozen=True, kw_only=True)
class PeeksAtTheTest(RestEm):
    """Learns its right answers to test problems; the evaluation tells which are right."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        solver = greedy_solver(model, task)
        right = task.evaluate(solver).correct
        solutions = solver(task.test, run.meter)
        examples = [
            solution_example(task, model, problem, steps)
            for problem, steps, good in zip(task.test, solutions, right, strict=True)
            if good
        ]
        return Fit(model=fine_tune(model, examples, self.tuning, run, "policy") if examples else model.copy())


@dataclass(frozen=True, kw_only=True)
class AsksForLabels(RestEm):
    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        examples = [solution_example(task, model, p, task.oracle.solution(p)) for p in task.train]
        return Fit(model=fine_tune(model, examples, self.tuning, run, "policy"))


@dataclass(frozen=True, kw_only=True)
class AcceptsAnything(RestEm):
    def validate(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class LearnsFromNothing(RestEm):
    """Goes on where no problem was solved, and calls the untrained model trained."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        try:
            return super().fit(task, model, run)
        except Exception:
            return Fit(model=model.copy())


@dataclass(frozen=True, kw_only=True)
class LeavesHalfAFile(RestEm):
    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        (run.directory / "traces.json").write_text('[{"problem": "47+8:", "steps"')
        return super().fit(task, model, run)


@dataclass(frozen=True, kw_only=True)
class SavesTooEarly(RestEm):
    """Writes what passes for a trained model before it has one."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        model.save(run.directory / "model")
        return super().fit(task, model, run)


@dataclass(frozen=True, kw_only=True)
class SavesAnother(RestEm):
    """Gives back a model that writes the weights of another."""

    def fit(self, task: Any, model: Any, run: Run) -> Fit:
        trained = super().fit(task, model, run).model
        trained.save = model.save
        return Fit(model=trained)


@dataclass(frozen=True, kw_only=True)
class WithoutHelp(RestEm):
    """Sample solutions, keep the right ones, fine-tune on them; repeat."""

    patience: int = 3
