"""The search for an update rule: evolution on cheap trainings, selection on larger ones, simplification."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import BudgetSpent, DataError, UsageError, nearest
from selfstudy.core.files import read_json, write_json
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.search.evolution import AgeingEvolution, Measured, SearchSpace, Stage, funnel
from selfstudy.search.program_mutation import mutate_until_new
from selfstudy.search.proxy_tasks import ProxyTask, fitness_of
from selfstudy.search.simplification import simplified
from selfstudy.search.update_programs import KNOWN, UpdateProgram, parse_program, program_hash

FILE = "rule.json"
KEPT = 10  # of the search, for the first stage of the funnel
FUNNEL_SEEDS = (1, 2, 3)
SHORTENED = 60  # shorter programs that are tried at most


class FoundRule(NamedTuple):
    """What a search has found.

    Attributes:
        best_program: what came through the funnel first.
        simplified_program: the same in fewer lines, if the last stage cannot tell them apart; where nothing
            came through that stage, the best program.
        history: the best loss so far, after each trained program.
        cache_stats: how many programs were trained, children made, of them known, and mutations that changed
            nothing; "avoided" is the share of mutated programs that were not trained.
        funnel: for each stage the loss of what it kept, best first; none where nothing came through it.
    """

    best_program: UpdateProgram
    simplified_program: UpdateProgram
    history: list[float]
    cache_stats: dict[str, float]
    funnel: list[list[float]]

    def save(self, folder: Path) -> None:
        """Write it as rule.json."""
        programs = {
            "best_program": str(self.best_program),
            "simplified_program": str(self.simplified_program),
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, {**self._asdict(), **programs})

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote."""
        content = read_json(Path(folder) / FILE)
        programs = {name: parse_program(content[name]) for name in ("best_program", "simplified_program")}
        return cls(**{**content, **programs})


def program_space(longest: int = 30) -> SearchSpace[UpdateProgram]:
    """Return the space of update programs of at most `longest` lines."""
    mutate = partial(mutate_until_new, longest=longest)
    return SearchSpace(mutate=mutate, identity=program_hash, write=str, read=parse_program)


def search_update_rule(
    proxy_tasks: Sequence[ProxyTask],
    funnel_tasks: Sequence[Sequence[ProxyTask]],
    budget: int = 1000,
    population: int = 50,
    tournament: int = 10,
    warm_start: str = "adamw",
    seed: int = 0,
    *,
    draws: int = 1,
    patience: int | None = None,
    longest: int = 30,
    run: Run | None = None,
) -> FoundRule:
    """Return an update rule that evolution finds; the mean loss over the tasks is made small.

    Args:
        proxy_tasks: cheap ones, on which each program is trained `draws` times.
        funnel_tasks: for each stage its tasks, each larger than the one before; trained with three seeds.
        budget: programs to train on the proxies.
        population: members of the population.
        tournament: members that a parent is the best of.
        warm_start: "adamw" or "lion", or the text of a program.
        seed: of the draws; where there is a `run`, its seed counts besides.
        draws: seeds of the trainings on a proxy, whose mean loss counts.
        patience: trained programs without a better one after which a new round starts from the best.
        longest: lines that a program may have.
        run: within a stage of its own; logs each program, and is charged for each training.

    Raises:
        UsageError: no such program to start from, or numbers that cannot be right.
        DataError: the program to start from does not train on a proxy.
    """
    if min(budget, population, tournament, draws) < 1 or not proxy_tasks:
        raise UsageError(
            "A search needs a proxy task, and a budget, population, tournament and draws of at least 1."
        )
    start = starting_program(warm_start)
    for task in proxy_tasks:
        if not math.isfinite(task.loss(start, 0)):
            raise DataError(
                f"The program that the search starts from does not train on {task.name!r}: its loss is no "
                "number. Scale the inputs, or start from a program with a smaller rate."
            )
    stream = partial(run.rng if run else generator, "update rule", seed)
    evolution = AgeingEvolution(
        start,
        program_space(longest),
        fitness_of(list(proxy_tasks), tuple(range(draws))),
        stream,
        population=population,
        tournament=tournament,
        patience=patience,
    )
    history = [-evolution.best.fitness]
    _evolve(evolution, history, budget, training_cost(proxy_tasks, draws), run)
    return _selected(evolution, history, funnel_tasks, run)


def starting_program(warm_start: str) -> UpdateProgram:
    """Return a program by name or from its text.

    Raises:
        UsageError: neither.
    """
    if warm_start in KNOWN:
        return KNOWN[warm_start]
    if "\n" not in warm_start:
        raise UsageError(
            f"warm_start is {warm_start!r}, which is no update program. {nearest(warm_start, KNOWN)}"
        )
    return parse_program(warm_start)


