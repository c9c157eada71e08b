"""What every method that learns from groups of rewarded answers does in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.run import Run
from selfstudy.learning.advantages import constant_groups, group_advantages
from selfstudy.learning.loops import batch_indices
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, Rollout
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.reasoning import prompt_tokens
from selfstudy.search.rollouts import Group, draw_groups

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import ReasoningTask


def draw_step(
    policy: LanguageModel,
    task: ReasoningTask,
    run: Run,
    step: int,
    problems: int,
    group: int,
    temperature: float,
    top_p: float = 1.0,
) -> list[Group]:
    """Return the groups of a step: the next problems in shuffled passes over the training problems."""
    count = min(problems, len(task.train))
    chosen = [task.train[i] for i in batch_indices(run, "problems", step, len(task.train), count)]
    keys = [[run.key("answers", step, problem.id, i) for i in range(group)] for problem in chosen]
    return draw_groups(policy, task, chosen, run.meter, keys=keys, temperature=temperature, top_p=top_p)


def learnable(
    groups: Sequence[Group],
    rewards: np.ndarray,
    kind: str,
    *,
    leave_out: bool,
    figures: Mapping[str, float],
    alike: np.ndarray | None = None,
) -> Collection:
    """Return what the policy learns from groups with rewards [P, G].

    Args:
        groups: P of G answers.
        rewards: of the answers.
        kind: of the advantages, see `group_advantages`.
        leave_out: leave groups of equal rewards out.
        figures: for the log.
        alike: [P], which groups count as those of equal rewards; None takes those that are.
    """
    advantages = group_advantages(rewards, kind)
    constant = constant_groups(rewards) if alike is None else alike
    rollouts = [
        Rollout(group.prompt, answer.tokens, float(advantage), images=group.images)
        for group, row, same in zip(groups, advantages, constant, strict=True)
        if not (leave_out and same)
        for answer, advantage in zip(group.answers, row, strict=True)
    ]
    tokens = [len(answer.tokens) for group in groups for answer in group.answers]
    return Collection(
        rollouts if not constant.all() else (),
        rewards,
        {**figures, "constant": float(constant.mean()), "length": float(np.mean(tokens))},
    )


def reward_cost(
    task: ReasoningTask, model: LanguageModel, answers: int, gradient: PolicyGradient
) -> dict[str, float]:
    """Return about what drawing `answers`, judging them and learning from them spends."""
    prompt = prompt_tokens(task, model)
    drawn = answers * task.solution_tokens
    read = answers * (task.solution_tokens + prompt)
    moves = gradient.passes * gradient.mini_batches > 1  # then the policy reads them before it has moved
    reads = 3 * gradient.passes + moves + (gradient.kl > 0)
    return {
        "generated_tokens": drawn,
        "verifier_calls": answers,
        "samples": gradient.passes * answers,
        "flops": model.flops(drawn + reads * read),
    }
