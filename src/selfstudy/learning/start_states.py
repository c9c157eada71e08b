"""Where rollouts begin: problems whose answers differ, and beginnings of their best solutions (ReST-GRPO).

Zhoubian, Zhang, Tang 2025, arXiv 2508.19576.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.fine_tuning import Example
from selfstudy.learning.loops import check_positive
from selfstudy.learning.preferences import Pair
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.reasoning import SEPARATOR


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """Which problems are trained on, and from which states answers to them begin."""

    starts: Literal["drawn", "all", "none"] = "drawn"
    """Beginnings of the best solution: some drawn, all, or none. None keeps every problem as it is, without
    any sampling before: plain GRPO."""
    samples: int = 16
    """Answers drawn to each problem before (n)."""
    temperature: float = 1.0
    """Of these answers (0.7 in the authors' code)."""
    least_spread: float = 0.05
    """Problems whose rewards have a smaller standard deviation, of the population, are left out (sigma)."""
    least_reward: float = 0.9
    """Beginnings are taken of a best solution with at least this reward."""
    ratio: float = 0.5
    """Beginnings drawn for each line of the best solution, rounded up."""
    count: int | None = None
    """Beginnings drawn for each problem, in place of `ratio`."""
    decay: float = 0.95
    """A beginning of i lines is drawn with a chance proportional to the (i - 1)-th power of this (alpha)."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        check_positive(self, temperature=0, ratio=0, count=0)
        if self.samples < 2:
            raise UsageError(f"Assembly.samples is {self.samples}; rewards of one answer have no spread.")
        if not 0 <= self.least_spread < 0.5 or not 0 <= self.least_reward <= 1 or not 0 < self.decay <= 1:
            raise UsageError(
                "Assembly.least-spread must be 0 to 0.5, least-reward 0 to 1, decay above 0 and at most 1."
            )


class Sampled(NamedTuple):
    """The answers to one problem."""

    problem: str
    """Its id."""
    solutions: Sequence[Sequence[str]]
    """Lines of each answer."""
    rewards: Sequence[float]
    """Of each, in [0, 1]."""


class Start(NamedTuple):
    """A problem, and the lines of a solution that answers begin after."""

    problem: str
    """Its id."""
    solution: tuple[str, ...] = ()
    """All lines of the solution."""
    begun: int = 0
    """So many of them are the beginning."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the beginning."""
        return self.solution[: self.begun]


def assemble(
    samples: Sequence[Sampled], settings: Assembly, rng: Callable[[str], np.random.Generator]
) -> list[Start]:
    """Return where rollouts begin. Beginnings are drawn with replacement: one drawn twice stands there twice.

    Args:
        samples: of all problems.
        settings: see there.
        rng: the stream of a problem, by its id.

    Raises:
        DataError: no problem has rewards that differ enough, or a reward is not in [0, 1].
    """
    starts: list[Start] = []
    for problem, solutions, given in samples:
        rewards = np.asarray(given, dtype=np.float64)
        if not ((rewards >= 0) & (rewards <= 1)).all():
            raise DataError(
                f"The answers to problem {problem!r} have rewards from {rewards.min():g} to "
                f"{rewards.max():g}. A reward is the share of tests that an answer passes, from 0 to 1."
            )
        if rewards.std() < settings.least_spread:
            continue
        starts.append(Start(problem))
        best = int(rewards.argmax())
        if rewards[best] >= settings.least_reward:
            lines = tuple(solutions[best])
            starts += [Start(problem, lines, i) for i in beginnings(len(lines), settings, rng(problem))]
    if samples and not starts:
        raise DataError(_all_alike(samples, settings))
    return starts


def beginnings(lines: int, settings: Assembly, rng: np.random.Generator) -> list[int]:
    """Return how many lines each drawn beginning of a solution of so many lines has."""
    if settings.starts == "all":
        return list(range(1, lines + 1))
    if settings.starts == "none" or not lines:
        return []
    count = settings.count or math.ceil(settings.ratio * lines)
    weights = settings.decay ** np.arange(lines)
    return (1 + rng.choice(lines, size=count, p=weights / weights.sum())).tolist()


def start_texts(policy: LanguageModel, prompts: Sequence[str], starts: Sequence[Start]) -> list[str | None]:
    """Return the text of each start state, None where it leaves no room or cannot be had.

    A text ends with a line break, or before it where a token goes on beyond it: its tokens must begin those
    of the whole solution, or the policy would go on from what it never wrote.

    Args:
        policy: whose tokens count.
        prompts: the posed problem of each start state.
        starts: the start states.
    """
    wholes = policy.encode_all(
        [prompt + written(start.solution) for prompt, start in zip(prompts, starts, strict=True)]
    )

    def matching(texts: Sequence[str], which: Sequence[int]) -> dict[int, tuple[str, int]]:
        tokens = policy.encode_all([texts[i] for i in which])
        return {
            i: (texts[i], len(ids))
            for i, ids in zip(which, tokens, strict=True)
            if ids == wholes[i][: len(ids)]
        }

    texts = [prompt + written(start.lines) for prompt, start in zip(prompts, starts, strict=True)]
    found = matching(texts, range(len(texts)))
    others = [i for i, start in enumerate(starts) if i not in found and start.begun]
    found |= matching([text.removesuffix(SEPARATOR) for text in texts], others)
    fitting = {i: text for i, (text, length) in found.items() if length < policy.context}
    return [fitting.get(i) for i in range(len(texts))]


def best_over_worst(prompts: Sequence[str], samples: Sequence[Sampled]) -> list[Pair]:
    """Return the best answer to each problem with its worst, where their rewards differ (ReST-DPO)."""
    pairs = []
    for prompt, (_, solutions, rewards) in zip(prompts, samples, strict=True):
        best, worst = int(np.argmax(rewards)), int(np.argmin(rewards))
        if rewards[best] > rewards[worst]:
            pairs.append(Pair(prompt, written(solutions[best]), written(solutions[worst])))
    return pairs


def good_answers(prompts: Sequence[str], samples: Sequence[Sampled], least: float) -> list[Example]:
    """Return every answer with at least this reward, to fine-tune on (ReST-SFT)."""
    return [
        Example(prompt, written(lines))
        for prompt, (_, solutions, rewards) in zip(prompts, samples, strict=True)
        for lines, reward in zip(solutions, rewards, strict=True)
        if reward >= least and lines
    ]


def written(lines: Sequence[str]) -> str:
    """Return lines as text, each with its line break."""
    return "".join(line + SEPARATOR for line in lines)


def spread(rewards: np.ndarray) -> float:
    """Return the mean over groups of the standard deviation, of the population, of rewards [P, G]."""
    return float(np.asarray(rewards, dtype=np.float64).std(1).mean())


def _all_alike(samples: Sequence[Sampled], settings: Assembly) -> str:
    means = np.array([float(np.mean(sample.rewards)) for sample in samples])
    counts, edges = np.histogram(means, bins=10, range=(0, 1))
    histogram = ", ".join(
        f"{count} from {low:.1f} to {high:.1f}"
        for count, low, high in zip(counts.tolist(), edges[:-1], edges[1:], strict=True)
        if count
    )
    return (
        f"The rewards of the answers to each of {len(samples)} problems have a standard deviation below "
        f"{settings.least_spread:g}, so nothing can be learned from them. Mean rewards of the problems: "
        f"{histogram}. Raise the temperature or the number of answers (--assembly.samples), or take easier "
        "problems where the means are near 0 and harder ones where they are near 1."
    )
