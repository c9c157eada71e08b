"""Ways to answer questions at test time, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from selfstudy.core.errors import UsageError, nearest
from selfstudy.models.language.backends import Policy
from selfstudy.search.beams import TreeOfThought
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.reasoning import Values
from selfstudy.search.solvers import VOTES, Solver, greedy_solver, tree_solver, voting_solver

if TYPE_CHECKING:
    from selfstudy.tasks.reasoning import ReasoningTask


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How problems are answered."""

    solver: str = "greedy"
    """greedy, majority (self-consistency), best (of several, by value), weighted (votes by value), mcts
    (MCTS*) or tot (Tree of Thoughts, breadth-first)."""
    samples: int = 8
    """Solutions drawn for each problem by majority, best and weighted."""
    temperature: float | None = None
    """Of all but greedy; None is what suits the task."""
    search: TreeSearch = field(default_factory=lambda: TreeSearch(iterations=50))
    """Settings of mcts."""
    thought: TreeOfThought = field(default_factory=TreeOfThought)
    """Settings of tot."""
    batch: int = 64
    """Problems answered at once, and recorded together."""

    def validate(self) -> None:
        """Raise a `UsageError` for a setting that cannot be."""
        if self.solver not in SOLVERS:
            raise UsageError(f"Unknown solver {self.solver!r}. {nearest(self.solver, SOLVERS)}")
        for name in ("samples", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.temperature is not None and not self.temperature > 0:
            raise UsageError(
                f"temperature is {self.temperature}; it must be above 0. For the likeliest tokens take the "
                "solver greedy."
            )
        self.search.validate()
        self.thought.validate()

    @property
    def needs_value(self) -> bool:
        """Whether a value model must be given."""
        return self.solver not in VALUELESS

    @property
    def title(self) -> str:
        """The solver with its size, for tables."""
        if self.solver in VOTES:
            return f"{self.solver} of {self.samples}"
        if self.solver == "mcts":
            limit = self.search.iterations
            return f"mcts, {self.search.seconds:g} s" if limit is None else f"mcts, {limit} iterations"
        return self.solver


Maker = Callable[[Answering, Policy, "ReasoningTask", Values | None, int], Solver]


def _greedy(_: Answering, policy: Policy, task: ReasoningTask, __: Values | None, ___: int) -> Solver:
    return greedy_solver(policy, task)


def _votes(
    settings: Answering, policy: Policy, task: ReasoningTask, value: Values | None, seed: int
) -> Solver:
    return voting_solver(
        policy,
        task,
        samples=settings.samples,
        vote=settings.solver,
        seed=seed,
        temperature=_temperature(settings, task),
        value=value if settings.needs_value else None,
    )


def _searched(
    settings: Answering, policy: Policy, task: ReasoningTask, value: Values | None, seed: int
) -> Solver:
    assert value is not None, "make_solver has refused that"
    of_search = settings.search if settings.solver == "mcts" else settings.thought
    return tree_solver(policy, task, value, of_search, seed=seed, temperature=_temperature(settings, task))


SOLVERS: dict[str, Maker] = {
    "greedy": _greedy,
    **dict.fromkeys(VOTES, _votes),
    "mcts": _searched,
    "tot": _searched,
}
VALUELESS = ("greedy", "majority")


def make_solver(
    settings: Answering, policy: Policy, task: ReasoningTask, value: Values | None, *, seed: int
) -> Solver:
    """Return the solver that `settings` name.

    Args:
        settings: which solver, and how large.
        policy: draws solutions or steps.
        task: splits texts and tells their end; its verifier is never asked.
        value: scores partial solutions; needed by best, weighted, mcts and tot, unused by the others.
        seed: root of the random streams.

    Raises:
        UsageError: settings that cannot be, no value model where one is needed, or a search with a policy
            that gives whole answers only.
    """
    settings.validate()
    if settings.needs_value and value is None:
        raise UsageError(
            f"The solver {settings.solver!r} needs a value model, and none comes with {policy.name!r}. Name "
            "the folder of one, such as --value runs/first/value of a run of rest-mcts, or take greedy or "
            "majority."
        )
    return SOLVERS[settings.solver](settings, policy, task, value, seed)


def _temperature(settings: Answering, task: ReasoningTask) -> float:
    return task.temperature if settings.temperature is None else settings.temperature
