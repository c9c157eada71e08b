"""What a step learns from groups of rewarded answers: whose advantage is whose, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import selfstudy
from selfstudy.learning.reward_groups import draw_step, learnable
from selfstudy.search.rollouts import Answer, Group, draw_groups

TASK = selfstudy.task("chain100?steps=2&train=5&validation=0&test=1")


def groups() -> list[Group]:
    """Two problems with three answers each, of 1 to 6 tokens."""
    found = []
    for p, problem in enumerate(TASK.train[:2]):
        lengths = range(3 * p + 1, 3 * p + 4)
        answers = tuple(Answer(problem, "", (), tuple(range(n)), "end") for n in lengths)
        found.append(Group(problem, (p,), answers))
    return found


def test_better_answers_have_higher_advantages() -> None:
    """Oracle: by hand: 1, 0, 0 less their mean over the sample deviation 3^-0.5; equal rewards have none."""
    rewards = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    found = learnable(groups(), rewards, "grpo", leave_out=False, figures={"seen": 1.0})
    assert [(one.prompt, len(one.tokens)) for one in found.rollouts] == [
        ((p,), n) for p, n in ((0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6))
    ]
    third = 3**-0.5
    advantages = [one.advantage for one in found.rollouts]
    assert advantages == pytest.approx([2 * third, -third, -third, 0, 0, 0], abs=1e-5)
    assert dict(found.figures) == {"seen": 1.0, "constant": 0.5, "length": 3.5}
    assert found.rewards is rewards


def test_groups_of_equal_rewards_are_left_out() -> None:
    """Oracle: by hand: those of equal rewards, or those that are said to be alike; nothing where all are."""
    rewards = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]])

    def prompts(rewards: np.ndarray, alike: np.ndarray | None = None) -> list[int]:
        found = learnable(groups(), rewards, "grpo", leave_out=True, figures={}, alike=alike)
        return [one.prompt[0] for one in found.rollouts]

    assert prompts(rewards) == [0] * 3
    assert prompts(rewards[::-1].copy()) == [1] * 3
    assert prompts(rewards, np.array([True, False])) == [1] * 3
    assert prompts(rewards, np.array([True, True])) == [] == prompts(np.ones((2, 3)))


def test_each_step_draws_the_next_problems_and_every_answer_by_itself(open_run) -> None:
    """Oracle: `draw_groups` with a key for each step, problem and answer; passes over all problems."""
    run, policy = open_run(), selfstudy.model("tiny-lm")
    steps = [draw_step(policy, TASK, run, step, 2, 3, 2.5) for step in range(5)]
    passes = [group.problem.id for found in steps for group in found]
    assert sorted(passes[:5]) == sorted(passes[5:]) == sorted(problem.id for problem in TASK.train)
    for step, found in enumerate(steps):
        keys = [[run.key("answers", step, group.problem.id, i) for i in range(3)] for group in found]
        problems = [group.problem for group in found]
        again = draw_groups(policy, TASK, problems, run.meter, keys=keys, temperature=2.5)
        assert [[a.tokens for a in g.answers] for g in found] == [
            [a.tokens for a in g.answers] for g in again
        ]
        assert any(len({a.tokens for a in g.answers}) == 3 for g in found)


def test_images_go_with_the_answers() -> None:
    """Oracle: every answer of a group has the group's."""
    seen = {"pixels": object()}
    one = replace(groups()[0], images=seen)  # type: ignore[arg-type]
    found = learnable([one], np.array([[1.0, 0.0, 0.0]]), "grpo", leave_out=True, figures={})
    assert [rollout.images for rollout in found.rollouts] == [seen] * 3
