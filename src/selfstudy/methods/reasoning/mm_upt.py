"""MM-UPT: policy gradients towards the answer that most of the model's own samples agree on, without labels.

Wei, Li, Wang, Wang, Kong, Huang, Sun 2025, "Unsupervised Post-Training for Multi-Modal LLM Reasoning via
GRPO", arXiv 2505.22453. Problems may have images, then for a vision-language model; those of text alone are
the same code. Pick it when there are many problems without answers, answers are short, and the model is right
more often than wrong in any one way; where answers can be checked, `grpo` learns more from the same samples.

Deviations: samples without an answer neither vote nor earn a reward (`count_none` is the authors' form);
training ends early when the samples of all problems have agreed ten steps in a row, and a step of such
problems alone is left out (it would carry the distance from the start only); the authors' baselines SRLM,
STIC and Genixer are not here, LMSI is in the claim.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import BudgetSpent, DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.pictures import Picture, line, picture
from selfstudy.evaluation.reward_pictures import reward_pictures
from selfstudy.learning.loops import check_not_negative, check_positive
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, optimise_policy
from selfstudy.learning.reward_groups import draw_step, learnable, reward_cost
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import check_top_p
from selfstudy.search.questions import Questions, write_questions
from selfstudy.search.reasoning import require_room
from selfstudy.search.rollouts import Group, draw_groups
from selfstudy.signals.rewards import Reward, majority, summed, verified
from selfstudy.tasks.reasoning import ReasoningTask

SETTLED = 10  # steps in a row in which the samples of every problem agreed, before training ends
UNREADABLE = 0.5  # share of first samples without an answer, above which nothing can be learnt from votes


@dataclass(frozen=True, kw_only=True)
class MmUpt(Method):
    """Sample answers, reward those that agree with the majority (Wei et al. 2025)."""

    works_on = (ReasoningTask, LanguageModel)

    steps: int = 60
    """Times that answers are drawn and learnt from."""
    problems: int = 32
    """Problems of a step."""
    samples: int = 10
    """Answers to each problem (n)."""
    temperature: float = 0.7
    """Of the draws."""
    top_p: float = 0.99
    """Draw among the likeliest tokens alone that have this share together."""
    reward: Literal["majority", "gold", "random"] = "majority"
    """What answers are compared with: their majority; the true answer (supervised GRPO, the upper reference);
    or nothing, the majority's rewards being dealt out at random within each problem (a control)."""
    vote: Literal["string", "canonical"] = "string"
    """Whether the vote counts equal texts or equivalent answers; rewards always go by equivalence."""
    count_none: bool = False
    """Let samples without an answer vote too, as in the authors' program: where most have none, it wins."""
    monitor: int = 64
    """Validation problems whose truth is looked at for the log and the report, and for no decision."""
    look_every: int = 20
    """Steps between two looks."""
    questions: Questions = field(default_factory=Questions)
    """Questions that the model writes itself before it is trained, without answers like the others."""
    gradient: PolicyGradient = field(
        default_factory=lambda: PolicyGradient(learning_rate=1e-4, clip_high=0.3, dual_clip=3.0, kl=0.01)
    )
    """The gradient steps."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, problems=0, temperature=0, look_every=0)
        check_not_negative(self, "monitor")
        if self.samples < 2:
            raise UsageError(f"samples is {self.samples}; a vote needs at least 2, and 3 to have a majority.")
        check_top_p(self.top_p)
        self.gradient.validate()
        self.questions.validate()
        if self.questions.each and self.reward == "gold":
            raise UsageError("reward=gold needs answers, which questions of the model's own do not have.")

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        looks = (-(-self.steps // self.look_every) + 1) * min(self.monitor, len(task.validation))
        cost = reward_cost(task, model, self.steps * self.problems * self.samples, self.gradient)
        judged = cost["verifier_calls"] if self.reward == "gold" else 0
        more = looks * self.samples
        drawn = more * task.solution_tokens + self.questions.each * len(task.train) * self.questions.tokens
        return {
            **cost,
            "generated_tokens": cost["generated_tokens"] + drawn,
            "verifier_calls": judged + more,
            "flops": cost["flops"] + model.flops(drawn),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on the agreement of its own answers to the training problems."""
        require_room(model, task)
        if self.samples == 2:
            warnings.warn("With samples=2 the first sample wins every disagreement.", stacklevel=2)
        task = self._with_questions(task, model, run)
        calm = _Calm()

        def collect(policy: LanguageModel, step: int) -> Collection:
            looked = self._look(task, policy, run, step) if step % self.look_every == 0 else {}
            groups = draw_step(
                policy, task, run, step, self.problems, self.samples, self.temperature, self.top_p
            )
            unread = unreadable(task, groups, enough=step > 0)
            rewards, means = summed({self.reward: (1.0, self._reward(task, run, step))}, groups)
            figures = {**looked, **means, "unreadable": unread}
            collection = learnable(groups, rewards, "grpo", leave_out=False, figures=figures)
            return replace(collection, last=calm.after(collection))

        policy = run.stage(
            "policy",
            lambda: optimise_policy(
                model,
                collect,
                self.gradient,
                run,
                "policy",
                steps=self.steps,
                longest=task.solution_tokens,
                temperature=self.temperature,
                state={"calm": calm},
            ),
        )
        after = run.stage("monitor", lambda: self._look(task, policy, run, self.steps))
        logged = [row for row in run.metrics() if row.get("part") == "policy" and "constant" in row]
        return Fit(model=policy, metrics=_figures(logged, after), pictures=_pictures(logged, after))

    def _with_questions(self, task: ReasoningTask, model: LanguageModel, run: Run) -> ReasoningTask:
        if not self.questions.each:
            return task
        new = write_questions(task, model, self.questions, run)
        return task.posing(new if self.questions.alone else [*task.train, *new])

    def _reward(self, task: ReasoningTask, run: Run, step: int) -> Reward:
        if self.reward == "gold":
            return verified(task)
        agreeing = majority(task, vote=self.vote, among_none=self.count_none)
        if self.reward == "majority":
            return agreeing
        return lambda groups: run.rng("random", step).permuted(agreeing(groups), axis=1)

    def _look(self, task: ReasoningTask, policy: LanguageModel, run: Run, step: int) -> dict[str, float]:
        """Return pass@1 and the accuracy of votes on validation problems, for people to see."""
        problems = task.validation[: self.monitor]
        if not problems:
            return {}
        keys = [[run.key("look", problem.id, i) for i in range(self.samples)] for problem in problems]
        try:
            groups = draw_groups(
                policy,
                task,
                problems,
                run.meter,
                keys=keys,
                temperature=self.temperature,
                top_p=self.top_p,
            )
            right = verified(task)(groups) == 1  # [P, n]
        except BudgetSpent:
            if step < self.steps:
                raise
            return {}
        agreeing = majority(task, vote=self.vote, among_none=self.count_none)(groups)
        # The first that agrees speaks for the vote; where none states an answer, all are wrong.
        voted = float(right[np.arange(len(groups)), agreeing.argmax(1)].mean())
        if step == 0 and voted <= right.mean() and self.reward == "majority":
            warnings.warn(
                f"On {len(problems)} validation problems the model's votes over {self.samples} samples are "
                f"right in {voted:.1%}, single samples in {right.mean():.1%}: agreement has nothing to teach "
                "it, so no gain is to be expected.",
                stacklevel=2,
            )
        return {"pass_at_1": float(right.mean()), "vote_accuracy": voted}


