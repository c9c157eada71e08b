"""Guide: policy gradients that pose a problem again with a hint, where every answer without one was wrong.

Nath, Lau, Gunjal, Sharma, Baharte, Hendryx 2025, "Adaptive Guidance Accelerates Reinforcement Learning of
Reasoning Models", arXiv 2506.13923. What is drawn with the hint is learnt as if it had not been there, by the
ratio of the probability without to that with it. Pick it against `grpo` when training problems have hints (a
strategy, a first step), many are never solved without, and there are no hints when it counts.

Of the variant with a critic (PPO) the authors tell that it selects and corrects in the same way and that the
critic reads questions without hints; the rest of it is the common form (`learning.critic`).

Deviations: gamma is the quantile over all hinted answers of a step, so that it does not depend on how a batch
is cut to fit the memory, and with fewer than 32 tokens it is the mean of the steps before; answers that
waited for the next step keep the log-probabilities they were drawn with, and those to problems with images do
not wait; groups of equal rewards are left out also where partial credit puts them between the thresholds.
Verifiers with partial credit work: thresholds compare with a group's mean reward. Ratios are those of tokens:
for answers of more than one token the correction is biased, by design of the paper.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.guidance_pictures import gains_picture, guidance_pictures
from selfstudy.evaluation.pass_at_k import gains, sampled_verdicts
from selfstudy.learning.critic import Critic, CriticFitting
from selfstudy.learning.guided_groups import (
    as_drawn,
    as_unhinted,
    held,
    look,
    mixed_in,
    with_advantages,
    with_rewards,
)
from selfstudy.learning.loops import check_not_negative, check_positive
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, Rollout, optimise_policy
from selfstudy.learning.ratio_shaping import Gamma, RatioShaping, shaped
from selfstudy.learning.reward_groups import draw_step, reward_cost
from selfstudy.learning.rollout_buffer import RolloutBuffer
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.hints import Hints, draw_hinted, usable_hints
from selfstudy.search.reasoning import prompt_tokens, require_room
from selfstudy.search.rollouts import Group
from selfstudy.signals.rewards import Reward, verified
from selfstudy.tasks.reasoning import ReasoningTask

ANALYSED = 100  # training problems in the analysis of gains
ENOUGH_HINTED, USELESS = 400, 0.01  # hinted answers, and the share of right ones below which that is told


@dataclass(frozen=True, kw_only=True)
class Guide(Method):
    """Pose all-wrong problems again with a hint, learn as if it had not been there (Nath et al. 2025)."""

    works_on = (ReasoningTask, LanguageModel)

    steps: int = 60
    """Times that a batch is collected and learnt from."""
    problems: int = 32
    """Groups of a batch, and problems of a draw."""
    group: int = 8
    """Answers to each problem (G)."""
    temperature: float = 1.0
    """Of the draws."""
    hints: Literal["failed", "always", "never"] = "failed"
    """Where hints are used: where all answers failed; for half of the answers to every problem; or nowhere,
    which is GRPO with the same selection of groups."""
    failed: float = 0.001
    """Largest mean reward of a group that is drawn again with a hint."""
    lowest: float = 0.001
    """Least mean reward of a group that is learnt from."""
    highest: float = 0.999
    """Largest mean reward of a group that is learnt from."""
    draws: int = 4
    """Draws of problems at most for a batch; a batch that is not full by then is learnt from as it is."""
    mixin: bool = False
    """Replace the wrong answers of a hinted group by the problem's own wrong ones."""
    fallback: bool = False
    """Where all answers with the hint are wrong too, try the problem's next stronger hint."""
    advantages: Literal["group", "critic"] = "group"
    """Of an answer against its group (GRPO), or of each token by a critic (PPO)."""
    correction: bool = True
    """Compare with the probabilities under the hint; false takes those without it, for comparison."""
    strict_hints: bool = False
    """Refuse hints that give the answer away, instead of warning."""
    gain_samples: int = 0
    """Samples of each of 100 training problems, before and after, that tell what was gained; 0: none. They
    are not charged, and decide nothing."""
    shaping: RatioShaping = field(default_factory=RatioShaping)
    """How the ratios of hinted answers enter the loss."""
    gradient: PolicyGradient = field(default_factory=PolicyGradient)
    """The gradient steps."""
    critic: CriticFitting = field(default_factory=CriticFitting)
    """Of advantages=critic."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, problems=0, group=1, temperature=0, draws=0)
        check_not_negative(self, "gain_samples")
        if not 0 <= self.failed < 1 or not 0 <= self.lowest <= self.highest <= 1:
            raise UsageError("failed must be in [0, 1), and 0 <= lowest <= highest <= 1.")
        self.shaping.validate()
        self.gradient.validate()
        self.critic.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit: two draws a batch, half of the problems hinted."""
        times = 2 if self.hints == "never" else 3
        answers = times * self.steps * self.problems * self.group
        labels = 0 if self.hints == "never" else len(task.train) * (2 if self.fallback else 1)
        cost = reward_cost(task, model, answers, self.gradient)
        if self.advantages == "critic":
            read = answers * (task.solution_tokens + prompt_tokens(task, model))
            cost["flops"] += model.flops((1 + 3 * self.critic.steps) * read)
        return {**cost, "oracle_labels": labels}

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on its own answers to the training problems, with hints where it fails."""
        require_room(model, task)
        critic = self._critic(task, model)
        hinted = self._hints(task, model, run)
        before = self._sampled(task, model, run, "before")
        buffer, gamma = RolloutBuffer(), Gamma(self.shaping)

        def collect(policy: LanguageModel, step: int) -> Collection:
            drawer = _Drawer(self, policy, task, run, hinted["hints"])
            batch = buffer.take(self.problems)
            for _ in range(self.draws):
                if len(batch) < self.problems:
                    batch += drawer.draw(buffer.draws)
                    buffer.draws += 1
            batch, rest = batch[: self.problems], batch[self.problems :]
            waiting = [group for group in rest if not group[0].images]
            buffer.keep(held(policy, waiting, run.meter, self.temperature))
            judged: dict[str, float] = {}
            if critic is not None:
                batch, judged = critic.learn(batch, run.meter)
            seen = look(policy, batch, gamma, self.shaping, self.gradient, run.meter, self.temperature)
            rollouts = [rollout for group in batch for rollout in group]
            return Collection(rollouts, np.concatenate(drawer.plain), {**drawer.figures(), **judged, **seen})

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
                objective=shaped(self.gradient, self.shaping, gamma),
                state={"buffer": buffer, "gamma": gamma, **(critic.state if critic else {})},
            ),
        )
        logged = [row for row in run.metrics() if "raw_accuracy" in row]
        note_useless_hints(logged)
        metrics, pictures = {"hints": hinted["figures"]}, guidance_pictures(logged)
        if self.gain_samples:
            found = gains(before, self._sampled(task, policy, run, "after"))
            metrics["gains"] = found.to_json()
            pictures.append(gains_picture(found))
        return Fit(model=policy, metrics=metrics, pictures=pictures)

    def _critic(self, task: ReasoningTask, model: LanguageModel) -> Critic | None:
        if self.advantages == "group":
            return None
        if any(problem.images for problem in task.train):
            raise UsageError("A critic reads texts alone; problems with images need advantages=group.")
        return Critic(model, self.critic)

    def _hints(self, task: ReasoningTask, model: LanguageModel, run: Run) -> dict[str, Any]:
        if self.hints == "never":
            return {"hints": {}, "figures": {}}
        return run.stage(
            "hints",
            lambda: usable_hints(
                task, model, run.meter, strengths=2 if self.fallback else 1, strict=self.strict_hints
            ),
        )

    def _sampled(self, task: ReasoningTask, model: LanguageModel, run: Run, when: str) -> list[list[bool]]:
        """Return which samples of training problems are right, [P, gain_samples], without hints."""
        if not self.gain_samples:
            return []

        def sample() -> list[list[bool]]:
            verdicts = sampled_verdicts(
                task,
                model,
                samples=self.gain_samples,
                seed=run.seed,
                temperature=self.temperature,
                split="train",
                limit=ANALYSED,
            )
            return verdicts.tolist()

        return run.stage(f"samples-{when}", sample)


def note_useless_hints(logged: Sequence[dict[str, Any]]) -> None:
    """Warn where many answers were drawn with a hint and next to none was right."""
    asked = [row for row in logged if "guided_accuracy" in row]
    answers = sum(row["hinted_answers"] for row in asked)
    right = sum(row["guided_accuracy"] * row["hinted_answers"] for row in asked)
    if answers >= ENOUGH_HINTED and right < USELESS * answers:
        warnings.warn(
            f"Of {answers:.0f} answers drawn with a hint {right:.0f} were right: this model makes little of "
            "these hints. Train it on questions with hints first, or word them as it has seen them.",
            stacklevel=2,
        )


class _Drawer:
    """Draws answers for a batch, and remembers their rewards for the log."""

    def __init__(
        self, method: Guide, policy: LanguageModel, task: ReasoningTask, run: Run, hints: Hints
    ) -> None:
        self.method, self.policy, self.task, self.run, self.hints = method, policy, task, run, hints
        self.reward: Reward = verified(task)
        self.scored = with_rewards if method.advantages == "critic" else with_advantages
        self.plain: list[np.ndarray] = []
        self.hinted: list[np.ndarray] = []

    def draw(self, number: int) -> list[list[Rollout]]:
        """Draw answers to the next problems; return the groups that are learnt from."""
        method = self.method
        half = method.hints == "always"
        size = method.group - method.group // 2 if half else method.group
        groups = draw_step(
            self.policy, self.task, self.run, number, method.problems, size, method.temperature
        )
        rewards = self.reward(groups)
        self.plain.append(rewards)
        own = {group.problem.id: (as_drawn(group), row) for group, row in zip(groups, rewards, strict=True)}
        if half:
            return self._halves(groups, own, number)
        found = [self.scored(*one) for one in own.values() if self._is_kept(one[1])]
        failed = [g for g in groups if own[g.problem.id][1].mean() <= method.failed]
        for strength in range(2 if method.fallback else 1):
            again, rows = self._draw_hinted(failed, number, strength, method.group)
            kept = [i for i, row in enumerate(rows) if self._is_kept(row)]
            guided = self._unhinted(own, [again[i] for i in kept])
            for i, rollouts in zip(kept, guided, strict=True):
                group = (rollouts, rows[i])
                if method.mixin:
                    mine = own[again[i].problem.id]
                    group = mixed_in(rollouts, mine[0], rows[i], mine[1], method.failed)
                found.append(self.scored(*group))
            failed = [group for group, row in zip(again, rows, strict=True) if row.mean() <= method.failed]
        return found

    def _halves(
        self, groups: list[Group], own: dict[str, tuple[list[Rollout], np.ndarray]], number: int
    ) -> list[list[Rollout]]:
        """Return groups of answers without and with the hint, half and half."""
        again, rows = self._draw_hinted(groups, number, 0, self.method.group // 2)
        joined = dict(own)
        for group, rollouts, row in zip(again, self._unhinted(own, again), rows, strict=True):
            mine = own[group.problem.id]
            joined[group.problem.id] = (mine[0] + rollouts, np.concatenate((mine[1], row)))
        return [self.scored(*one) for one in joined.values() if self._is_kept(one[1])]

    def _draw_hinted(
        self, groups: Sequence[Group], number: int, strength: int, size: int
    ) -> tuple[list[Group], np.ndarray]:
        """Return `size` answers to the problems of `groups` with a hint, where there is one, and rewards."""
        problems = [g.problem for g in groups if len(self.hints.get(g.problem.id, ())) > strength]
        if not problems:
            return [], np.zeros((0, size))
        run = self.run
        again = draw_hinted(
            self.policy,
            self.task,
            problems,
            [self.hints[problem.id][strength] for problem in problems],
            run.meter,
            keys=[[run.key("hinted", number, strength, p.id, i) for i in range(size)] for p in problems],
            temperature=self.method.temperature,
        )
        rewards = self.reward(again)
        self.hinted.append(rewards)
        return again, rewards

    def _unhinted(
        self, own: dict[str, tuple[list[Rollout], np.ndarray]], hinted: Sequence[Group]
    ) -> list[list[Rollout]]:
        questions = [own[group.problem.id][0][0] for group in hinted]
        return as_unhinted(
            self.policy,
            questions,
            hinted,
            self.run.meter,
            self.method.temperature,
            correction=self.method.correction,
        )

    def _is_kept(self, rewards: np.ndarray) -> bool:
        low, high = self.method.lowest, self.method.highest
        return bool(low <= rewards.mean() <= high and (rewards != rewards[0]).any())

    def figures(self) -> dict[str, float]:
        """Return what the log tells of the draws."""
        means = np.concatenate([rows.mean(1) for rows in self.plain])
        figures = {
            "raw_accuracy": float(means.mean()),
            "failed": float((means <= self.method.failed).mean()),
            "solved": float((means > self.method.highest).mean()),
            "drawn": len(means),
        }
        if self.hinted:
            figures["guided_accuracy"] = float(np.concatenate([rows.mean(1) for rows in self.hinted]).mean())
            figures["hinted_answers"] = sum(rows.size for rows in self.hinted)
        return figures
