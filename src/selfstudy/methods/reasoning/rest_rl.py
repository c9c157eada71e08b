"""ReST-RL: policy gradients from chosen start states, and a value model from trees that guides decoding.

Zhoubian, Zhang, Tang 2025, "ReST-RL: Achieving Accurate Code Reasoning of LLMs with Optimized Self-Training
and Decoding", arXiv 2508.19576; details from the authors' program. Stage 1, ReST-GRPO: sample, leave out
problems whose rewards hardly differ, let rollouts begin within the best solution too, then GRPO; repeat.
Stage 2, VM-MCTS: collect search trees with rewards by the tests, fit a value model on them, and decode by
`search.line_decoding.line_solver` without tests. Pick stage 1 over `grpo` when many groups fail or pass as
one; pick stage 2 when 15 to 100 samples a question can be afforded at test time. `rest-mcts` also searches,
but needs no graded rewards and trains by supervision.

Deviations: the value model reads the last hidden state at the end of each line through a linear head, without
padding or truncation (texts beyond the context are left out). The closing line stands for the closing fence;
where a task has none, an end of its own counts. Groups whose test shares are all equal are left out unless
`ties`: the small shaping terms alone would get advantages of full size. No distance from the base model by
default (`--gradient.kl` has it). Sizes are for small models; the authors' are in the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.pictures import Picture, line, picture
from selfstudy.evaluation.reward_pictures import reward_pictures
from selfstudy.learning.advantages import constant_groups
from selfstudy.learning.fine_tuning import FineTuning, fine_tune
from selfstudy.learning.line_values import line_value_samples
from selfstudy.learning.loops import batch_indices, check_not_negative, check_positive, training_cost
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, optimise_policy
from selfstudy.learning.preferences import Preference, prefer
from selfstudy.learning.reward_groups import learnable, reward_cost
from selfstudy.learning.start_states import (
    Assembly,
    Sampled,
    Start,
    assemble,
    best_over_worst,
    good_answers,
    spread,
    start_texts,
)
from selfstudy.learning.values import ValueFitting, fit_values
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.line_decoding import collect_trees
from selfstudy.search.line_trees import LineSearch
from selfstudy.search.reasoning import posed, prompt_tokens, require_room
from selfstudy.search.rollouts import draw_groups
from selfstudy.signals.rewards import closed, summed, trailing, verified
from selfstudy.tasks.reasoning import Problem, ReasoningTask


@dataclass(frozen=True, kw_only=True)
class RestRl(Method):
    """Train on problems and beginnings that can still be learned from; fit values for decoding (ReST-RL)."""

    works_on = (ReasoningTask, LanguageModel)

    iterations: int = 2
    """Times that answers are sampled anew, start states assembled and the policy trained."""
    assembly: Assembly = field(default_factory=Assembly)
    """Which problems and beginnings are trained on."""
    learn: Literal["grpo", "dpo", "sft"] = "grpo"
    """How: by policy gradients, or, as the paper's baselines do, by preferring the best answer to the worst
    (DPO) or by fine-tuning on answers with the least reward of `assembly` (SFT)."""
    steps: int = 30
    """Steps of policy gradients in each iteration."""
    problems: int = 32
    """Start states of a step."""
    group: int = 8
    """Answers from each start state (G)."""
    temperature: float = 1.0
    """Of the answers in training, of the search and of its samples (0.7 in the authors' code)."""
    closing_reward: float = 1e-3
    """Reward for the line that closes a solution."""
    trailing_penalty: float = 1e-6
    """Taken off the reward for each character after that line."""
    ties: bool = False
    """Keep groups whose answers pass the same share of tests, and learn from the shaping terms alone."""
    gradient: PolicyGradient = field(default_factory=PolicyGradient)
    """The gradient steps."""
    preference: Preference = field(default_factory=Preference)
    """For `learn="dpo"`."""
    tuning: FineTuning = field(default_factory=FineTuning)
    """For `learn="sft"`."""
    value: bool = True
    """Whether to collect trees and fit a value model at the end (stage 2)."""
    search: LineSearch = field(default_factory=LineSearch)
    """The trees that the value model learns from."""
    searched: int | None = None
    """Training problems that are searched; None is all."""
    batch: int = 64
    """Problems sampled or searched together."""
    value_tuning: ValueFitting = field(default_factory=lambda: ValueFitting(learning_rate=1e-3))
    """Mean-square fit of the value model."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, iterations=0, steps=0, problems=0, group=1, temperature=0, batch=0)
        check_not_negative(self, "closing_reward", "trailing_penalty")
        if self.searched is not None and self.searched < 1:
            raise UsageError(f"searched is {self.searched}; search one problem or more, or say --no-value.")
        if self.learn != "grpo" and self.assembly.starts == "none":
            raise UsageError(f'learn="{self.learn}" needs sampled answers; assembly.starts="none" has none.')
        self.assembly.validate()
        self.gradient.validate()
        self.search.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        total = len(task.train)
        sampled = 0 if self.assembly.starts == "none" else total * self.assembly.samples
        trained = self.steps * self.problems * self.group if self.learn == "grpo" else 0
        searched = min(self.searched or total, total) * self.search.iterations * self.search.samples
        cost = reward_cost(task, model, self.iterations * trained, self.gradient)
        drawn = self.iterations * sampled + (searched if self.value else 0)
        cost["generated_tokens"] += drawn * task.solution_tokens
        cost["verifier_calls"] += drawn
        read = prompt_tokens(task, model) + task.solution_tokens
        cost["flops"] += model.flops(drawn * read)
        learnt = []
        if self.learn == "dpo":
            learnt = [training_cost(self.preference, model, total, 2 * read)] * self.iterations
        elif self.learn == "sft":
            learnt = [training_cost(self.tuning, model, sampled, read)] * self.iterations
        if self.value:
            learnt.append(training_cost(self.value_tuning, model, searched, read))
        for one in learnt:
            cost = {unit: amount + one.get(unit, 0) for unit, amount in cost.items()}
        return cost

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Stage 1: sample, assemble, train, again. Stage 2: collect trees, fit values."""
        require_room(model, task)
        policy, iterations = model, list[dict[str, float]]()
        for i in range(self.iterations):
            samples = self.sample(task, policy, run, i)
            if not samples:
                break  # the budget ended before
            starts = self.start_states(task, policy, samples, run, i)
            train = {"grpo": self._follow_gradient, "dpo": self._prefer, "sft": self._fine_tune}[self.learn]
            policy = run.stage(f"policy-{i}", partial(train, task, policy, samples, starts, run))
            iterations.append({**starts.figures, "problems": len(samples)})
            run.log(iteration=i, **iterations[-1])
        parts: dict[str, Any] = {}
        if self.value and (trees := run.stage("trees", partial(self.collect_trees, task, policy, run))):
            value = ValueModel.from_policy(policy)
            targets = line_value_samples(task, policy, trees)
            fitted = partial(fit_values, value, targets, self.value_tuning, run, "value")
            parts["value"] = run.stage("value", lambda: fitted().model)
        return Fit(
            model=policy, parts=parts, metrics={"iterations": iterations}, pictures=_pictures(run.metrics())
        )

    def sample(self, task: ReasoningTask, policy: LanguageModel, run: Run, i: int) -> list[Sampled]:
        """Draw and grade answers to every training problem; none where all are kept as they are."""
        if self.assembly.starts == "none":
            return [Sampled(problem.id, (), ()) for problem in task.train]

        def draw(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            keys = [[run.key("samples", i, p.id, k) for k in range(self.assembly.samples)] for p in problems]
            groups = draw_groups(
                policy, task, problems, run.meter, keys=keys, temperature=self.assembly.temperature
            )
            rewards = verified(task)(groups)
            return [
                {
                    "problem": group.problem.id,
                    "solutions": [answer.steps for answer in group.answers],
                    "rewards": row.tolist(),
                    "tokens": sum(len(answer.tokens) for answer in group.answers),
                }
                for group, row in zip(groups, rewards, strict=True)
            ]

        found = run.stage(f"samples-{i}", lambda: run.map_batches("samples", task.train, self.batch, draw))
        return [Sampled(one["problem"], one["solutions"], one["rewards"]) for one in found]

    def start_states(
        self, task: ReasoningTask, policy: LanguageModel, samples: Sequence[Sampled], run: Run, i: int
    ) -> Starts:
        """Return where rollouts begin, as texts; what does not fit is left out and counted."""
        by_id = {problem.id: problem for problem in task.train}
        if self.assembly.starts == "none":
            chosen = [Start(sample.problem) for sample in samples]
        else:
            chosen = assemble(samples, self.assembly, lambda problem: run.rng("starts", i, problem))
        texts = start_texts(policy, [posed(policy, task, by_id[start.problem]) for start in chosen], chosen)
        kept = [
            (by_id[s.problem], text, s.lines)
            for s, text in zip(chosen, texts, strict=True)
            if text is not None
        ]
        if not kept:
            raise DataError("No start state leaves room for an answer. Take a model with a longer context.")
        rewards = np.array([sample.rewards for sample in samples], dtype=float)
        figures: dict[str, float] = {
            "kept": len({problem.id for problem, _, _ in kept}),
            "starts": len(kept),
            "too_long": len(chosen) - len(kept),
        }
        if rewards.size:
            figures["spread"] = spread(rewards)
            figures["empty"] = sum(not lines for sample in samples for lines in sample.solutions)
        return Starts(i, kept, figures)

    def _follow_gradient(
        self, task: ReasoningTask, policy: LanguageModel, samples: Sequence[Sampled], starts: Starts, run: Run
    ) -> LanguageModel:
        """Train by GRPO on groups of answers from the start states."""
        tests = verified(task)
        shaping = {
            "closing": (self.closing_reward, closed(task)),
            "trailing": (-self.trailing_penalty, trailing(task)),
        }

        def collect(now: LanguageModel, step: int) -> Collection:
            count = min(self.problems, len(starts.states))
            chosen = batch_indices(run, f"starts-{starts.iteration}", step, len(starts.states), count)
            problems, texts, lines = zip(*(starts.states[k] for k in chosen), strict=True)
            groups = draw_groups(
                now,
                task,
                problems,
                run.meter,
                keys=[
                    [run.key("answers", starts.iteration, step, k, g) for g in range(self.group)]
                    for k in range(count)
                ],
                temperature=self.temperature,
                prompts=texts,
                begun=lines,
            )
            shares = tests(groups)
            rewards, means = summed({"verifier": (1.0, lambda _: shares), **shaping}, groups)
            figures = {**means, "spread": spread(shares)}
            alike = None if self.ties else constant_groups(shares)
            return learnable(groups, rewards, "grpo", leave_out=True, figures=figures, alike=alike)

        return optimise_policy(
            policy,
            collect,
            self.gradient,
            run,
            "policy",
            steps=self.steps,
            longest=task.solution_tokens,
            temperature=self.temperature,
        )

    def _prefer(
        self, task: ReasoningTask, policy: LanguageModel, samples: Sequence[Sampled], starts: Starts, run: Run
    ) -> LanguageModel:
        """ReST-DPO: the best answer to a problem over its worst, where their rewards differ."""
        pairs = best_over_worst(_prompts(task, policy, samples), samples)
        return prefer(policy, pairs, self.preference, run, "policy")

    def _fine_tune(
        self, task: ReasoningTask, policy: LanguageModel, samples: Sequence[Sampled], starts: Starts, run: Run
    ) -> LanguageModel:
        """ReST-SFT: every answer with the least reward."""
        examples = good_answers(_prompts(task, policy, samples), samples, self.assembly.least_reward)
        return fine_tune(policy, examples, self.tuning, run, "policy")

    def collect_trees(self, task: ReasoningTask, policy: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Search training problems with rewards by the tests; one JSON record a tree."""

        def search(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            trees, domain = collect_trees(
                policy,
                task,
                problems,
                self.search,
                run.meter,
                keys=[run.key("trees", problem.id) for problem in problems],
                temperature=self.temperature,
                check=run.check,
            )
            run.log(part="trees", empty=domain.empty)
            return [
                {"problem": problem.id, "tokens": domain.tokens[t], "tree": trees.to_json(t)}
                for t, problem in enumerate(problems)
            ]

        chosen = task.train[: self.searched]
        return run.map_batches("trees", chosen, self.batch, search)


class Starts(NamedTuple):
    """Where rollouts begin."""

    iteration: int
    """Which of the method's."""
    states: list[tuple[Problem, str, tuple[str, ...]]]
    """Problem, the text that a policy continues, and the lines of a solution in it."""
    figures: dict[str, float]
    """For the log."""


def _prompts(task: ReasoningTask, policy: LanguageModel, samples: Sequence[Sampled]) -> list[str]:
    by_id = {problem.id: problem for problem in task.train}
    return [posed(policy, task, by_id[sample.problem]) for sample in samples]


def _pictures(logged: Sequence[dict[str, Any]]) -> list[Picture]:
    """Return the course of the rewards over the steps of all iterations, and how far they differ in a group.

    Args:
        logged: lines of the log; none of them is of a step where the policy learnt by DPO or SFT.
    """
    steps = [row for row in logged if row.get("part") == "policy" and "spread" in row]
    pictures = reward_pictures(
        [{**row, "step": step} for step, row in enumerate(steps)],
        constant="start states whose answers all got the same",
    )
    sampled = [row["spread"] for row in logged if "iteration" in row and "spread" in row]
    if not steps or not sampled:
        return pictures
    before = [sampled[int(row["stage"].rpartition("-")[2])] for row in steps]  # policy-0, policy-1, ...
    spreads = picture(
        "How far rewards differ within a group",
        [
            line("start states", range(len(steps)), [row["spread"] for row in steps]),
            line("all problems, sampled before", range(len(steps)), before),
        ],
        x="step",
        y="standard deviation",
        layout={"yaxis": {"rangemode": "tozero"}},
        note="The samples that start states cost are repaid where their line lies well above the other.",
    )
    return [*pictures, spreads]
