"""Win rates of models against each other: on the same prompts, in both orders, and at equal lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from selfstudy.core.run import Run
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rollouts import draw_groups
from selfstudy.signals.judges import Contest, Judge, symmetric

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


def head_to_head(
    problems: Sequence[Problem], first: Sequence[str], second: Sequence[str], judge: Judge
) -> np.ndarray:
    """Return for each problem the probability that the first output is better, [P]; 1/2 for equals.

    Args:
        problems: P of them.
        first: an output for each.
        second: the other's.
        judge: is asked in both orders.
    """
    pairs = list(zip(problems, first, second, strict=True))
    there = judge([Contest(problem, (a, b)) for problem, a, b in pairs])
    back = judge([Contest(problem, (b, a)) for problem, a, b in pairs])
    return np.array([(_first(x) + 1 - _first(y)) / 2 for x, y in zip(there, back, strict=True)])


def _first(found: np.ndarray) -> float:
    if found.ndim == 1:
        return float(np.sign(found[0] - found[1]) + 1) / 2
    return float(symmetric(found)[0, 1])


def tournament(
    problems: Sequence[Problem], outputs: Mapping[str, Sequence[str]], judge: Judge
) -> dict[tuple[str, str], np.ndarray]:
    """Return the wins [P] of every two contestants, by (first, second), both ways round.

    Args:
        problems: P of them.
        outputs: by contestant, an output for each problem.
        judge: compares.
    """
    wins = {}
    for a, b in combinations(outputs, 2):
        wins[a, b] = head_to_head(problems, outputs[a], outputs[b], judge)
        wins[b, a] = 1 - wins[a, b]
    return wins


def outputs_of(
    model: LanguageModel,
    task: ReasoningTask,
    problems: Sequence[Problem],
    run: Run,
    temperature: float,
    batch: int = 64,
) -> list[dict[str, Any]]:
    """Return an output to each problem for a `duel`: its `text`, and how many `tokens` were drawn.

    Every model draws with the same random numbers. Recorded in batches; a budget that ends leaves the rest
    out.

    Args:
        model: draws.
        task: says how problems are posed.
        problems: P of them.
        run: streams, records and meter.
        temperature: of the draws.
        batch: problems at once.
    """

    def draw(chunk: Sequence[Problem]) -> list[dict[str, Any]]:
        keys = [[run.key("duel", problem.id)] for problem in chunk]
        groups = draw_groups(model, task, chunk, run.meter, keys=keys, temperature=temperature)
        return [{"text": one.text, "tokens": len(one.tokens)} for group in groups for one in group.answers]

    return run.map_batches("duel", problems, batch, draw)


def duel(
    first: LanguageModel,
    theirs: Sequence[Mapping[str, Any]],
    task: ReasoningTask,
    problems: Sequence[Problem],
    judge: Judge,
    run: Run,
    temperature: float,
    batch: int = 64,
) -> list[dict[str, Any]]:
    """Return for each problem the `win` of a model's output over the other's, and the `lengths` of both.

    Lengths are in tokens; `tokens` are those drawn here. Recorded in batches; a budget that ends leaves the
    rest out.

    Args:
        first: the model.
        theirs: the other's `outputs_of` these problems.
        task: says how problems are posed.
        problems: P of them.
        judge: compares the two.
        run: streams, records and meter.
        temperature: of the draws.
        batch: problems at once.
    """

    def compare(chunk: Sequence[tuple[Problem, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        asked, others = zip(*chunk, strict=True)
        keys = [[run.key("duel", problem.id)] for problem in asked]
        groups = draw_groups(first, task, asked, run.meter, keys=keys, temperature=temperature)
        answers = [group.answers[0] for group in groups]
        wins = head_to_head(asked, [one.text for one in answers], [one["text"] for one in others], judge)
        return [
            {"win": win, "lengths": [len(ours.tokens), other["tokens"]], "tokens": len(ours.tokens)}
            for win, ours, other in zip(wins.tolist(), answers, others, strict=True)
        ]

    return run.map_batches("duel", list(zip(problems, theirs, strict=True)), batch, compare)


def length_controlled(wins: np.ndarray, first: Sequence[float], second: Sequence[float]) -> float:
    """Return the win rate that is left at equal lengths (Dubois et al. 2024, arXiv 2404.04475).

    A logistic regression of the wins on tanh of the standardised difference of lengths; the rate is what it
    says where that difference is 0. The term for the difficulty of each prompt is left out. Swapped
    contestants have one less the rate.

    Args:
        wins: [P] of the first.
        first: lengths of its outputs.
        second: lengths of the other's.
    """
    from sklearn.linear_model import LogisticRegression

    wins = np.asarray(wins, dtype=float)
    if wins.min() == wins.max():
        return float(wins[0])
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    spread = float(np.sqrt(np.mean(difference**2)))
    feature = np.tanh(difference / spread) if spread else difference
    # A win of 0.7 is a win of weight 0.7 and a loss of weight 0.3.
    rows = np.concatenate((feature, feature))[:, None]
    outcomes = np.concatenate((np.ones(len(wins)), np.zeros(len(wins))))
    fitted = LogisticRegression(C=1e3).fit(rows, outcomes, sample_weight=np.concatenate((wins, 1 - wins)))
    return float(1 / (1 + np.exp(-fitted.intercept_[0])))


def cyclic_share(wins: np.ndarray) -> float:
    """Return the share of triples of outputs, of wins [m, m], that go round: a beats b beats c beats a.

    >>> cyclic_share(np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]))
    1.0
    """
    beats = wins > 0.5
    triples = list(combinations(range(len(wins)), 3))
    round_about = sum(
        (beats[a, b] and beats[b, c] and beats[c, a]) or (beats[b, a] and beats[c, b] and beats[a, c])
        for a, b, c in triples
    )
    return float(round_about / len(triples)) if triples else 0.0
