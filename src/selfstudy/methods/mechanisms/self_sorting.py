"""Self-sorting arrays: what a sorting algorithm can do when every element runs it for itself.

Zhang, Goldstein, Levin 2024, "Classical Sorting Algorithms as a Model of Morphogenesis: self-sorting arrays
reveal unexpected competencies in a minimal model of basal intelligence", arXiv 2401.05375. Takes a classical
algorithm (bubble, insertion or selection sort), gives each cell of an array its rule, breaks some cells, and
measures errors, detours, work, and how cells of different rules gather. Pick it as a small test-bed of
decentralised behaviour that survives faults. To sort numbers, call `sorted`. To learn local rules instead of
giving them, use a cellular automaton that is trained.

Deviations from the paper: a deterministic scheduler (each cell once a round in a fresh random order, or a
random cell each time) takes the place of a thread for each cell; a run ends when no cell could change
anything, whatever its coin; delayed gratification is always the mean over detours, where the authors'
program gives the sum for a series that ends in a rise; decreasing cells compare the other way round but start
at the left too; duplicates are 10 levels of 10 cells, not 10 of 20; the control with random labels is always
run, for both policies of a pair, and excess is taken over the higher one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.arrays import MODES, require_damage
from selfstudy.evaluation.pictures import Picture
from selfstudy.evaluation.sorting_experiments import (
    KINDS,
    PAIRS,
    Mixture,
    damage_experiment,
    held_to,
    mixture_experiment,
)
from selfstudy.evaluation.sorting_pictures import damage_pictures, mixture_pictures, sorting_picture
from selfstudy.models.sorting.cells import POLICIES, SCHEDULERS, Cells, sort_mixed
from selfstudy.models.sorting.top_down import TopDown
from selfstudy.tasks.arrays import ERROR, ArraysTask


class Damage(NamedTuple):
    """A setting of the first experiment."""

    scheduler: str
    policy: str
    frozen: int
    mode: str


@dataclass(frozen=True, kw_only=True)
class SelfSorting(Method):
    """Turn a sorting algorithm into cells that sort themselves, and measure them (Zhang et al. 2024)."""

    works_on = (ArraysTask, TopDown)

    arrays: int = 100
    """Arrays of every setting."""
    frozen: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers of broken cells that are compared, in both modes."""
    scheduler: Literal["rounds", "uniform"] = "rounds"
    """Of the cells that are given back; both are measured."""
    mixtures: tuple[float, ...] = (0.5,)
    """Shares of the first policy in arrays of two; empty leaves them out."""
    levels: int = 10
    """Different values in mixed arrays with equal ones."""
    conflict_rounds: int = 100
    """Rounds after which arrays whose types sort in opposite directions are cut off; some never settle."""
    max_steps: int = 0
    """Activations after which any other run is cut off and flagged; 0 is 2 n^3 + 1000."""
    frames: int = 60
    """Places of the slider in a moving picture."""

    def validate(self) -> None:
        """Check the fields against each other."""
        least = {"arrays": 1, "levels": 1, "conflict_rounds": 1, "max_steps": 0, "frames": 2}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {limit}.")
        if not self.frozen or min(self.frozen) < 0 or len(set(self.frozen)) < len(self.frozen):
            raise UsageError(
                f"frozen is {self.frozen}; give different numbers of cells, 0 or more, as in 0 1 2 3."
            )
        if not all(0 < share < 1 and math.isfinite(share) for share in self.mixtures):
            raise UsageError(f"mixtures is {self.mixtures}; give shares above 0 and below 1, such as 0.5.")

    def damages(self) -> list[Damage]:
        """Return the settings of the first experiment; without broken cells the mode means nothing."""
        return [
            Damage(scheduler, policy, broken, mode)
            for scheduler in SCHEDULERS
            for policy in POLICIES
            for mode in MODES
            for broken in self.frozen
            if broken or mode == MODES[0]
        ]

    def mixed(self) -> list[Mixture]:
        """Return the settings of the second experiment."""
        return [Mixture(pair, kind, share) for kind in KINDS for share in self.mixtures for pair in PAIRS]

    def cost(self, task: ArraysTask, model: TopDown) -> dict[str, float]:
        """Return what a fit spends, by budget unit; a sample is an array."""
        return {"samples": float(self.arrays * (len(self.damages()) + len(self.mixed())))}

    def trial(self, task: ArraysTask, model: TopDown) -> tuple[Callable[[], object], int]:
        """Return a callable that measures the model's own setting, and how many settings there are."""
        self._require_fit(task)
        cells = Cells(model.algorithm, scheduler=self.scheduler, max_steps=self.max_steps)
        arrays = task.batch(self.arrays, np.random.default_rng(0))
        return lambda: damage_experiment(arrays, cells), len(self.damages()) + len(self.mixed())

    def fit(self, task: ArraysTask, model: TopDown, run: Run) -> Fit:
        """Measure cells under damage and in mixtures; give back the cells that follow `model`'s rule."""
        self._require_fit(task)
        cells = Cells(
            model.algorithm, scheduler=self.scheduler, seed=run.key("schedule"), max_steps=self.max_steps
        )
        damage = run.map("damage", self.damages(), lambda setting: self._damage(task, run, Damage(*setting)))
        mixed = run.map("mixtures", self.mixed(), lambda setting: self._mixture(task, run, Mixture(*setting)))
        pictures = [
            *self._shown(task, model, cells),
            *damage_pictures(damage, self.scheduler),
            *mixture_pictures(mixed),
        ]
        return Fit(
            model=cells,
            metrics=self._figures(damage, mixed, model.algorithm),
            held_to=held_to(damage, mixed, task.length),
            pictures=pictures,
        )

    def _require_fit(self, task: ArraysTask) -> None:
        for broken in self.frozen:
            require_damage(broken, MODES[0], task.length)
        if self.mixtures and task.length < self.levels:
            raise UsageError(
                f"Arrays of {task.length} cells cannot have levels={self.levels} different values each "
                "equally often. Give levels of the array's length or less, or no mixtures."
            )

    def _damage(self, task: ArraysTask, run: Run, setting: Damage) -> dict[str, Any]:
        run.meter.charge(samples=self.arrays)
        # The same arrays and the same order of breaking in every setting, so that all are paired.
        arrays = task.batch(self.arrays, run.rng("arrays")).damaged(setting.frozen, setting.mode)
        cells = Cells(
            setting.policy, scheduler=setting.scheduler, seed=run.key("schedule"), max_steps=self.max_steps
        )
        found = damage_experiment(arrays, cells)
        means = {who: _means(found[who]) for who in ("cells", "top_down")}
        run.log(**setting._asdict(), error=means["cells"]["error"], top_down_error=means["top_down"]["error"])
        return {
            **setting._asdict(),
            **means,
            "gain": found["gain"],
            "beyond_inversions": found["beyond_inversions"],
            "errors": {who: found[who]["errors"] for who in means},
        }

    def _mixture(self, task: ArraysTask, run: Run, mixture: Mixture) -> dict[str, Any]:
        run.meter.charge(samples=self.arrays)
        levels = self.levels if mixture.kind == "duplicates" else None
        arrays = task.batch(self.arrays, run.rng("arrays"), levels=levels).damaged(0, MODES[0])
        most = self.conflict_rounds * max(task.length, 1) if mixture.kind == "conflict" else self.max_steps
        cells = Cells("bubble", scheduler=self.scheduler, seed=run.key("schedule"), max_steps=most)
        found = mixture_experiment(arrays, cells, mixture)
        share = "" if len(self.mixtures) == 1 else f", {mixture.share:g}"
        name = f"{mixture.pair[0]} and {mixture.pair[1]}{share}"
        return {"name": name, "kind": mixture.kind, "share": mixture.share, **found}

    def _shown(self, task: ArraysTask, model: TopDown, cells: Cells) -> list[Picture]:
        """Return one held-out array: as cells, as the algorithm sorts it, and with cells of two kinds."""
        arrays = task.held_out(1)
        (own,), (classical,) = cells.sort(arrays), model.sort(arrays)
        other = "selection" if model.algorithm != "selection" else "bubble"
        pair = (model.algorithm, other)
        equal = task.held_out(1, levels=min(self.levels, task.length)).damaged(0, MODES[0])
        (both,) = sort_mixed(cells, equal, pair, labels=equal.labels())
        names, frames = [model.algorithm], self.frames
        broken = f"{task.broken} cells are broken ({task.mode}) and never act."
        return [
            sorting_picture(
                f"An array that sorts itself: {model.algorithm} cells, {own.outcome}",
                own,
                names,
                note=f"Every cell acts for itself; {broken}",
                frames=frames,
            ),
            sorting_picture(
                f"The same array under the classical algorithm: {classical.outcome}",
                classical,
                names,
                note=f"A controller moves the cells; the same {broken}",
                frames=frames,
                typed=False,
            ),
            sorting_picture(
                f"A mixed array: {pair[0]} and {pair[1]} cells with equal values, {both.outcome}",
                both,
                pair,
                note="Both kinds want the same order. Where values are equal, only their rules decide "
                "who stands beside whom.",
                frames=frames,
            ),
        ]

    def _figures(
        self, damage: list[dict[str, Any]], mixed: list[dict[str, Any]], algorithm: str
    ) -> dict[str, Any]:
        rows = {}
        for record in damage:
            if (record["policy"], record["scheduler"]) == (algorithm, self.scheduler):
                at = f", {record['frozen']} frozen" + (f", {record['mode']}" if record["frozen"] else "")
                for who, name in (("cells", f"{algorithm} cells"), ("top_down", f"top-down {algorithm}")):
                    if record["errors"][who]:
                        rows[name + at] = ERROR.row(record["errors"][who])
        gathering = [
            {
                **{name: record[name] for name in ("name", "kind", "share", "control", "excess")},
                **{when: float(np.mean(record["mixed"][when])) for when in ("start", "peak", "end")},
                "truncated": record["mixed"]["truncated"],
                "controls": {
                    policy: {when: float(np.mean(found[when])) for when in ("start", "peak", "end")}
                    for policy, found in record["controls"].items()
                },
            }
            for record in mixed
        ]
        figures = [{name: value for name, value in record.items() if name != "errors"} for record in damage]
        return {**rows, "damage": figures, "mixtures": gathering}


def _means(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the means of a summary's lists, and how the runs ended; None where all were cut off."""
    names = {"errors": "error", "displacements": "displacement"}
    lists = {name: values for name, values in summary.items() if isinstance(values, list) and name != "kept"}
    means = {names.get(n, n): float(np.mean(values)) if values else None for n, values in lists.items()}
    return {**means, **summary["outcomes"]}
