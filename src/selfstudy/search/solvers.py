"""Ways to answer questions at test time: greedy, votes over samples, and searches over steps.

Each solver takes problems and a meter, and returns the steps of one solution for each problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.random import stream_key
from selfstudy.models.language.backends import Policy, open_sampler, require_continuation
from selfstudy.models.language.sampling import Request
from selfstudy.search.beams import TreeOfThought, tree_of_thought_bfs, tree_of_thought_dfs
from selfstudy.search.best_of import best_of, majority, weighted_vote
from selfstudy.search.mcts import TreeSearch, best_answer, grow
from selfstudy.search.reasoning import ReasoningDomain, Steps, Values, posed
from selfstudy.search.tree import Forest

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

Solver = Callable[[Sequence["Problem"], Meter], list[Steps]]
VOTES = ("majority", "best", "weighted")
LOCKSTEP = 64  # problems searched at once


def sample_solutions(
    policy: Policy,
    task: ReasoningTask,
    problems: Sequence[Problem],
    meter: Meter,
    *,
    keys: Sequence[int],
    temperature: float,
) -> list[tuple[Steps, int]]:
    """Draw one whole solution for each problem (repeat problems for more): its steps and its tokens."""
    completions = open_sampler(policy, meter).sample(
        [
            Request(
                prompt=posed(policy, task, problem),
                key=key,
                max_tokens=task.room(problem),
                temperature=temperature,
                stop=task.stop,
                images=problem.images,
            )
            for problem, key in zip(problems, keys, strict=True)
        ]
    )
    return [(task.steps(completion.text), len(completion.tokens)) for completion in completions]


def greedy_solver(policy: Policy, task: ReasoningTask) -> Solver:
    """Answer each problem with the policy's most likely tokens."""

    def solve(problems: Sequence[Problem], meter: Meter) -> list[Steps]:
        drawn = sample_solutions(policy, task, problems, meter, keys=[0] * len(problems), temperature=0.0)
        return [steps for steps, _ in drawn]

    return solve


def voting_solver(
    policy: Policy,
    task: ReasoningTask,
    *,
    samples: int,
    vote: str,
    seed: int,
    temperature: float,
    value: Values | None = None,
) -> Solver:
    """Answer each problem by a choice among `samples` solutions.

    Args:
        policy: draws the solutions.
        task: extracts answers; its verifier is never asked.
        samples: solutions drawn for each problem.
        seed: root of the random streams.
        temperature: of the draws.
        value: scores whole solutions; needed for "best" and "weighted".
        vote: "majority" (self-consistency), "best" (highest value: Best-of-N) or "weighted" (answers by
            the sum of their values).

    Raises:
        UsageError: another word, or no value model where the choice needs one.
    """
    if vote not in VOTES:
        raise UsageError(f"Unknown vote {vote!r}. {nearest(vote, VOTES)}")
    if value is None and vote != "majority":
        raise UsageError(f"The vote {vote!r} needs a value model; give one, or take 'majority'.")

    def solve(problems: Sequence[Problem], meter: Meter) -> list[Steps]:
        many = [problem for problem in problems for _ in range(samples)]
        keys = [stream_key(seed, "vote", problem.id, i) for problem in problems for i in range(samples)]
        drawn = sample_solutions(policy, task, many, meter, keys=keys, temperature=temperature)
        solutions = [steps for steps, _ in drawn]
        scores = np.zeros(len(many))
        if value is not None:
            prefixes = [
                (posed(policy, task, problem), steps) for problem, steps in zip(many, solutions, strict=True)
            ]
            scores = value.values(prefixes, meter)
        starts = range(0, len(many), samples)
        return [
            _choose(task, problem, solutions[i : i + samples], scores[i : i + samples], vote)
            for problem, i in zip(problems, starts, strict=True)
        ]

    return solve


def _choose(
    task: ReasoningTask, problem: Problem, solutions: Sequence[Steps], scores: np.ndarray, vote: str
) -> Steps:
    answers = [task.answer(steps, problem) for steps in solutions]
    if vote == "best":
        # A solution without an answer is never right, whatever its value.
        return solutions[best_of(np.where([answer is None for answer in answers], -np.inf, scores).tolist())]
    answer = majority(answers) if vote == "majority" else weighted_vote(answers, scores.tolist())
    return solutions[answers.index(answer)]


def tree_solver(
    policy: Policy,
    task: ReasoningTask,
    value: Values,
    settings: TreeSearch | TreeOfThought,
    *,
    seed: int,
    temperature: float,
    depth_first: bool = False,
) -> Solver:
    """Answer each problem by a search over steps: MCTS* in evaluation mode, or Tree of Thoughts.

    The answer is the node that reached the gate, else the leaf of the highest value, finished greedily where
    it is not a whole solution yet.

    Args:
        policy: proposes steps.
        task: splits texts and tells their end; its verifier is never asked.
        value: scores prefixes.
        settings: of MCTS* or of Tree of Thoughts.
        seed: root of the random streams.
        temperature: of the proposals.
        depth_first: Tree of Thoughts goes depth-first.

    Raises:
        UsageError: the policy gives whole answers only.
    """
    require_continuation(policy)

    def search(domain: ReasoningDomain, keys: np.ndarray) -> Forest:
        problems = range(len(keys))
        if isinstance(settings, TreeSearch):
            return grow(domain, problems, settings, keys, collect=False)
        method = tree_of_thought_dfs if depth_first else tree_of_thought_bfs
        return method(domain, problems, settings, keys)

    def solve(problems: Sequence[Problem], meter: Meter) -> list[Steps]:
        solutions: list[Steps] = []
        for start in range(0, len(problems), LOCKSTEP):
            chunk = problems[start : start + LOCKSTEP]
            domain = ReasoningDomain(task, chunk, policy, value, meter, temperature=temperature)
            keys = np.array([stream_key(seed, "tree", problem.id) for problem in chunk], dtype=np.uint64)
            forest = search(domain, keys)
            solutions += domain.finish([forest.state(t, best_answer(forest, t)) for t in range(len(chunk))])
        return solutions

    return solve
