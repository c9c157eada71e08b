"""Sharpening: the model learns to say at once what it would choose among many of its own answers.

Huang, Block, Foster, Rohatgi, Zhang, Simchowitz, Ash, Krishnamurthy 2024, "Self-Improvement in Language
Models: The Sharpening Mechanism", ICLR 2025, arXiv 2412.01951. Answers are scored by the model's own
likelihood (or by agreement); no label and no verifier is asked. Pick it to turn "draw 50, keep the best by
the model's own score" into one sample, and for its report, which tells beforehand whether that can work. With
a verifier, `rest-em` learns from the truth; `mm-upt` learns from votes by policy gradients and may go on
where this stops. Do not pick it where the base is nearly always wrong, or where its shortest answers are both
the likeliest and the worst.

Deviations from the paper: where `delta` is given, the number of samples follows a simple rule (draw until
n p(best) >= c log(1/delta)), not the paper's constants; the online form draws one answer from the policy and
takes one of the base for every prompt, and its bonus (`regression.optimism`, XPO, Xie et al. 2024) is off;
checkpoints are chosen by the base's likelihood of answers to validation prompts, not by their accuracy. The
model is trained on tokens as they were drawn, so that what is learnt is what was scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.sharpness import coverage_report
from selfstudy.learning.fine_tuning import Example, FineTuning, Watch, fine_tune
from selfstudy.learning.loops import check_not_negative, check_positive, training_cost
from selfstudy.learning.preference_losses import squared_loss
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import sequence_logprobs
from selfstudy.search.own_choice import Candidates, candidates, covered
from selfstudy.search.reasoning import posed, prompt_tokens, require_room
from selfstudy.search.rollouts import Group, draw_groups, draw_until
from selfstudy.signals.self_rewards import SelfReward, require_own_logprobs, require_signal, vote_shares
from selfstudy.tasks.reasoning import Problem, ReasoningTask

LOOKED_AT = 256  # validation prompts of a look


@dataclass(frozen=True, kw_only=True)
class Sharpening(Method):
    """Draw answers, score them by the model's own likelihood, train it to say the best (Huang 2024)."""

    works_on = (ReasoningTask, LanguageModel)
    across_processes = True

    variant: Literal["sft", "rlhf"] = "sft"
    """Fine-tune on the best answer of each prompt, or regress log-ratios of pairs on their rewards."""
    reward: SelfReward = "likelihood"
    """log p(y | x) under the base model, the same per token ("normalised"), or the share of a prompt's
    answers that state an equivalent one ("majority")."""
    samples: int = 50
    """Answers drawn per prompt at temperature 1 (N); the most of them where `delta` is given."""
    delta: float | None = None
    """Draw for each prompt until n p(best) >= c log(1/delta): a response as likely as the best one found is
    missed with at most this chance. None draws N."""
    c: float = 1.0
    """See `delta`."""
    keep_empty: bool = False
    """Let empty answers be chosen too."""
    batch: int = 64
    """Prompts sampled at once."""
    looks: int = 0
    """Times that "sft" draws answers to validation prompts, to keep the weights whose answers the base model
    finds likeliest; 0 keeps the last weights."""
    check: bool = False
    """Ask the verifier about all samples, for the report alone: whether the reward tells right from wrong."""
    tuning: FineTuning = field(default_factory=lambda: FineTuning(epochs=3))
    """Of "sft": fine-tuning on the chosen answers."""
    online: bool = True
    """Of "rlhf": pair an answer of the policy with one of the base in each round; else two of the base."""
    rounds: int = 3
    """Of "rlhf" online."""
    pairs: int = 1
    """Of "rlhf" offline: pairs of a prompt."""
    regression: Preference = field(
        default_factory=lambda: Preference(beta=0.5, learning_rate=1e-4, epochs=3, batch=64)
    )
    """Of "rlhf": the regression; its optimum is p^(1 + 1/beta), normalised."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, samples=0, rounds=0, pairs=0, batch=0, delta=0, c=0)
        check_not_negative(self, "looks")
        if self.delta is not None and self.delta >= 1:
            raise UsageError(f"delta is {self.delta}; it must be below 1, or absent.")
        if self.variant == "rlhf" and not self.online and self.samples < 2 * self.pairs:
            raise UsageError(f"{self.pairs} pairs of a prompt need samples of at least {2 * self.pairs}.")
        if self.reward == "majority" and self.samples < 2:
            raise UsageError('The reward "majority" needs samples of at least 2: one answer has no vote.')
        if self.variant == "rlhf" and self.looks:
            raise UsageError('looks belong to the variant "sft".')

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        prompts, rounds = len(task.train), self.rounds if self.variant == "rlhf" and self.online else 0
        looked = self.looks * min(LOOKED_AT, len(task.validation))
        drawn = prompts * (self.samples + rounds) + looked
        scored = min(self.batch, prompts) + looked + (prompts * rounds if self.reward != "majority" else 0)
        read = prompt_tokens(task, model) + task.solution_tokens
        if self.variant == "sft":
            learnt = [training_cost(self.tuning, model, prompts, read)]
        else:
            pairs = [prompts * (t + 1) for t in range(rounds)] or [prompts * self.pairs]
            learnt = [training_cost(self.regression, model, many, 2 * read) for many in pairs]
        return {
            "generated_tokens": drawn * task.solution_tokens,
            "scored_tokens": scored * read,
            "verifier_calls": prompts * self.samples if self.check else 0,
            "samples": sum(one["samples"] for one in learnt),
            "flops": model.flops((drawn + scored) * read) + sum(one["flops"] for one in learnt),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Sharpen `model` on the training prompts."""
        require_room(model, task)
        if self.looks and not task.validation:
            raise DataError(f"looks need validation prompts, and {task.name!r} has none. Leave looks at 0.")
        drawn = run.stage("samples", partial(self._draw, task, model, run))
        usable = [x for x in drawn if x["best"]]
        if len(drawn) < len(task.train) and not usable:
            return Fit(model=model, metrics={"prompts": 0})  # the budget ended in the sampling
        require_signal(drawn, self.reward, self.samples)
        train = self._imitate if self.variant == "sft" else self._regress
        policy = train(task, model, usable, run)
        report, pictures = coverage_report(drawn)
        return Fit(model=policy, metrics=report, pictures=pictures)

    def _draw(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Draw and score the answers to every training prompt; one record a prompt."""

        def draw(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            keys = [[run.key("samples", p.id, i) for i in range(self.samples)] for p in problems]
            more: dict[str, Any] = {"keys": keys, "temperature": 1.0}
            if self.delta is None:
                groups = draw_groups(model, task, problems, run.meter, **more)
            else:
                enough = covered(task, model, self.c * math.log(1 / self.delta))
                groups = draw_until(model, task, problems, run.meter, **more, enough=enough)
            if problems[0] is task.train[0]:
                drawn = [(posed(model, task, g.problem), answer) for g in groups for answer in g.answers[:1]]
                require_own_logprobs(model, drawn, run.meter)
            scored = [candidates(task, model, g, self.reward, keep_empty=self.keep_empty) for g in groups]
            return [self._record(task, one) for one in scored]

        return run.map_batches("samples", task.train, self.batch, draw)

    def _record(self, task: ReasoningTask, scored: Candidates) -> dict[str, Any]:
        """Return what is needed of the answers to a prompt: the best, those for pairs, and figures of all."""
        problem, answers, usable = scored.group.problem, scored.group.answers, scored.usable.tolist()
        of_pairs = 0 if self.variant == "sft" else self.rounds if self.online else 2 * self.pairs
        kept = [answers[i] for i in usable]
        stated = [task.answer(one.steps, problem) for one in answers]
        return {
            "problem": problem.id,
            "tokens": sum(len(answer.tokens) for answer in answers),
            "samples": len(answers),
            "cut": scored.cut,
            "empty": scored.empty,
            "unanswered": sum(stated[i] is None for i in usable),
            "distinct": len({answer.tokens for answer in kept}),
            "rewards": scored.rewards[usable].tolist(),
            "logprobs": scored.logprobs[usable].tolist(),
            "best": list(answers[scored.best].tokens) if scored.best is not None else [],
            "others": [[list(answers[i].tokens), float(scored.rewards[i])] for i in usable[:of_pairs]],
            "stated": stated if self.reward == "majority" and of_pairs else [],
            "grades": task.grades([problem] * len(kept), [one.steps for one in kept]) if self.check else [],
        }

    def _imitate(
        self, task: ReasoningTask, model: LanguageModel, drawn: list[dict[str, Any]], run: Run
    ) -> LanguageModel:
        """SFT-Sharpening: argmax over policies of the sum of log pi(y_best | x)."""
        prompts = {problem.id: posed(model, task, problem) for problem in task.train}
        examples = [Example(prompts[x["problem"]], tuple(x["best"])) for x in drawn]
        watch = Watch(self.looks, partial(self._look, task, model, run)) if self.looks else None
        return run.stage(
            "policy", partial(fine_tune, model, examples, self.tuning, run, "policy", watch=watch)
        )

    def _look(self, task: ReasoningTask, model: LanguageModel, run: Run, policy: LanguageModel) -> float:
        """Return how likely the base finds a token of answers to validation prompts, in [0, 1]."""
        problems = task.validation[:LOOKED_AT]
        keys = [[run.key("look", problem.id)] for problem in problems]
        groups = draw_groups(policy, task, problems, run.meter, keys=keys, temperature=1.0)
        said = [(posed(model, task, group.problem), group.answers[0].tokens) for group in groups]
        run.log(part="look", generated_tokens=sum(len(tokens) for _, tokens in said))
        total = sum(sequence_logprobs(model, said, run.meter))
        return math.exp(total / len(said) / task.solution_tokens)

    def _regress(
        self, task: ReasoningTask, model: LanguageModel, drawn: list[dict[str, Any]], run: Run
    ) -> LanguageModel:
        """RLHF-Sharpening: beta times the log-ratios of pairs regressed on their differences of reward."""
        prompts = {problem.id: posed(model, task, problem) for problem in task.train}
        policy, pairs = model, []
        for t in range(self.rounds if self.online else 1):
            if self.online:
                found = run.stage(f"answers-{t}", partial(self._answer, task, policy, model, drawn, run, t))
            else:
                found = [
                    {"problem": x["problem"], "pair": two} for x in drawn for two in in_twos(x["others"])
                ]
            pairs += [
                Pair(prompts[x["problem"]], tuple(y), tuple(other), r - r_other)
                for x in found
                if x["pair"]
                for (y, r), (other, r_other) in [x["pair"]]
            ]
            if not pairs:
                break  # the budget ended in the sampling
            tune = partial(prefer, policy, list(pairs), self.regression, run, "policy")
            policy = run.stage(f"policy-{t}", partial(tune, reference=model, loss=squared_loss))
        return policy

    def _answer(
        self,
        task: ReasoningTask,
        policy: LanguageModel,
        model: LanguageModel,
        drawn: list[dict[str, Any]],
        run: Run,
        t: int,
    ) -> list[dict[str, Any]]:
        """Draw an answer of the policy to every prompt, scored by the base, beside the t-th one of the base.

        The pair is empty where the answer may not be chosen. Each answer of a pair is (tokens, reward).
        """
        by_id = {problem.id: problem for problem in task.train}

        def draw(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
            problems = [by_id[x["problem"]] for x in records]
            keys = [[run.key("round", t, problem.id)] for problem in problems]
            groups = draw_groups(policy, task, problems, run.meter, keys=keys, temperature=1.0)
            rewards = self._judge(task, model, groups, records, run)
            usable = [
                len(candidates(task, model, g, "likelihood", keep_empty=self.keep_empty).usable)
                for g in groups
            ]
            return [
                {
                    "problem": x["problem"],
                    "tokens": len(own.tokens),
                    "pair": [[list(own.tokens), r], x["others"][t % len(x["others"])]] if may else [],
                }
                for x, (own,), r, may in zip(
                    records, (g.answers for g in groups), rewards, usable, strict=True
                )
            ]

        return run.map_batches("answers", drawn, self.batch, draw)

    def _judge(
        self,
        task: ReasoningTask,
        model: LanguageModel,
        groups: Sequence[Group],
        records: Sequence[dict[str, Any]],
        run: Run,
    ) -> list[float]:
        """Return the base's reward of the only answer of each group."""
        if self.reward == "majority":
            return [
                float(
                    vote_shares(task, g.problem, [task.answer(g.answers[0].steps, g.problem)], x["stated"])[0]
                )
                for g, x in zip(groups, records, strict=True)
            ]
        said = [(posed(model, task, group.problem), group.answers[0].tokens) for group in groups]
        sums = sequence_logprobs(model, said, run.meter)
        lengths = [max(1, len(tokens)) for _, tokens in said]
        return sums if self.reward == "likelihood" else list(np.divide(sums, lengths))


def in_twos(answers: Sequence[Any]) -> list[list[Any]]:
    """Return the first two, the next two, and so on; one that is left over has no partner.

    >>> in_twos([1, 2, 3, 4, 5])
    [[1, 2], [3, 4]]
    """
    return [list(answers[i : i + 2]) for i in range(0, len(answers) - 1, 2)]
