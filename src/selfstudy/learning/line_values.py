"""What a value model learns from trees over lines (ReST-RL, Zhoubian et al. 2025, arXiv 2508.19576)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.learning.values import ValueSample
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.line_trees import LineTrees
from selfstudy.search.reasoning import posed

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import ReasoningTask


def line_value_samples(
    task: ReasoningTask, policy: LanguageModel, trees: Sequence[dict[str, Any]], *, beginnings: bool = True
) -> list[ValueSample]:
    """Return the value targets of trees: solutions with their rewards, expanded beginnings with their means.

    A solution that was drawn several times counts as often. States that were not expanded give none.

    Args:
        task: says how problems are posed.
        policy: that drew.
        trees: records of a problem's id and of `LineTrees.to_json`.
        beginnings: False leaves them out: what is fitted then knows whole solutions only (ORM).
    """
    prompts = {problem.id: posed(policy, task, problem) for problem in task.train}
    samples = []
    for one in trees:
        prompt, tree = prompts[one["problem"]], LineTrees.from_json(one["tree"])
        samples += [sample(prompt, done.lines, done.score) for done in tree.completions[0] if done.lines]
        for node in np.flatnonzero(tree.forest.expanded[0]) if beginnings else ():
            _, lines = tree.state(0, int(node))
            if lines:
                samples.append(sample(prompt, lines, float(tree.forest.value[0, node])))
    return samples


def sample(prompt: str, lines: Sequence[str], value: float) -> ValueSample:
    """Return a text with a target at its end."""
    return ValueSample(prompt, tuple(lines), (*[math.nan] * (len(lines) - 1), value))
