"""Rationales drawn from a policy and judged by their answers, also where the answer is shown to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from selfstudy.core.budget import Meter
from selfstudy.data.rationales import Drawn
from selfstudy.search.rollouts import draw_groups

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


def draw_rationales(
    policy: LanguageModel,
    task: ReasoningTask,
    problems: Sequence[Problem],
    meter: Meter,
    *,
    keys: Sequence[int],
    temperature: float = 1.0,
    shown: bool = False,
) -> list[Drawn]:
    """Draw one rationale for each problem (repeat problems for more) and ask the verifier about each.

    Args:
        policy: draws.
        task: poses the problems and judges; right is a grade of 1.
        problems: of its training or validation split.
        meter: charged by the sampler and the task.
        keys: of the random streams, one a problem.
        temperature: of the draws.
        shown: put the answer into the prompt; counts oracle labels.

    Raises:
        BudgetSpent: the meter does not cover it; what was drawn in this call is lost.
        UsageError: the task has no prompts that show the answer.
    """
    prompts = None
    if shown:
        prompts = [policy.prompt(task.guided_prompt(problem, chat=policy.chat)) for problem in problems]
    groups = draw_groups(
        policy,
        task,
        problems,
        meter,
        keys=[[key] for key in keys],
        temperature=temperature,
        prompts=prompts,
    )
    answers = [group.answers[0] for group in groups]
    grades = task.grades(problems, [answer.steps for answer in answers])
    return [
        Drawn(
            answer.tokens,
            answer.text,
            right=bool(answer.tokens) and grade == 1,
            answered=bool(answer.steps) and task.is_end(answer.problem, answer.steps),
        )
        for answer, grade in zip(answers, grades, strict=True)
    ]
