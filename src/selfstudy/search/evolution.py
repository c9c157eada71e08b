"""Evolution that drops its oldest, with a memory of what was measured, and selection on ever larger tasks.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", arXiv 1802.01548. Whatever
can be written as text, changed at random and measured can be searched with it.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from selfstudy.core.errors import DataError

Candidate = TypeVar("Candidate")
MOST_KNOWN = 10_000  # children in a row that were measured before; then the search has nothing left to try


class Measured(NamedTuple, Generic[Candidate]):
    """A candidate, and how good it is: more is better, minus infinity is nothing."""

    candidate: Candidate
    fitness: float


@dataclass(frozen=True, kw_only=True)
class SearchSpace(Generic[Candidate]):
    """What is searched.

    Attributes:
        mutate: a candidate and a random generator to another candidate, and how many changes that took:
            all but the last of them changed nothing.
        identity: a word that candidates share where they need not both be measured; it is also that of a
            candidate read from text.
        write: a candidate as text.
        read: the candidate that a text writes down.
    """

    mutate: Callable[[Candidate, np.random.Generator], tuple[Candidate, int]]
    identity: Callable[[Candidate], str]
    write: Callable[[Candidate], str]
    read: Callable[[str], Candidate]


class AgeingEvolution(Generic[Candidate]):
    """A population whose oldest member leaves when a child joins it, be the oldest ever so good.

    The parent of a child is the best of some members drawn at random. A child whose identity was measured
    before joins with what was measured then. The population starts as copies of one candidate.

    Args:
        start: what to start from.
        space: how candidates are changed, told apart and written.
        fitness: measures one.
        stream: a random generator from a name, such as `run.rng`.
        population: members.
        tournament: members that a parent is the best of.
        patience: measured candidates without a better one after which the whole population becomes copies
            of the best so far; None never does.
        remembers: whether what was measured is kept; else every child is measured, also one that is as its
            parent.

    Raises:
        DataError: nothing can be said of `start`: it measures minus infinity or no number.
    """

    def __init__(
        self,
        start: Candidate,
        space: SearchSpace[Candidate],
        fitness: Callable[[Candidate], float],
        stream: Callable[..., np.random.Generator],
        *,
        population: int = 50,
        tournament: int = 10,
        patience: int | None = None,
        remembers: bool = True,
    ) -> None:
        self.space, self._fitness, self._stream = space, fitness, stream
        self.tournament, self.patience, self._remembers = tournament, patience, remembers
        first = Measured(start, fitness(start))
        if not math.isfinite(first.fitness):
            raise DataError(f"The search cannot start: what it starts from measures {first.fitness}.")
        self.members: deque[Measured[Candidate]] = deque([first] * population, maxlen=population)
        self.known: dict[str, Measured[Candidate]] = {space.identity(start): first}
        self.best, self._since_best = first, 0
        self.counts = {"measured": 1, "children": 0, "known": 0, "unchanged": 0, "rounds": 1}

    def step(self) -> Measured[Candidate]:
        """Make children until one is not known, measure it and return it.

        Raises:
            DataError: thousands of children in a row were known.
        """
        for _ in range(MOST_KNOWN):
            rng = self._stream("child", self.counts["children"])
            child, changes = self.space.mutate(self._parent(rng), rng)
            identity = self.space.identity(child)
            self.counts["children"] += 1
            self.counts["unchanged"] += changes - 1
            if self._remembers and identity in self.known:
                self.counts["known"] += 1
                self.members.append(Measured(child, self.known[identity].fitness))
                continue
            return self._join(identity, child)
        raise DataError(
            f"{MOST_KNOWN:,} children in a row were known before: the search has come to its end."
        )

    def _parent(self, rng: np.random.Generator) -> Candidate:
        drawn = rng.choice(len(self.members), size=min(self.tournament, len(self.members)), replace=False)
        return max((self.members[int(i)] for i in drawn), key=lambda member: member.fitness).candidate

    def _join(self, identity: str, child: Candidate) -> Measured[Candidate]:
        found = Measured(child, _number(self._fitness(child)))
        self.counts["measured"] += 1
        self.members.append(found)
        self.known[identity] = found
        self._since_best += 1
        if found.fitness > self.best.fitness:
            self.best, self._since_best = found, 0
        if self.patience and self._since_best >= self.patience:
            self.members.extend([self.best] * len(self.members))
            self.counts["rounds"] += 1
            self._since_best = 0
        return found

    def top(self, count: int) -> list[Measured[Candidate]]:
        """Return the best that were measured, no two of one identity."""
        return sorted(self.known.values(), key=lambda found: -found.fitness)[:count]

    @property
    def avoided(self) -> float:
        """The share of all changed candidates that needed no measurement of their own."""
        saved = self.counts["known"] + self.counts["unchanged"]
        return saved / max(1, saved + self.counts["measured"] - 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the population, all that is known, and the counts."""
        return {
            "members": [self._written(member) for member in self.members],
            "known": {identity: self._written(found) for identity, found in self.known.items()},
            "best": self._written(self.best),
            "since_best": self._since_best,
            "counts": dict(self.counts),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.members.clear()
        self.members.extend(map(self._read, state_dict["members"]))
        self.known = {identity: self._read(found) for identity, found in state_dict["known"].items()}
        self.best, self._since_best = self._read(state_dict["best"]), state_dict["since_best"]
        self.counts = dict(state_dict["counts"])

    def _written(self, found: Measured[Candidate]) -> list[Any]:
        finite = found.fitness if math.isfinite(found.fitness) else None
        return [self.space.write(found.candidate), finite]

    def _read(self, written: list[Any]) -> Measured[Candidate]:
        text, fitness = written
        return Measured(self.space.read(text), -math.inf if fitness is None else fitness)


def _number(fitness: float) -> float:
    return fitness if math.isfinite(fitness) else -math.inf


class Stage(NamedTuple, Generic[Candidate]):
    """One stage of a funnel: measures candidates anew, and keeps so many."""

    name: str
    fitness: Callable[[Candidate], float]
    keeps: int


def funnel(
    candidates: Sequence[Candidate], stages: Sequence[Stage[Candidate]]
) -> list[list[Measured[Candidate]]]:
    """Return, for each stage, what it kept, best first; each measures what the one before has kept.

    Where nothing comes through a stage, the best of the stage before is kept, and a warning says so.

    Args:
        candidates: best first.
        stages: in order.
    """
    kept: list[list[Measured[Candidate]]] = []
    left = list(candidates)
    for stage in stages:
        found = [Measured(candidate, _number(stage.fitness(candidate))) for candidate in left]
        alive = sorted((f for f in found if math.isfinite(f.fitness)), key=lambda f: -f.fitness)
        if not alive:
            warnings.warn(
                f"No candidate comes through the stage {stage.name!r}; the best of the stage before is kept.",
                stacklevel=2,
            )
            alive = found[:1]
        kept.append(alive[: stage.keeps])
        left = [member.candidate for member in kept[-1]]
    return kept
