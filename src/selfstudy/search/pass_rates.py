"""How hard problems are for a policy: the share of its answers to each that are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selfstudy.core.run import Run
from selfstudy.search.solvers import sample_solutions

if TYPE_CHECKING:
    from selfstudy.models.language.backends import Policy
    from selfstudy.tasks.reasoning import Problem, ReasoningTask


def pass_rates(
    policy: Policy,
    task: ReasoningTask,
    run: Run,
    name: str,
    *,
    samples: int,
    temperature: float,
    batch: int,
) -> list[dict[str, Any]]:
    """Return for each training problem {"rate": share of right ones of its answers, "tokens": drawn}.

    Batches are recorded as they are done. Where the budget ends, the problems that were reached are returned.

    Args:
        policy: draws the answers.
        task: verifies them.
        run: streams, records and budget.
        name: names the records and the streams.
        samples: answers to each problem.
        temperature: of the draws.
        batch: problems at once.
    """

    def rate(problems: Sequence[Problem]) -> list[dict[str, Any]]:
        many = [problem for problem in problems for _ in range(samples)]
        keys = [run.key(name, problem.id, i) for problem in problems for i in range(samples)]
        drawn = sample_solutions(policy, task, many, run.meter, keys=keys, temperature=temperature)
        right = [grade == 1 for grade in task.grades(many, [steps for steps, _ in drawn])]
        return [
            {
                "rate": sum(right[i : i + samples]) / samples,
                "tokens": sum(tokens for _, tokens in drawn[i : i + samples]),
            }
            for i in range(0, len(many), samples)
        ]

    return run.map_batches(name, task.train, batch, rate)


def between(rates: Sequence[float], bounds: tuple[float, float]) -> list[int]:
    """Return the indices of the rates that lie strictly between two bounds.

    >>> between([0.0, 0.1, 0.5, 1.0], (0.1, 0.9))
    [2]
    """
    return [i for i, rate in enumerate(rates) if bounds[0] < rate < bounds[1]]