def unreadable(task: ReasoningTask, groups: list[Group], *, enough: bool) -> float:
    """Return the share of samples that state no answer.

    Raises:
        DataError: it is above one half, unless `enough` of them can be taken for granted.
    """
    answers = [answer for group in groups for answer in group.answers]
    without = [answer for answer in answers if task.answer(answer.steps, answer.problem) is None]
    share = len(without) / len(answers)
    if share > UNREADABLE and not enough:
        shown = "\n".join(f"  {answer.text[:200]!r}" for answer in without[:3])
        raise DataError(
            f"{len(without)} of the {len(answers)} answers of the first step state nothing that can be read "
            f"as an answer, so there is nothing to vote on. Say in the task's instruction or preamble how an "
            f"answer is to be written, or allow longer ones (solution_tokens). Three of them:\n{shown}"
        )
    return share


class _Calm:
    """Counts steps in a row in which the samples of every problem agreed; a state for checkpoints."""

    def __init__(self) -> None:
        self._steps = 0

    def after(self, collection: Collection) -> bool:
        """Count a step, and tell whether there were enough of them."""
        self._steps = 0 if collection.rollouts else self._steps + 1
        return self._steps == SETTLED

    def state_dict(self) -> dict[str, int]:
        return {"steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._steps = state_dict["steps"]


def _figures(logged: list[dict[str, Any]], after: dict[str, float]) -> dict[str, Any]:
    """Return each figure of the log as it was first and last."""
    found: dict[str, Any] = {"steps": len(logged)}
    names = {"reward": "agreement", "constant": "constant_groups", "entropy": "entropy"}
    for key in (*names, "pass_at_1", "vote_accuracy"):
        values = [row[key] for row in (*logged, after) if key in row]
        if values:
            name = names.get(key, key)
            found |= {f"{name}_first": values[0], f"{name}_last": values[-1]}
    return found


def _pictures(logged: list[dict[str, Any]], after: dict[str, float]) -> list[Picture]:
    """Return the course of the training, and of what the looks saw."""
    course = reward_pictures(
        logged,
        "Agreement",
        reward="share rewarded",
        constant="problems whose samples all agree",
        note="Where all samples of a problem agree nothing can be learnt from it: training ends by itself.",
    )
    looks = [row for row in logged if "pass_at_1" in row]
    if not looks:
        return course
    rows = [*looks, {"step": len(logged), **after}] if after else looks
    names = {"pass_at_1": "single samples", "vote_accuracy": "votes"}
    seen = picture(
        "Validation problems",
        [line(name, [r["step"] for r in rows], [r[key] for r in rows]) for key, name in names.items()],
        x="step",
        y="share right",
        note="Votes teach single samples what most of them say; they cannot carry them far beyond the votes.",
    )
    return [seen, *course]
