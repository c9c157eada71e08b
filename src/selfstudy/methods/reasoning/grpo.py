"""GRPO: policy gradients on groups of the model's own answers, each judged against the others.

Shao, Wang, Zhu et al. 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language
Models", arXiv 2402.03300, with the later options: no division by the standard deviation and a constant
length (Dr. GRPO, Liu et al. 2025), leave-one-out baselines (Ahmadian et al. 2024), a wider upper clip and
groups of equal rewards left out (DAPO, Yu et al. 2025), ratios of whole answers (GSPO, Zheng et al. 2025).
Pick it when answers can be checked and some, not all, of a problem's are right; `rest-em` is simpler and
more robust at few problems, `guide` and `rest-rl` learn where all answers fail.

Deviations from the paper: no distance from the base model by default (`--gradient.kl` has it), and one
gradient step for each collection of answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.reward_pictures import reward_pictures
from selfstudy.learning.loops import check_positive
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, optimise_policy
from selfstudy.learning.reward_groups import draw_step, learnable, reward_cost
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.reasoning import posed, prompt_tokens, require_room
from selfstudy.signals.named_judges import value_model_for
from selfstudy.signals.rewards import Reward, formatted, shorter, summed, valued, verified
from selfstudy.tasks.reasoning import ReasoningTask


@dataclass(frozen=True, kw_only=True)
class Grpo(Method):
    """Draw groups of answers, follow the gradient towards the better ones of each (Shao et al. 2024)."""

    works_on = (ReasoningTask, LanguageModel)

    steps: int = 60
    """Times that answers are drawn and learnt from."""
    problems: int = 32
    """Problems of a step."""
    group: int = 8
    """Answers to each problem (G)."""
    temperature: float = 1.0
    """Of the draws."""
    advantages: Literal["grpo", "dr-grpo", "leave-one-out"] = "grpo"
    """How a reward is compared with the others of its group."""
    filter: bool = True
    """Leave groups of equal rewards out of the loss: they have no gradient, but count as tokens."""
    format_reward: float = 0.0
    """Weight of a reward for answers in the task's form, beside the verifier's of weight 1."""
    length_reward: float = 0.0
    """Weight of a reward for the share of the allowed tokens that an answer leaves unused."""
    value_reward: float = 0.0
    """Weight of a reward for what a value model says of a whole answer."""
    value_model: str = ""
    """Its folder, such as the folder value of a run of rest-mcts; empty takes the one that comes with the
    model."""
    gradient: PolicyGradient = field(default_factory=PolicyGradient)
    """The gradient steps."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, problems=0, group=1, temperature=0)
        self.gradient.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        answers = self.steps * self.problems * self.group
        cost = reward_cost(task, model, answers, self.gradient)
        if self.value_reward:
            read = answers * (prompt_tokens(task, model) + task.solution_tokens)
            cost |= {"scored_tokens": read, "flops": cost["flops"] + model.flops(read)}
        return cost

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on the rewards of its own answers to the training problems."""
        require_room(model, task)
        rewards = self._rewards(task, model, run)

        def collect(policy: LanguageModel, step: int) -> Collection:
            groups = draw_step(policy, task, run, step, self.problems, self.group, self.temperature)
            total, means = summed(rewards, groups)
            return learnable(groups, total, self.advantages, leave_out=self.filter, figures=means)

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
            ),
        )
        logged = [row for row in run.metrics() if row.get("part") == "policy"]
        return Fit(model=policy, pictures=reward_pictures(logged))

    def _rewards(
        self, task: ReasoningTask, model: LanguageModel, run: Run
    ) -> dict[str, tuple[float, Reward]]:
        rewards = {"verifier": (1.0, verified(task))}
        if self.format_reward:
            rewards["format"] = (self.format_reward, formatted(task))
        if self.length_reward:
            rewards["length"] = (self.length_reward, shorter(task))
        if self.value_reward:
            value = value_model_for(model, self.value_model)
            seen = partial(posed, model, task)
            rewards["value"] = (self.value_reward, valued(value, seen, run.meter))
        return rewards