def training_cost(tasks: Sequence[ProxyTask], draws: int) -> dict[str, float]:
    """Return what the trainings of one program spend, by budget unit: `draws` on each task."""
    return {
        "samples": float(draws * sum(task.samples for task in tasks)),
        "flops": draws * sum(task.flops for task in tasks),
    }


def search_cost(
    proxy_tasks: Sequence[ProxyTask],
    funnel_tasks: Sequence[Sequence[ProxyTask]],
    budget: int,
    draws: int = 1,
) -> dict[str, float]:
    """Return what a search spends at most, by budget unit."""
    cost = {unit: budget * amount for unit, amount in training_cost(proxy_tasks, draws).items()}
    for place, tasks in enumerate(funnel_tasks):
        programs = (KEPT if place == 0 else 3) + (SHORTENED if place == len(funnel_tasks) - 1 else 0)
        for unit, amount in training_cost(tasks, len(FUNNEL_SEEDS)).items():
            cost[unit] += programs * amount
    return cost


class _History:
    """The best loss after each program, as a state."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def state_dict(self) -> dict[str, Any]:
        return {"values": list(self.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.values[:] = state_dict["values"]


def _evolve(
    evolution: AgeingEvolution[UpdateProgram],
    history: list[float],
    budget: int,
    cost: dict[str, float],
    run: Run | None,
) -> None:
    state: dict[str, Stateful] = {"evolution": evolution, "history": _History(history)}
    steps = run.steps(budget, state=state, desc="evolution", cost=cost) if run else range(budget)
    for step in steps:
        found = evolution.step()
        history.append(-evolution.best.fitness)
        if run:
            program = str(found.candidate) if found is evolution.best else None
            told = -found.fitness if math.isfinite(found.fitness) else None
            run.log(step=step, tried=told, best=history[-1], program=program)


def _selected(
    evolution: AgeingEvolution[UpdateProgram],
    history: list[float],
    funnel_tasks: Sequence[Sequence[ProxyTask]],
    run: Run | None,
) -> FoundRule:
    """Take the best through the funnel and simplify what comes out; ties go to the better on the proxy.

    Where the budget ends on the way, what was best until then is taken.
    """
    losses = [charged_losses(tasks, run) for tasks in funnel_tasks]
    stages = [
        Stage(f"funnel {place}", partial(_fitness, own), _keeps(place, funnel_tasks))
        for place, own in enumerate(losses, start=1)
    ]
    kept: list[list[Measured[UpdateProgram]]] = []
    best = shorter = evolution.best.candidate
    with contextlib.suppress(BudgetSpent):
        kept = funnel([found.candidate for found in evolution.top(KEPT)], stages)
        best = shorter = kept[-1][0].candidate if kept else best
        if kept and math.isfinite(kept[-1][0].fitness):
            shorter = simplified(best, stages[-1].fitness, noise(losses[-1](best)), SHORTENED)
    return FoundRule(
        best_program=best,
        simplified_program=shorter,
        history=history,
        cache_stats={**evolution.counts, "avoided": evolution.avoided},
        funnel=[[-member.fitness for member in stage if math.isfinite(member.fitness)] for stage in kept],
    )


def _fitness(losses: Callable[[UpdateProgram], np.ndarray], program: UpdateProgram) -> float:
    return -float(np.mean(losses(program)))


def _keeps(place: int, funnel_tasks: Sequence[Any]) -> int:
    """Return how many a stage keeps: the last one alone the best, the others three."""
    return 1 if place == len(funnel_tasks) else 3


def noise(losses: np.ndarray) -> float:
    """Return the standard error of the mean loss over the seeds of the funnel, from losses [tasks, seeds]."""
    return float(np.std(losses.mean(0), ddof=1) / math.sqrt(losses.shape[1]))


def charged_losses(tasks: Sequence[ProxyTask], run: Run | None) -> Callable[[UpdateProgram], np.ndarray]:
    """Return a function of a program: its losses [tasks, seeds of the funnel]; none is trained twice."""
    known: dict[str, np.ndarray] = {}
    cost = training_cost(tasks, len(FUNNEL_SEEDS))

    def losses(program: UpdateProgram) -> np.ndarray:
        identity = program_hash(program)
        if identity not in known:
            if run:
                run.check()
                run.meter.charge(**cost)
            known[identity] = np.array(
                [[task.loss(program, seed) for seed in FUNNEL_SEEDS] for task in tasks]
            )
        return known[identity]

    return losses
