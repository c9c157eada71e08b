"""How often solutions go back, and what it gains: figures on sampled solutions that may contain returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.data.walks import Returns, branches
from selfstudy.evaluation.pass_at_k import majority_at_k
from selfstudy.evaluation.pictures import Picture, bars, line, picture

if TYPE_CHECKING:
    from selfstudy.search.rollouts import Group
    from selfstudy.tasks.reasoning import ReasoningTask

Solutions = Sequence[Sequence[Sequence[str]]]
"""[P][S] the lines of S solutions to each of P problems."""


def count_returns(returns: Returns | None, lines: Sequence[str]) -> int:
    """Return how often a solution goes back."""
    return sum(isinstance(item, int) for item in returns.read(lines)) if returns else 0


def first_branches(returns: Returns | None, solutions: Solutions) -> list[list[tuple[str, ...]]]:
    """Return of each solution the lines before it first goes back; all of them where it does not."""
    found: list[list[tuple[str, ...]]] = []
    for row in solutions:
        found.append([])
        for lines in row:
            walk = returns.read(lines) if returns else list(lines)
            places = [i for i, item in enumerate(walk) if isinstance(item, int)]
            found[-1].append(tuple(lines[: places[0]] if places else lines))
    return found


def backtracking_figures(
    returns: Returns | None, solutions: Solutions, right: Any, first_right: Any
) -> dict[str, float]:
    """Return figures on going back.

    Args:
        returns: how it is written; None where solutions cannot.
        solutions: [P][S].
        right: [P, S] whether each solution is right.
        first_right: [P, S] whether its first branch alone is.

    Returns:
        pass_at_1; backtracks, the returns per solution; returning, the share of solutions with a return that
        can be followed; first_right, the share whose first branch alone is right; returned_right and
        returned_first_right, the same two rates among solutions that come to another branch by going back
        (nan where there are none).
    """
    right, first_right = np.asarray(right, dtype=bool), np.asarray(first_right, dtype=bool)
    counts, elsewhere = np.zeros(right.shape), np.zeros(right.shape, dtype=bool)
    legal = np.zeros(right.shape, dtype=bool)
    for i, row in enumerate(solutions):
        for j, lines in enumerate(row):
            walk = returns.read(lines) if returns else list(lines)
            counts[i, j] = count_returns(returns, lines)
            followed = branches(walk)
            legal[i, j] = followed is not None and len(followed) > 1
            elsewhere[i, j] = followed is not None and len(set(followed)) > 1
    among = float(elsewhere.sum()) or np.nan
    return {
        "pass_at_1": float(right.mean()),
        "backtracks": float(counts.mean()),
        "returning": float(legal.mean()),
        "first_right": float(first_right.mean()),
        "returned_right": float((right & elsewhere).sum() / among),
        "returned_first_right": float((first_right & elsewhere).sum() / among),
    }


def measured(task: ReasoningTask, groups: Sequence[Group]) -> dict[str, float]:
    """Return `backtracking_figures` of answers to training or validation problems, maj@k and the mean length.

    The task's verifier is asked about each answer, and about the first branch of those that go back.
    """
    solutions = [[answer.steps for answer in group.answers] for group in groups]
    firsts = first_branches(task.form.returns, solutions)
    problems = [group.problem for group in groups for _ in group.answers]
    shape = (len(groups), -1)
    right = np.array(task.grades(problems, [one for row in solutions for one in row])).reshape(shape) == 1
    first = np.array(task.grades(problems, [one for row in firsts for one in row])).reshape(shape) == 1
    answers = [[task.answer(a.steps, a.problem) for a in group.answers] for group in groups]
    lengths = [len(answer.tokens) for group in groups for answer in group.answers]
    figures = backtracking_figures(task.form.returns, solutions, right, first)
    return {
        **{name: value for name, value in figures.items() if not np.isnan(value)},
        "majority": float(majority_at_k(answers, right, right.shape[1]).mean()),
        "length": float(np.mean(lengths)),
    }


def backtracking_pictures(
    stages: Mapping[str, Mapping[str, float]], steps: Sequence[Mapping[str, Any]]
) -> list[Picture]:
    """Return pictures for the report.

    Args:
        stages: figures as made by `measured`, by the name of the stage; without figures no picture.
        steps: lines of the log of learning from reward.
    """
    shown = {name: figures for name, figures in stages.items() if figures}
    pictures = []
    if shown:
        names = {"pass_at_1": "pass@1", "majority": "majority", "first_right": "first branch alone"}
        pictures.append(
            picture(
                "Right answers by stage",
                [bars(label, shown, [one[name] for one in shown.values()]) for name, label in names.items()],
                y="share of validation answers",
                note="What going back gains is the distance of pass@1 from the first branch alone.",
            )
        )
    if steps:
        at = [one["step"] for one in steps]
        for name, label in (("length", "tokens of an answer"), ("backtracks", "returns of an answer")):
            curve = line(label, at, [one.get(name, float("nan")) for one in steps])
            pictures.append(picture(f"Learning from reward: {label}", [curve], x="step", y=label))
    return pictures
