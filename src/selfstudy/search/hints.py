"""Hints to training problems: which there are, which can be used, and whether they give answers away."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.sampling import Request
from selfstudy.search.reasoning import posed
from selfstudy.search.rollouts import Group, draw_groups

if TYPE_CHECKING:
    from selfstudy.models.language.model import LanguageModel
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

LOOKED_AT = 32  # problems whose hint is answered without the question
TOO_MANY = 0.5  # of those answers are right: the hints hold the answers

Hints = Mapping[str, Sequence[str]]
"""By the id of a problem its hints, weak ones first."""


def usable_hints(
    task: ReasoningTask, model: LanguageModel, meter: Meter, *, strengths: int, strict: bool
) -> dict[str, Any]:
    """Return the hints to the training problems that leave room for a solution, and counts of the others.

    Args:
        task: gives the hints; an oracle label is counted for each.
        model: must have room for the question, the hint and a solution.
        meter: charged for answers to hints without their questions.
        strengths: how many hints of each problem, weak ones first.
        strict: refuse hints that give an answer away, instead of warning.

    Returns:
        JSON data: "hints" by problem id; "figures": hinted problems, those without a hint, hints that were
        too long, problems with a telling hint, the share of right answers to hints alone; "tokens" drawn.

    Raises:
        DataError: no problem has a usable hint, or `strict` and a hint that gives the answer away.
    """
    hints: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    for problem in task.train:
        given = [task.hint(problem, strength) for strength in range(strengths)]
        texts = [text for text in given if text is not None]
        rows = model.encode_all([posed(model, task, problem, text) for text in texts])
        room = model.context - task.room(problem)
        kept = [text for text, row in zip(texts, rows, strict=True) if len(row) <= room]
        counts["too_long"] += len(texts) - len(kept)
        counts["missing"] += not texts
        if kept:
            hints[problem.id] = kept
    if not hints:
        raise DataError(
            f"None of the {len(task.train)} training problems of {task.name!r} has a hint that can be used: "
            f"{counts['missing']} have none, {counts['too_long']} hints leave no room for a solution in the "
            f"context of {model.context} tokens. Name a column of hints (hint=COLUMN), or take a method that "
            "needs none, such as grpo."
        )
    telling = task.telling_hints()
    if telling:
        said = f"The hints to {telling} of {len(task.train)} training problems give the answer away"
        if strict:
            raise DataError(f"{said}. Reword them, or allow them by strict_hints=false.")
        warnings.warn(f"{said}: what is learnt from them may be to copy it.", stacklevel=2)
    figures: dict[str, float] = {
        "hinted": len(hints),
        "missing": counts["missing"],
        "too_long": counts["too_long"],
    }
    alone, tokens = _answered_alone(task, model, hints, meter)
    figures |= {"telling": telling, "right_by_hint_alone": alone}
    return {"hints": hints, "figures": figures, "tokens": tokens}


def draw_hinted(
    policy: LanguageModel,
    task: ReasoningTask,
    problems: Sequence[Problem],
    texts: Sequence[str],
    meter: Meter,
    *,
    keys: Sequence[Sequence[int]],
    temperature: float,
) -> list[Group]:
    """Draw answers to problems that are posed with a hint each; see `draw_groups`."""
    prompts = [posed(policy, task, problem, text) for problem, text in zip(problems, texts, strict=True)]
    return draw_groups(policy, task, problems, meter, keys=keys, temperature=temperature, prompts=prompts)


def _answered_alone(
    task: ReasoningTask, model: LanguageModel, hints: Hints, meter: Meter
) -> tuple[float, int]:
    """Return the share of problems that the model solves when it sees the hint and not the question.

    And the tokens that it drew for that.
    """
    problems = [problem for problem in task.train if problem.id in hints][:LOOKED_AT]
    blind = [model.prompt(task.form.prompt("", chat=model.chat, hint=hints[p.id][0])) for p in problems]
    requests = [
        Request(prompt=text, key=0, max_tokens=task.room(problem), temperature=0.0, stop=task.stop)
        for text, problem in zip(blind, problems, strict=True)
    ]
    completions = open_sampler(model, meter).sample(requests)
    right = sum(grade == 1 for grade in task.grades(problems, [task.steps(c.text) for c in completions]))
    share = right / len(problems)
    if share > TOO_MANY:
        warnings.warn(
            f"From its hint alone, without the question, the model solves {right} of {len(problems)} "
            "problems: the hints hold the answers, and what is learnt from them may be to copy.",
            stacklevel=2,
        )
    return share, sum(len(completion.tokens) for completion in completions)
