"""ReST-EM: self-training on the model's own right answers.

Singh, Co-Reyes, Agarwal et al. 2023, "Beyond Human Data: Scaling Self-Training for Problem-Solving with
Language Models", arXiv 2312.06585. E-step: sample solutions, keep those whose answer checks. M-step:
fine-tune on them. Pick it when a fair share of samples is right; when most fail, `rest-mcts` finds more.

Deviations from the paper: `restart="previous"` continues each round from the last policy, as the tables of
ReST-MCTS* do; the published form, `restart="base"`, fine-tunes the base model anew in every round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from selfstudy.core.errors import DataError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.loops import check_positive
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.reasoning import SEPARATOR, Steps, posed, prompt_tokens, require_room
from selfstudy.search.solvers import sample_solutions
from selfstudy.tasks.reasoning import Problem, ReasoningTask


@dataclass(frozen=True, kw_only=True)
class RestEm(Method):
    """Sample solutions, keep the right ones, fine-tune on them; repeat (Singh et al. 2023)."""

    works_on = (ReasoningTask, LanguageModel)
    across_processes = True

    rounds: int = 2
    """Times the loop is run (T)."""
    samples: int = 32
    """Solutions drawn per problem and round (32 is the paper's setting)."""
    tokens: int | None = None
    """A round's sampling ends after so many generated tokens; None draws all samples."""
    temperature: float = 0.7
    """Of the samples."""
    per_problem: int = 4
    """At most so many different right solutions of one problem are kept."""
    batch: int = 64
    """Problems sampled at once."""
    restart: Literal["base", "previous"] = "base"
    """What each round fine-tunes: the base model (published form) or the previous policy."""
    tuning: FineTuning = field(default_factory=FineTuning)
    """Supervised fine-tuning on the kept solutions."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=0, samples=0, per_problem=0, temperature=0, batch=0)

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        solutions = self.rounds * len(task.train) * self.samples
        tokens = min(solutions * task.solution_tokens, self.rounds * (self.tokens or math.inf))
        prompts = prompt_tokens(task, model) * tokens / task.solution_tokens
        return {"generated_tokens": tokens, "flops": model.flops(tokens + prompts)}

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on its own right solutions of the training problems."""
        require_room(model, task)
        policy, rounds = model, []
        for r in range(self.rounds):
            drawn = run.stage(f"samples-{r}", partial(self._draw, task, policy, run, r))
            examples = keep_right(task, model, drawn, self.per_problem)
            if not examples:
                if not self._complete(task, drawn):
                    break  # the budget ended in the sampling
                raise DataError(
                    f"None of the samples of round {r} solves any of {len(task.train)} problems. Use easier "
                    "problems, more samples, or a method that searches (rest-mcts)."
                )
            start = model if self.restart == "base" else policy
            tune = partial(fine_tune, start, examples, self.tuning, run, "policy")
            policy = run.stage(f"policy-{r}", tune)
            rounds.append(
                {
                    "solved": len({x["problem"] for x in drawn if x["right"]}),
                    "problems": len(task.train),
                    "examples": len(examples),
                    "generated_tokens": sum(x["tokens"] for x in drawn),
                }
            )
            run.log(round=r, **rounds[-1])
        return Fit(model=policy, metrics={"rounds": rounds})

    def _draw(self, task: ReasoningTask, policy: LanguageModel, run: Run, r: int) -> list[dict[str, Any]]:
        """Draw one solution of every problem, then a second of every problem, and so on."""
        chunks = [task.train[i : i + self.batch] for i in range(0, len(task.train), self.batch)]
        passes = [(i, chunk) for i in range(self.samples) for chunk in chunks]

        def draw(item: tuple[int, Sequence[Problem]]) -> list[dict[str, Any]]:
            i, problems = item
            keys = [run.key("samples", r, problem.id, i) for problem in problems]
            drawn = sample_solutions(
                policy, task, problems, run.meter, keys=keys, temperature=self.temperature
            )
            return [
                {
                    "problem": problem.id,
                    "tokens": tokens,
                    "steps": list(steps),
                    "right": bool(steps) and task.verify(problem, steps),
                }
                for problem, (steps, tokens) in zip(problems, drawn, strict=True)
            ]

        def enough(done: list[list[dict[str, Any]]]) -> bool:
            return self._complete(task, [record for records in done for record in records])

        done = run.map("samples", passes, draw, weight=lambda item: len(item[1]), until=enough)
        return [record for records in done for record in records]

    def _complete(self, task: ReasoningTask, drawn: Sequence[dict[str, Any]]) -> bool:
        """Tell whether a round has all its samples, or all its tokens."""
        if self.tokens is not None and sum(x["tokens"] for x in drawn) >= self.tokens:
            return True
        return len(drawn) == self.samples * len(task.train)


def keep_right(
    task: ReasoningTask, model: LanguageModel, drawn: Sequence[dict[str, Any]], limit: int
) -> list[Example]:
    """Return at most `limit` different right solutions of each problem as examples, first come first."""
    by_id = {problem.id: problem for problem in task.train}
    kept: dict[str, dict[Steps, None]] = {}
    for record in drawn:
        solutions = kept.setdefault(record["problem"], {})
        if record["right"] and len(solutions) < limit:
            solutions[tuple(record["steps"])] = None
    return [
        solution_example(task, model, by_id[problem], steps) for problem in kept for steps in kept[problem]
    ]


def solution_example(task: ReasoningTask, model: LanguageModel, problem: Problem, steps: Steps) -> Example:
    """Return a solution as a fine-tuning example."""
    return Example(posed(model, task, problem), "".join(step + SEPARATOR for step in steps), problem.images)
