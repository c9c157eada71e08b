"""Choosing among a model's answers by its own reward: best of n without a verifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.random import stream_key
from selfstudy.search.best_of import best_of
from selfstudy.search.reasoning import Steps
from selfstudy.search.rollouts import Group, draw_groups
from selfstudy.signals.self_rewards import SelfReward, cut, own_rewards

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


@dataclass(frozen=True, slots=True)
class Candidates:
    """The answers to one problem with what the model thinks of them."""

    group: Group
    rewards: np.ndarray
    """[G] self-rewards."""
    logprobs: np.ndarray
    """[G] log p(y | x)."""
    usable: np.ndarray
    """Indices of those that may be chosen: not cut off, and not empty."""
    cut: int
    """Answers cut off by the limit of tokens."""
    empty: int
    """Whole answers without any text."""

    @property
    def best(self) -> int | None:
        """The index of the usable answer with the highest reward, of equals the first; None where none is."""
        return int(self.usable[best_of(self.rewards[self.usable].tolist())]) if len(self.usable) else None


def candidates(
    task: ReasoningTask, model: LanguageModel, group: Group, reward: SelfReward, *, keep_empty: bool = False
) -> Candidates:
    """Score a group by a self-reward, and tell which answers may be chosen.

    Args:
        task: extracts answers, and tells which are finished; its verifier is never asked.
        model: drew the answers at temperature 1.
        group: the answers.
        reward: a name in `self_rewards`.
        keep_empty: let empty answers be chosen.
    """
    cuts = np.array([cut(task, answer, model.end) for answer in group.answers])
    empty = ~cuts & np.array([not answer.steps for answer in group.answers])
    return Candidates(
        group=group,
        rewards=own_rewards(task, group, reward),
        logprobs=own_rewards(task, group, "likelihood"),
        usable=np.flatnonzero(~cuts & (keep_empty | ~empty)),
        cut=int(cuts.sum()),
        empty=int(empty.sum()),
    )


def covered(task: ReasoningTask, model: LanguageModel, least: float) -> Callable[[Group], bool]:
    """Return a test of whether n p(likeliest usable answer) is at least `least`, for `draw_until`.

    Had some answer been at least as likely as that one, n draws would have missed it with a chance of at
    most exp(-least).
    """

    def enough(group: Group) -> bool:
        scored = candidates(task, model, group, "likelihood")
        best = scored.best
        return best is not None and len(group.answers) * math.exp(scored.logprobs[best]) >= least

    return enough


def own_choice_solver(
    policy: LanguageModel, task: ReasoningTask, *, samples: int, seed: int, reward: SelfReward = "likelihood"
) -> Callable[[Sequence[Problem], Meter], list[Steps]]:
    """Answer each problem by the best of `samples` answers by the policy's own reward (Huang et al. 2024).

    Where none is whole, the first one is given. Fewer samples are a part of more of the same seed.

    Args:
        policy: draws at temperature 1, and scores.
        task: extracts answers; its verifier is never asked.
        samples: answers drawn to each problem.
        seed: root of the random streams.
        reward: a name in `self_rewards`.
    """

    def solve(problems: Sequence[Problem], meter: Meter) -> list[Steps]:
        keys = [
            [stream_key(seed, "own choice", problem.id, i) for i in range(samples)] for problem in problems
        ]
        groups = draw_groups(policy, task, problems, meter, keys=keys, temperature=1.0)
        chosen = [(group, candidates(task, policy, group, reward).best) for group in groups]
        return [group.answers[best or 0].steps for group, best in chosen]

    return solve
