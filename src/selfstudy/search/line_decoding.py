"""Language models in the search over lines: drawing completions, scoring them, answering questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from selfstudy.core.budget import Meter
from selfstudy.core.random import derive, stream_key
from selfstudy.models.language.backends import Policy, open_sampler, require_continuation
from selfstudy.models.language.sampling import Request
from selfstudy.search.line_trees import Lines, LineSearch, LineTrees, Score, State, grow_lines
from selfstudy.search.reasoning import SEPARATOR, Steps, Values, posed
from selfstudy.search.solvers import LOCKSTEP, Solver

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


class LineDomain:
    """Draws whole solutions from their beginnings.

    Args:
        task: says how problems are posed, and where solutions end.
        problems: what the indices of the states refer to.
        policy: draws.
        meter: counts tokens.
        temperature: of the draws.

    Attributes:
        empty: how many solutions without any line were drawn.
        tokens: how many were drawn for each problem.
    """

    def __init__(
        self,
        task: ReasoningTask,
        problems: Sequence[Problem],
        policy: Policy,
        meter: Meter,
        temperature: float,
    ) -> None:
        require_continuation(policy)
        self.task, self.problems, self.policy, self.meter = task, problems, policy, meter
        self.temperature, self.empty, self.tokens = temperature, 0, [0] * len(problems)
        self.prompts = [posed(policy, task, problem) for problem in problems]
        self._sampler = open_sampler(policy, meter, remember=True)
        self._lengths: dict[str, int] = {}

    def draw(self, states: Sequence[State], n: int, keys: np.ndarray) -> list[list[Lines]]:
        """Draw `n` completions of each state: the lines from there to the end."""
        streams = derive(np.asarray(keys)[:, None], np.arange(n)).tolist()
        rooms = self._rooms(states)
        requests = [
            Request(
                prompt=self.prompts[p] + "".join(line + SEPARATOR for line in lines),
                key=key,
                max_tokens=room,
                temperature=self.temperature,
                stop=self.task.stop,
            )
            for (p, lines), room, row in zip(states, rooms, streams, strict=True)
            for key in row
        ]
        completions = self._sampler.sample(requests)
        for (p, _), completion in zip(
            (state for state in states for _ in range(n)), completions, strict=True
        ):
            self.tokens[p] += len(completion.tokens)
        texts = iter(completions)
        drawn = [[self._lines(next(texts).text) for _ in range(n)] for _ in states]
        whole = [(*lines, *rest) for (_, lines), row in zip(states, drawn, strict=True) for rest in row]
        self.empty += whole.count(())
        return drawn

    def _rooms(self, states: Sequence[State]) -> list[int]:
        """Return how many tokens are left to each state."""
        new = list({line for _, lines in states for line in lines} - self._lengths.keys())
        tokens = self.policy.encode_all([line + SEPARATOR for line in new], begins=False)
        self._lengths.update(zip(new, map(len, tokens), strict=True))
        return [
            max(0, self.task.room(self.problems[p]) - sum(self._lengths[line] for line in lines))
            for p, lines in states
        ]

    def _lines(self, text: str) -> Lines:
        lines, closing = self.task.steps(text), self.task.form.closing
        ends = [i for i, line in enumerate(lines) if closing and line.strip() == closing]
        return lines[: ends[0] + 1] if ends else lines

    def graded(self, states: Sequence[State]) -> np.ndarray:
        """Return the grades of whole solutions by the task's verifier; one without a line gets 0."""
        asked = [(self.problems[p], lines) for p, lines in states if lines]
        grades = iter(self.task.grades([p for p, _ in asked], [lines for _, lines in asked]) if asked else [])
        return np.array([next(grades) if lines else 0.0 for _, lines in states])

    def valued(self, value: Values) -> Score:
        """Return the score by a value model, which reads what a text adds to one that it has read."""
        reader = value.remembering()
        return lambda states: reader.values([(self.prompts[p], lines) for p, lines in states], self.meter)


def line_solver(
    policy: Policy,
    task: ReasoningTask,
    value: Values,
    settings: LineSearch,
    *,
    seed: int,
    temperature: float,
    outcome: bool = False,
) -> Solver:
    """Answer each problem by the drawn solution that a value model scores highest (VM-MCTS); no test is run.

    Args:
        policy: draws solutions.
        task: splits texts; its verifier is never asked.
        value: scores beginnings and whole solutions.
        settings: of the search; `iterations * samples` solutions are drawn at most.
        seed: root of the random streams.
        temperature: of the draws.
        outcome: `value` knows whole solutions only (ORM-MCTS): its scores stand in for rewards, and
            beginnings are not scored.
    """
    require_continuation(policy)

    def search(problems: Sequence[Problem], meter: Meter) -> LineTrees:
        domain = LineDomain(task, problems, policy, meter, temperature)
        score = domain.valued(value)
        keys = np.array([stream_key(seed, "lines", problem.id) for problem in problems], dtype=np.uint64)
        return grow_lines(
            len(problems), settings, keys, draw=domain.draw, score=score, assess=None if outcome else score
        )

    def solve(problems: Sequence[Problem], meter: Meter) -> list[Steps]:
        solutions: list[Steps] = []
        for start in range(0, len(problems), LOCKSTEP):
            trees = search(problems[start : start + LOCKSTEP], meter)
            solutions += [trees.best(tree) for tree in range(len(trees.forest))]
        return solutions

    return solve


def collect_trees(
    policy: Policy,
    task: ReasoningTask,
    problems: Sequence[Problem],
    settings: LineSearch,
    meter: Meter,
    *,
    keys: Sequence[int],
    temperature: float,
    check: Callable[[], None] = lambda: None,
) -> tuple[LineTrees, LineDomain]:
    """Grow trees over training problems, rewarded by the task's verifier.

    Args:
        policy: draws solutions.
        task: its verifier grades every solution, and is charged.
        problems: searched in lockstep.
        settings: of the search.
        meter: counts tokens.
        keys: one stream for each problem.
        temperature: of the draws.
        check: called before every iteration.

    Returns:
        The trees, and the domain with its counts.
    """
    domain = LineDomain(task, problems, policy, meter, temperature)
    streams = np.array(keys, dtype=np.uint64)
    trees = grow_lines(len(problems), settings, streams, draw=domain.draw, score=domain.graded, check=check)
    return trees, domain
