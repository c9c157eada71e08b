"""ASTRO: search trees become solutions that doubt, go back and try again; then fine-tuning, then rewards.

Kim, Goyal, Tan, Hajishirzi, Iyer, Wang 2025, "ASTRO: Teaching Language Models to Reason by Reflecting and
Backtracking In-Context", arXiv 2507.00417. Pick it when a model answers in one straight line, answers can
be checked, and one long generation at test time is cheaper to run than a search. `rest-mcts` trains on
right paths only and keeps answers short; `grpo` alone seldom brings about that a model goes back.

Deviations from the paper, of which no code is public: the prior of PUCT is uniform over distinct children,
and what playouts write, up to its first end, becomes part of the tree; a wrong leaf is drawn with a weight
of 1 + the steps that it shares with the right one; small models write traces by a template
(`traces.rewriter="template"`) instead of telling them anew; rewards are compared with the sample standard
deviation, without a distance from the fine-tuned model. Fine-tuning learns all tokens of a trace, as in the
paper; leaving out the wrong steps is not offered.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.backtracking import backtracking_pictures, count_returns, measured
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.loops import check_not_negative, check_positive, training_cost
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, optimise_policy
from selfstudy.learning.reward_groups import draw_step, learnable, reward_cost
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.pass_rates import between, pass_rates
from selfstudy.search.puct import PlayoutSearch, grow_by_playouts
from selfstudy.search.reasoning import (
    ConstantValue,
    ReasoningDomain,
    posed,
    prompt_tokens,
    require_room,
)
from selfstudy.search.rollouts import draw_groups
from selfstudy.search.trace_making import DROPPED, TraceMaking, make_traces
from selfstudy.search.traces import SolutionTree
from selfstudy.signals.rewards import verified
from selfstudy.tasks.reasoning import Problem, ReasoningTask

MOST_UNSOLVED = 0.8  # share of trees without a right solution beyond which a search has failed


@dataclass(frozen=True, kw_only=True)
class Astro(Method):
    """Search, write traces with returns, fine-tune on them, then learn from reward (Kim et al. 2025)."""

    works_on = (ReasoningTask, LanguageModel)

    search: PlayoutSearch = field(default_factory=PlayoutSearch)
    """Trees of the training problems, by PUCT with playouts."""
    temperature: float = 1.0
    """Of all draws."""
    batch: int = 64
    """Problems handled at once."""
    traces: TraceMaking = field(default_factory=TraceMaking)
    """From trees to the texts that are learnt."""
    tuning: FineTuning = field(default_factory=lambda: FineTuning(learning_rate=1e-3, epochs=3))
    """Supervised fine-tuning on the traces."""
    tries: int = 8
    """Answers by which the difficulty of a problem is rated after fine-tuning."""
    difficulty: tuple[float, float] = (0.1, 0.9)
    """Problems whose share of right answers is strictly between these are learnt from."""
    steps: int = 20
    """Times that answers are drawn and learnt from; 0 ends with fine-tuning."""
    problems: int = 32
    """Problems of such a step."""
    group: int = 8
    """Answers to each (G; 4 in the paper)."""
    advantages: Literal["grpo", "dr-grpo", "leave-one-out"] = "grpo"
    """How a reward is compared with the others of its group."""
    runaway: float = 0.5
    """Learning ends when more than this share of a step's answers reach the longest length, or the end of the
    context, unfinished."""
    gradient: PolicyGradient = field(default_factory=lambda: PolicyGradient(learning_rate=1e-4))
    """The gradient steps."""
    watched: int = 64
    """Validation problems that each stage is measured on."""
    watched_samples: int = 4
    """Answers drawn to each of them."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, problems=0, group=1, temperature=0, tries=0, batch=0, watched_samples=0)
        check_not_negative(self, "steps", "watched")
        if not 0 <= self.difficulty[0] < self.difficulty[1] <= 1 or not 0 < self.runaway <= 1:
            raise UsageError(
                "difficulty must be two shares, the lower first, and runaway above 0, at most 1."
            )
        for part in (self.search, self.traces, self.gradient):
            part.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit; traces told by the model are not in it."""
        line, prompt = task.solution_tokens / task.max_steps, prompt_tokens(task, model)
        looks = len(task.train) * self.search.iterations
        watched = min(self.watched, len(task.validation)) * self.watched_samples
        rated = len(task.train) * self.tries if self.steps else 0
        watched *= 3 if self.steps else 2
        solutions = looks * self.search.playouts + rated + watched
        drawn = looks * self.search.branch * line + solutions * task.solution_tokens
        traces = len(task.train) * self.traces.per_tree
        tuned = training_cost(self.tuning, model, traces, prompt + task.solution_tokens)
        learnt = reward_cost(task, model, self.steps * self.problems * self.group, self.gradient)
        # Whole branches are verified too, and watched answers twice: whole, and their first branches.
        judged = solutions + looks * self.search.branch + watched + traces
        return {
            "generated_tokens": learnt["generated_tokens"] + drawn,
            "verifier_calls": learnt["verifier_calls"] + judged,
            "samples": learnt["samples"] + tuned["samples"],
            "flops": learnt["flops"] + tuned["flops"] + model.flops(drawn + (looks + solutions) * prompt),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Search -> traces, supervised fine-tuning, learning from reward."""
        require_returns(task, model, self.traces)
        require_room(model, task)
        records = run.stage("search", partial(self._search, task, model, run))
        trees = [SolutionTree.from_json(record["tree"]) for record in records]
        ended = len(trees) < len(task.train)  # the budget ended in the search
        unsolved = sum(not tree.right_leaves() for tree in trees)
        if not ended:
            require_solved(unsolved, len(trees))
        make = partial(make_traces, task, model, trees, self.traces, run, batch=self.batch)
        made = run.stage("traces", make)
        metrics = {"trees": len(trees), "unsolved": unsolved, **made, "traces": len(made["traces"])}
        if not made["traces"]:
            if not ended and unsolved < len(trees):
                why = "; ".join(f"{count} are {DROPPED[name]}" for name, count in made["dropped"].items())
                raise DataError(f"No trace can be learnt: {why}. Loosen what dropped most of them.")
            return Fit(model=model, metrics=metrics)
        examples = [
            Example(posed(model, task, task.train[one["problem"]]), one["text"]) for one in made["traces"]
        ]
        figures = {"base": self._measure(task, model, run, "base")}
        tuned = run.stage("tuned", lambda: fine_tune(model, examples, self.tuning, run, "tuned"))
        figures["tuned"] = self._measure(task, tuned, run, "tuned")
        policy = self.learn_from_reward(task, tuned, run) if self.steps else tuned
        if self.steps:
            figures["rewarded"] = self._measure(task, policy, run, "rewarded")
        steps = [line for line in run.metrics() if line.get("part") == "rewarded" and "step" in line]
        return Fit(
            model=policy,
            parts={"tuned": tuned} if self.steps else {},
            metrics={**metrics, "stages": figures},
            pictures=backtracking_pictures(figures, steps),
        )

    def _search(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Return {"tree", "tokens"} of each training problem."""

        def search(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            keys = np.array([run.key("search", problem.id) for problem in problems], dtype=np.uint64)
            domain = ReasoningDomain(
                task, problems, model, ConstantValue(0.0), run.meter, temperature=self.temperature
            )
            trees = grow_by_playouts(
                task,
                problems,
                domain,
                self.search,
                keys=keys,
                temperature=self.temperature,
                check=run.check,
            )
            domain.require_separator()
            return [
                {"tree": tree.to_json(), "tokens": sum(tokens for _, tokens in drawn)}
                for tree, drawn in zip(trees, domain.drawn, strict=True)
            ]

        return run.map_batches("trees", task.train, self.batch, search)

    def learn_from_reward(self, task: ReasoningTask, tuned: LanguageModel, run: Run) -> LanguageModel:
        """Return a policy trained by GRPO, rewards +1 and -1, on the problems of middle difficulty.

        Raises:
            DataError: no problem is of middle difficulty, or there was nothing to learn.
        """
        kept = self._of_middle_difficulty(task, tuned, run)
        if not kept.train:
            return tuned  # the budget ended
        judge = verified(task)

        def collect(policy: LanguageModel, step: int) -> Collection:
            groups = draw_step(policy, kept, run, step, self.problems, self.group, self.temperature)
            answers = [answer for group in groups for answer in group.answers]
            ended = ("stop", "end")
            cut = [x.finish not in ended and not task.is_end(x.problem, x.steps) for x in answers]
            backtracks = [count_returns(task.form.returns, answer.steps) for answer in answers]
            figures = {"unfinished": float(np.mean(cut)), "backtracks": float(np.mean(backtracks))}
            rewards = 2 * judge(groups) - 1
            if figures["unfinished"] > self.runaway:
                warnings.warn(
                    f"Learning from reward ended in step {step}: {figures['unfinished']:.0%} of the answers "
                    f"ran on without an end, to the longest length of {task.solution_tokens} tokens or the "
                    f"end of the model's context of {policy.context}.",
                    stacklevel=2,
                )
                return Collection((), rewards, figures, last=True)
            return learnable(groups, rewards, self.advantages, leave_out=True, figures=figures)

        learn = partial(
            optimise_policy,
            tuned,
            collect,
            self.gradient,
            run,
            "rewarded",
            steps=self.steps,
            longest=task.solution_tokens,
            temperature=self.temperature,
        )
        try:
            return run.stage("rewarded", learn)
        except DataError as error:
            raise DataError(f"{error} For that, change the bounds of --difficulty.") from error

    def _of_middle_difficulty(self, task: ReasoningTask, tuned: LanguageModel, run: Run) -> ReasoningTask:
        """Return the task with the problems of middle difficulty: with none where the budget ended."""
        rate = partial(
            pass_rates,
            tuned,
            task,
            run,
            "difficulty",
            samples=self.tries,
            temperature=self.temperature,
            batch=self.batch,
        )
        rates = [record["rate"] for record in run.stage("difficulty", rate)]
        kept = task.posing([task.train[i] for i in between(rates, self.difficulty)])
        run.log(part="difficulty", kept=len(kept.train), problems=len(rates))
        if not kept.train and len(rates) == len(task.train):
            raise DataError(
                f"None of {len(rates)} problems has a share of right answers strictly between "
                f"{self.difficulty[0]:g} and {self.difficulty[1]:g} after fine-tuning (they go from "
                f"{min(rates):g} to {max(rates):g}, mean {np.mean(rates):.2g}). Widen --difficulty, or take "
                "easier or harder problems."
            )
        return kept

    def _measure(self, task: ReasoningTask, policy: LanguageModel, run: Run, stage: str) -> dict[str, float]:
        """Return figures on validation problems; none where there are none, or the budget ends."""

        def measure(problems: Sequence[Problem]) -> dict[str, float]:
            keys = [[run.key("watch", p.id, i) for i in range(self.watched_samples)] for p in problems]
            groups = draw_groups(policy, task, problems, run.meter, keys=keys, temperature=self.temperature)
            return {
                **measured(task, groups),
                "tokens": sum(len(answer.tokens) for group in groups for answer in group.answers),
            }

        watched = task.validation[: self.watched]
        found = run.stage(
            f"measured-{stage}", lambda: run.map("watched", [watched] if watched else [], measure, weight=len)
        )
        if found:
            run.log(part=f"measured-{stage}", **found[0])
        return found[0] if found else {}


def require_returns(task: ReasoningTask, model: LanguageModel, traces: TraceMaking) -> None:
    """Raise where traces shall go back, and the task or the model does not know how.

    Raises:
        UsageError: the solutions of the task cannot go back.
        DataError: the tokenizer cannot encode what says so.
    """
    if not traces.goes_back:
        return
    if task.form.returns is None:
        raise UsageError(
            f"The solutions of the task {task.name!r} cannot go back to an earlier step. Take one whose can: "
            "backtracking-countdown-4, or a task in words such as gsm8k or your own; or make plain traces, "
            "which is search, fine-tuning and reward alone (--traces.wrong 1)."
        )
    phrase = task.form.returns.write([1])
    try:
        model.encode_all([phrase], begins=False)
    except DataError as error:
        raise DataError(
            f"The tokenizer of {model.name!r} cannot encode {phrase!r}, which says in {task.name!r} that a "
            "solution goes back. Take a model whose tokenizer can, or make plain traces (--traces.wrong 1)."
        ) from error


def require_solved(unsolved: int, trees: int) -> None:
    """Raise `DataError` when more than 80 percent of the trees have no right solution."""
    if unsolved > MOST_UNSOLVED * trees:
        raise DataError(
            f"{unsolved} of {trees} trees hold no right solution; up to {MOST_UNSOLVED:.0%} are passed over. "
            "Use easier problems, more iterations or playouts (--search.iterations, --search.playouts), or a "
            "better starting model."
        )
