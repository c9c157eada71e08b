"""Ageing evolution on numbers: who leaves, who is a parent, what is remembered, and the funnel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import DataError
from selfstudy.core.random import generator
from selfstudy.search.evolution import AgeingEvolution, SearchSpace, Stage, funnel


def stream(*name: object) -> np.random.Generator:
    return generator("evolution", *name)


def nearby(number: int, rng: np.random.Generator) -> tuple[int, int]:
    return number + int(rng.choice([-2, -1, 1, 2])), 1


NUMBERS: SearchSpace[int] = SearchSpace(mutate=nearby, identity=str, write=str, read=int)


def evolution(**fields: Any) -> AgeingEvolution[int]:
    given: dict[str, Any] = {"fitness": lambda number: -abs(number - 40.0), "population": 8, "tournament": 3}
    given |= fields
    space, fitness = given.pop("space", NUMBERS), given.pop("fitness")
    return AgeingEvolution(0, space, fitness, stream, **given)


def test_the_oldest_leaves_even_when_it_is_the_best() -> None:
    """Oracle: of children that get worse and worse, the population is the last ones made."""
    downwards = SearchSpace(mutate=lambda n, rng: (n - 1, 1), identity=str, write=str, read=int)
    search = evolution(space=downwards, population=3, tournament=3, fitness=float)
    seen = [[member.candidate for member in search.members]]
    for _ in range(3):
        search.step()
        seen.append([member.candidate for member in search.members])
    # The parent is always the best of all three; 0 leaves after the third child all the same.
    assert seen[1] == [0, 0, -1]
    assert 0 not in seen[3] and search.best.candidate == 0


def test_the_parent_is_the_best_of_the_drawn() -> None:
    """Oracle: with a tournament of the whole population every parent is its best member."""
    parents = []

    def noted(number: int, rng: np.random.Generator) -> tuple[int, int]:
        parents.append((number, max(member.fitness for member in search.members)))
        return nearby(number, rng)

    search = evolution(space=SearchSpace(mutate=noted, identity=str, write=str, read=int), tournament=8)
    for _ in range(10):
        search.step()
    assert all(-abs(number - 40.0) == best for number, best in parents)


def test_it_finds_the_top() -> None:
    """Oracle: the hill's top is at 40; a tournament of one selects nothing, and is behind at every seed."""
    for seed in range(5):
        best = []
        for tournament in (4, 1):
            search = evolution(tournament=tournament)
            search._stream = lambda *name, seed=seed: stream(seed, *name)
            for _ in range(30):
                search.step()
            best.append(search.best.fitness)
        assert best[0] > best[1] + 3


def test_what_is_known_is_not_measured_again() -> None:
    """Oracle: the measurements are the number of different candidates; each step makes exactly one."""
    measured = []

    def fitness(number: int) -> float:
        measured.append(number)
        return -abs(number - 5.0)

    far = SearchSpace(mutate=lambda n, rng: (int(rng.integers(30)), 1), identity=str, write=str, read=int)
    search = evolution(fitness=fitness, space=far)
    for _ in range(20):
        search.step()
    assert len(measured) == len(set(measured)) == 21 == search.counts["measured"]
    counts = search.counts
    assert counts["children"] == counts["known"] + 20
    assert search.avoided == counts["known"] / (counts["known"] + 20)


def test_without_memory_all_children_are_measured() -> None:
    """Oracle: as many measurements as children."""
    search = evolution(remembers=False)
    for _ in range(20):
        search.step()
    assert search.counts["children"] == 20 and search.counts["known"] == 0 and search.avoided == 0


def test_mutations_that_change_nothing_are_counted() -> None:
    """Oracle: three changes a child, two of which changed nothing."""
    slow = SearchSpace(mutate=lambda n, rng: (n + 1, 3), identity=str, write=str, read=int)
    search = evolution(space=slow)
    search.step()
    assert search.counts["unchanged"] == 2 and search.avoided == 2 / 3


def test_a_new_round_starts_from_the_best() -> None:
    """Oracle: after two candidates without a better one all members are the best."""
    downwards = SearchSpace(mutate=lambda n, rng: (n - 1, 1), identity=str, write=str, read=int)
    search = evolution(space=downwards, fitness=float, patience=2, population=4)
    for _ in range(2):
        search.step()
    assert {member.candidate for member in search.members} == {0} and len(search.members) == 4
    assert search.counts["rounds"] == 2


def test_no_number_is_the_worst() -> None:
    """Oracle: minus infinity, so that it is never the best nor a parent beside others."""
    search = evolution(fitness=lambda number: 0.0 if number == 0 else math.nan)
    found = search.step()
    assert found.fitness == -math.inf and search.best.candidate == 0


def test_a_start_that_measures_nothing_is_refused() -> None:
    """Oracle: the error."""
    with pytest.raises(DataError, match="cannot start"):
        evolution(fitness=lambda number: math.nan)


def test_the_end_of_the_space() -> None:
    """Oracle: a space of two candidates has nothing new after one."""
    two = SearchSpace(mutate=lambda n, rng: (1 - n, 1), identity=str, write=str, read=int)
    search = evolution(space=two)
    search.step()
    with pytest.raises(DataError, match="come to its end"):
        search.step()


def test_a_state_goes_on_as_before() -> None:
    """Oracle: a search that takes over a state makes the same children as the one that went on."""
    first, second = evolution(), evolution()
    for _ in range(10):
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(10):
        assert first.step() == second.step()
    assert first.state_dict() == second.state_dict() and first.top(3) == second.top(3)


def test_funnel_measures_anew_and_keeps_the_best() -> None:
    """Oracle: the order under each stage's own figures, by hand."""
    stages: list[Stage[int]] = [Stage("one", lambda n: -abs(n - 3.0), 2), Stage("two", float, 1)]
    kept = funnel([1, 2, 3, 4, 9], stages)
    assert [[member.candidate for member in stage] for stage in kept] == [[3, 2], [3]]


def test_funnel_without_survivors() -> None:
    """Oracle: the best of the stage before is kept, and the stage is named."""
    stages: list[Stage[int]] = [Stage("one", float, 2), Stage("two", lambda n: math.nan, 1)]
    with pytest.warns(UserWarning, match="'two'"):
        kept = funnel([1, 5, 3], stages)
    assert kept[1][0].candidate == 5
