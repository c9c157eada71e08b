"""Self-Rewarding: the policy judges its own solutions and is trained to prefer its best over its worst.

Yuan, Pang, Cho, Li, Sukhbaatar, Xu, Weston 2024, "Self-Rewarding Language Models", arXiv 2401.10020, in the
form that ReST-MCTS* compares with: per problem the best and the worst of several sampled solutions by the
model's own score in [0, 1] make one pair for DPO (Rafailov et al. 2023), beta 0.1. Pick it when there is
no answer checker at all; with one, `rest-em` and `rest-mcts` use the truth and are the better choice.

Deviations from the paper: no seed set of instructions and no growing of prompts; `judge="likelihood"` scores
a solution by its mean token probability, for models that cannot follow a judging instruction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from selfstudy.core.errors import DataError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.learning.loops import check_positive
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.scoring import sequence_logprobs
from selfstudy.search.reasoning import SEPARATOR, Steps, posed, prompt_tokens, require_room
from selfstudy.search.solvers import sample_solutions
from selfstudy.tasks.reasoning import Problem, ReasoningTask

JUDGE = (
    "Rate how likely it is that the solution is right, from 0.0 (certainly wrong) to 1.0 (certainly right).\n"
    "Problem: {problem}\nSolution:\n{solution}\nRating: "
)


@dataclass(frozen=True, kw_only=True)
class SelfRewarding(Method):
    """Sample solutions, let the policy score them, train it to prefer best over worst; repeat."""

    works_on = (ReasoningTask, LanguageModel)
    across_processes = True

    rounds: int = 2
    """Times the loop is run."""
    samples: int = 4
    """Solutions drawn per problem and round."""
    temperature: float = 0.7
    """Of the samples."""
    judge: Literal["prompt", "likelihood"] = "prompt"
    """The score: a number the model writes when asked, or its mean probability of the solution's tokens."""
    batch: int = 64
    """Problems sampled at once."""
    preference: Preference = field(default_factory=Preference)
    """DPO on the pairs."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=0, samples=1, temperature=0, batch=0)
        self.preference.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        solutions = self.rounds * len(task.train) * self.samples
        read = solutions * (prompt_tokens(task, model) + task.solution_tokens)
        return {
            "generated_tokens": solutions * task.solution_tokens,
            "scored_tokens": read,
            "flops": model.flops(2 * read),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on its own preferences over its solutions of the training problems."""
        require_room(model, task)
        self._require_judge(model)
        policy, rounds = model, []
        for r in range(self.rounds):
            scored = run.stage(f"samples-{r}", partial(self._score, task, policy, run, r))
            pairs = preference_pairs(task, model, scored)
            if not pairs:
                if len(scored) < len(task.train):
                    break  # the budget ended in the sampling
                raise DataError(
                    f"In round {r} the model scored no two solutions of any problem differently (or wrote no "
                    "score from 0 to 1), so nothing is preferred. Use a model that can judge, or --judge "
                    "likelihood."
                )
            tune = partial(prefer, policy, pairs, self.preference, run, "policy")
            policy = run.stage(f"policy-{r}", tune)
            rounds.append(
                {
                    "pairs": len(pairs),
                    "problems": len(scored),
                    "generated_tokens": sum(x["tokens"] for x in scored),
                }
            )
            run.log(round=r, **rounds[-1])
        return Fit(model=policy, metrics={"rounds": rounds})

    def _score(self, task: ReasoningTask, policy: LanguageModel, run: Run, r: int) -> list[dict[str, Any]]:
        """Draw the solutions of every problem and score them; one record a problem."""
        judge = self._likelihoods if self.judge == "likelihood" else self._ratings

        def score(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            many = [problem for problem in problems for _ in range(self.samples)]
            keys = [run.key("samples", r, problem.id, i) for problem in problems for i in range(self.samples)]
            drawn = sample_solutions(policy, task, many, run.meter, keys=keys, temperature=self.temperature)
            # An empty solution is nothing to prefer, and nothing to judge.
            stated = [i for i, (steps, _) in enumerate(drawn) if steps]
            verdicts = judge(task, policy, run, [(many[i], drawn[i][0]) for i in stated])
            by_place = dict(zip(stated, verdicts, strict=True))
            scored = [(steps, n, *by_place.get(i, (None, 0))) for i, (steps, n) in enumerate(drawn)]
            groups = [scored[i : i + self.samples] for i in range(0, len(scored), self.samples)]
            return [
                {
                    "problem": problem.id,
                    "solutions": [list(steps) for steps, _, _, _ in group],
                    "scores": [score for _, _, score, _ in group],
                    "tokens": sum(n + judging for _, n, _, judging in group),
                }
                for problem, group in zip(problems, groups, strict=True)
            ]

        return run.map_batches("samples", task.train, self.batch, score)

    def _likelihoods(
        self, task: ReasoningTask, policy: LanguageModel, run: Run, solutions: Sequence[tuple[Problem, Steps]]
    ) -> list[tuple[float | None, int]]:
        """Return the score of each solution, None where it does not fit, and the tokens drawn for it, 0."""
        texts = [
            (posed(policy, task, problem), SEPARATOR.join(steps) + SEPARATOR) for problem, steps in solutions
        ]
        prompts = policy.encode_all([prompt for prompt, _ in texts])
        answers = policy.encode_all([answer for _, answer in texts], begins=False)
        # A solution cut by the end of the context is one token too long with its last line break.
        lengths = [len(a) + len(b) for a, b in zip(prompts, answers, strict=True)]
        fitting = [i for i, length in enumerate(lengths) if length <= policy.context]
        totals = sequence_logprobs(policy, [texts[i] for i in fitting], run.meter)
        means = {i: math.exp(total / len(answers[i])) for i, total in zip(fitting, totals, strict=True)}
        return [(means.get(i), 0) for i in range(len(texts))]

    def _ratings(
        self, task: ReasoningTask, policy: LanguageModel, run: Run, solutions: Sequence[tuple[Problem, Steps]]
    ) -> list[tuple[float | None, int]]:
        """Return the score that the policy writes for each solution, and the tokens it took."""
        requests = [
            Request(
                prompt=policy.prompt(JUDGE.format(problem=problem.prompt, solution=SEPARATOR.join(steps))),
                key=0,
                max_tokens=8,
                temperature=0.0,
                stop=(SEPARATOR,),
            )
            for problem, steps in solutions
        ]
        replies = open_sampler(policy, run.meter).sample(requests)
        return [(rating(reply.text), len(reply.tokens)) for reply in replies]

    def _require_judge(self, model: LanguageModel) -> None:
        """Raise `DataError` before any work when the model's tokenizer cannot even read the question."""
        if self.judge == "prompt":
            try:
                model.encode(model.prompt(JUDGE))
            except DataError as error:
                raise DataError(
                    f"The model {model.name!r} cannot be asked to judge: its tokenizer does not know the "
                    "words of the question. Use --judge likelihood, or a model that reads text."
                ) from error


def rating(text: str) -> float | None:
    """Read a score in [0, 1] from a judge's reply; None when there is none.

    >>> rating("0.8 because"), rating(".5"), rating("7"), rating("-0.5"), rating("good")
    (0.8, 0.5, None, None, None)
    """
    number = re.search(r"-?(?:\d+(?:\.\d+)?|\.\d+)", text)
    score = float(number.group()) if number else math.nan
    return score if 0 <= score <= 1 else None


def preference_pairs(
    task: ReasoningTask, model: LanguageModel, scored: Sequence[dict[str, Any]]
) -> list[Pair]:
    """Return (best, worst) of each problem by its scores; none where there is one score or one text."""
    by_id = {problem.id: problem for problem in task.train}
    pairs = []
    for record in scored:
        known = [
            (s, steps)
            for s, steps in zip(record["scores"], record["solutions"], strict=True)
            if s is not None
        ]
        if not known or min(known)[0] == max(known)[0]:
            continue
        best, worst = max(known, key=lambda item: item[0])[1], min(known, key=lambda item: item[0])[1]
        if best == worst:  # the scores of one text can differ by rounding
            continue
        prompt = posed(model, task, by_id[record["problem"]])
        chosen, rejected = ("".join(step + SEPARATOR for step in steps) for steps in (best, worst))
        pairs.append(Pair(prompt=prompt, chosen=chosen, rejected=rejected))
    return pairs
