"""ReST-MCTS*: self-training of a policy and a value model on the trees of a value-guided search.

Zhang, Zhoubian, Hu, Yue, Dong, Tang 2024, "ReST-MCTS*: LLM Self-Training via Process Reward Guided Tree
Search", NeurIPS 2024, arXiv 2406.03816. Pick it over rejection sampling (`rest-em`) when most sampled
solutions fail, or when right answers reached by wrong steps pollute the training set; it also gives a value
model that serves as a verifier at test time. When most samples are right, `rest-em` is as good and simpler.

Deviations from the paper: the value model reads the last hidden state through a linear head (theirs reads
the vocabulary logits); a syntactic end test replaces the question "solved or unsolved?" unless
`critic="ask"`; an unfinished best node is finished greedily instead of by an extraction prompt; at most
`per_problem` solutions of a problem are kept; without reference solutions the first value model comes from
one search guided by a constant value.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.loops import check_positive
from selfstudy.learning.values import ValueFitting, ValueSample, fit_values
from selfstudy.methods.reasoning.rest_em import solution_example
from selfstudy.models.language.loading import shipped_value_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.reasoning import (
    ConstantValue,
    ReasoningDomain,
    Values,
    posed,
    prompt_tokens,
    require_room,
)
from selfstudy.search.solvers import sample_solutions
from selfstudy.search.tree import Forest
from selfstudy.signals.reference_values import reference_targets
from selfstudy.signals.tree_values import hard_targets
from selfstudy.tasks.reasoning import Problem, ReasoningTask

log = logging.getLogger(__name__)
UNKNOWN = 0.5  # the constant that guides a first search without a value model


@dataclass(frozen=True, kw_only=True)
class RestMcts(Method):
    """Search trees over steps, train the policy on right solutions and the value model on values; repeat."""

    works_on = (ReasoningTask, LanguageModel)
    across_processes = True

    rounds: int = 2
    """Times the loop is run (T in the paper's Algorithm 1)."""
    search: TreeSearch = field(default_factory=lambda: TreeSearch(iterations=50))
    """MCTS*, in collect mode."""
    temperature: float = 0.7
    """Of the policy when it proposes steps."""
    targets: Literal["full", "simple", "he"] = "full"
    """Value targets of a tree: the paper's, the one-route form, or 1 for steps that can still succeed."""
    per_problem: int = 4
    """At most so many different right solutions of one problem are kept."""
    least_value: float = 0.2
    """Right solutions that the value model puts below this are dropped."""
    least_characters: int = 0
    """Right solutions shorter than this are dropped (50 in the authors' code)."""
    batch: int = 64
    """Problems searched in lockstep."""
    critic: Literal["marker", "ask"] = "marker"
    """What ends a solution: an answer in the text, or also the policy's word that it is solved."""
    first_value: Literal["given", "reference", "search"] = "given"
    """First value model: the one shipped with the model (else as "reference"), fitted on samples labelled by
    reference solutions (else as "search"), or fitted on trees guided by a constant value."""
    first_samples: int = 8
    """Solutions drawn per problem for a first value model."""
    policy_tuning: FineTuning = field(default_factory=FineTuning)
    """Supervised fine-tuning on the kept solutions."""
    value_tuning: ValueFitting = field(default_factory=ValueFitting)
    """Mean-square fit of the value model."""

    def validate(self) -> None:
        """Check the fields against each other."""
        self.search.validate()
        check_positive(self, rounds=0, per_problem=0, first_samples=0, temperature=0, batch=0)

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit: every tree grows to its last iteration."""
        line, prompt = task.solution_tokens / task.max_steps, prompt_tokens(task, model)
        drawn = (
            self.rounds
            * len(task.train)
            * (self.search.iterations or 0)
            * (self.search.branch + self.search.roll_steps * self.search.roll_branch)
        )
        prefix = prompt + task.solution_tokens / 2
        return {
            "generated_tokens": drawn * line,
            "scored_tokens": drawn * (prefix + line),
            "flops": model.flops(drawn * (line + prefix / self.search.branch) + drawn * (prefix + line)),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Algorithm 1: search, value targets, policy and value training, again."""
        require_room(model, task)
        policy, rounds = model, []
        value = self._first_value(task, model, run)
        for r in range(self.rounds):
            name = f"search-{r}"
            trees = run.stage(name, partial(self.grow_trees, task, policy, value, run, name))
            solved = sum(any(tree["correct"]) for tree in trees)
            if not solved:
                if len(trees) < len(task.train):
                    break  # the budget ended in the search
                raise DataError(
                    f"No tree of round {r} holds a right solution of its problem ({len(trees)} problems). "
                    "Use easier problems, more iterations (--search.iterations), or a better starting model."
                )
            traces = right_solutions(task, model, trees, self)
            if not traces:
                raise DataError(
                    f"In round {r}, {solved} of {len(trees)} problems were solved, but every right solution "
                    f"was dropped: valued below --least-value {self.least_value:g} or shorter than "
                    f"--least-characters {self.least_characters}. Lower these limits."
                )
            targets = value_samples(task, model, trees, self)
            tune = partial(fine_tune, policy, traces, self.policy_tuning, run, "policy")
            policy = run.stage(f"policy-{r}", tune)
            value = run.stage(f"value-{r}", partial(self._fit_value, value, targets, run))
            rounds.append(
                {
                    "solved": solved,
                    "problems": len(trees),
                    "examples": len(traces),
                    "value_samples": len(targets),
                    "no_room": sum(tree["no_room"] for tree in trees),
                    "generated_tokens": sum(n for tree in trees for _, n in tree["drawn"]),
                }
            )
            run.log(round=r, **rounds[-1])
        return Fit(model=policy, parts={"value": value}, metrics={"rounds": rounds})

    def grow_trees(
        self, task: ReasoningTask, policy: LanguageModel, value: Values, run: Run, name: str
    ) -> list[dict[str, Any]]:
        """Search every training problem in collect mode; one JSON record a tree (see `tree_record`)."""

        def search(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            domain = ReasoningDomain(
                task, problems, policy, value, run.meter, temperature=self.temperature, critic=self.critic
            )
            keys = np.array([run.key(name, problem.id) for problem in problems], dtype=np.uint64)
            forest = grow(domain, range(len(problems)), self.search, keys, collect=True, check=run.check)
            domain.require_separator()
            records = [tree_record(task, problem, forest, t, domain) for t, problem in enumerate(problems)]
            if not any(any(record["correct"]) for record in records):
                log.warning(
                    "No right solution in a batch of %d problems; easier ones would help.", len(problems)
                )
            return records

        return run.map_batches("trees", task.train, self.batch, search)

    def _fit_value(self, value: Values, samples: list[ValueSample], run: Run) -> ValueModel:
        if not isinstance(value, ValueModel):
            raise UsageError("A constant value cannot be fitted.")
        fitted = fit_values(value, samples, self.value_tuning, run, "value")
        run.log(value_mse=fitted.mse, value_within=fitted.within)
        return fitted.model

    def _first_value(self, task: ReasoningTask, model: LanguageModel, run: Run) -> ValueModel:
        """V_0: shipped, or fitted on labelled samples of the policy, or on trees guided by a constant."""
        given = shipped_value_model(model) if self.first_value == "given" else None
        if given is not None:
            return given
        samples: list[ValueSample] = []
        if self.first_value != "search":
            drawn = run.stage("samples-first", partial(self._labelled_samples, task, model, run))
            prompts = {problem.id: posed(model, task, problem) for problem in task.train}
            samples = [
                ValueSample(prompts[x["problem"]], tuple(x["steps"]), tuple(x["values"]))
                for x in drawn
                if x["steps"]
            ]
        if not samples:
            trees = run.stage("search-first", partial(self._first_trees, task, model, run))
            samples = value_samples(task, model, trees, self)
        return run.stage("value-first", partial(self._fit_value, ValueModel.from_policy(model), samples, run))

    def _first_trees(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Trees guided by a constant value."""
        trees = self.grow_trees(task, model, ConstantValue(UNKNOWN), run, "search-first")
        if not any(any(tree["correct"]) for tree in trees):
            if len(trees) < len(task.train):
                raise BudgetSpent(
                    "The budget ended in the first search, before there was anything to fit a value model "
                    "on. Resume the run with a larger --budget."
                )
            raise DataError(
                "The first search found no right solution, so there is nothing to fit a value model on. Use "
                "easier problems or more iterations (--search.iterations), or give reference solutions."
            )
        return trees

    def _labelled_samples(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Policy samples with every step labelled by the reference (paper's recipe for V_0), as records."""

        def draw(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            answers = [(problem, task.oracle.solution(problem)) for problem in problems]
            known = [(problem, steps) for problem, steps in answers if steps]
            many = [pair for pair in known for _ in range(self.first_samples)]
            drawn = sample_solutions(
                model,
                task,
                [problem for problem, _ in many],
                run.meter,
                keys=[run.key("first", p.id, i) for p, _ in known for i in range(self.first_samples)],
                temperature=self.temperature,
            )
            rows = [(pair, steps, tokens) for pair, (steps, tokens) in zip(many, drawn, strict=True)]
            rows += [(pair, pair[1], 0) for pair in known]
            return [
                {
                    "problem": problem.id,
                    "tokens": tokens,
                    "steps": list(steps),
                    "values": reference_targets(steps, reference),
                }
                for (problem, reference), steps, tokens in rows
            ]

        return run.map_batches("samples", task.train, self.batch, draw)


def tree_record(
    task: ReasoningTask, problem: Problem, forest: Forest, t: int, domain: ReasoningDomain
) -> dict[str, Any]:
    """Return a finished tree as JSON data, with the verdict on each end leaf and every text drawn."""
    correct = np.zeros(forest.size[t], dtype=bool)
    for node in forest.leaves(t):
        path = forest.path(t, node)
        if domain.task.is_end(problem, path):
            correct[node] = task.verify(problem, path)
    return {
        "problem": problem.id,
        "tree": forest.select([t]).to_json(),
        "correct": correct.tolist(),
        "drawn": domain.drawn[t],
        "no_room": domain.no_room[t],
    }


def right_solutions(
    task: ReasoningTask, model: LanguageModel, trees: Sequence[dict[str, Any]], settings: RestMcts
) -> list[Example]:
    """Return right end leaves as examples: trusted by the value model, distinct, capped per problem."""
    by_id = {problem.id: problem for problem in task.train}
    examples = []
    for record in trees:
        forest = Forest.from_json(record["tree"])
        leaves = np.flatnonzero(record["correct"])
        trusted = leaves[forest.prior[0, leaves] >= settings.least_value]
        best_first = trusted[np.argsort(-forest.prior[0, trusted], kind="stable")]
        solutions = list(dict.fromkeys(forest.path(0, leaf) for leaf in best_first))
        long_enough = [steps for steps in solutions if sum(map(len, steps)) >= settings.least_characters]
        examples += [
            solution_example(task, model, by_id[record["problem"]], steps)
            for steps in long_enough[: settings.per_problem]
        ]
    return examples


def value_samples(
    task: ReasoningTask, model: LanguageModel, trees: Sequence[dict[str, Any]], settings: RestMcts
) -> list[ValueSample]:
    """Return the value targets of all trees; a tree without a right solution gives none."""
    by_id = {problem.id: problem for problem in task.train}
    samples = []
    for record in trees:
        forest = Forest.from_json(record["tree"])
        targets = hard_targets(
            forest, 0, np.array(record["correct"]), mode=settings.targets, end_gate=settings.search.end_gate
        )
        prompt = posed(model, task, by_id[record["problem"]])
        for node, target in targets.items():
            path = forest.path(0, node)
            samples.append(ValueSample(prompt, path, (*[float("nan")] * (len(path) - 1), target)))
    return samples
