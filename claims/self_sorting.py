"""What self-sorting arrays can do that the classical algorithms cannot, and where they cannot.

Arrays of 100 cells, 100 of them a seed, nothing tuned. Cells and classical algorithms get the same arrays
with the same broken cells; a figure is the mean over a seed's runs. No run may be cut off, so that all count.

Robustness is claimed for Bubble with movable frozen cells and for Selection in both modes. It does NOT hold
for Bubble and Insertion with immovable frozen cells, nor for Insertion with movable ones: there cells end
with the very errors of the classical algorithm. Those figures are listed beside the others. All is judged
under the scheduler "rounds"; figures under "uniform" are listed too, and those of arrays made of a real
column with ties.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from selfstudy.core.run import Run
from selfstudy.data.arrays import MODES
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.sorting_experiments import PAIRS, Mixture, damage_experiment, mixture_experiment
from selfstudy.models.sorting.cells import Cells
from selfstudy.models.sorting.one_array import POLICIES, SCHEDULERS
from selfstudy.tasks.loading import task as task_of

ARRAYS = 100
FROZEN = (1, 2, 3)
LEVELS = 10
EXCESS = 0.03  # of peak aggregation over the control's
TOGETHER = 0.6  # aggregation at the end, with equal values
TASKS = {"permutations": "arrays", "diabetes": "arrays?values=diabetes&column=target"}


def damage(
    run: Run, policy: str, frozen: int, mode: str, scheduler: str = "rounds", values: str = "permutations"
) -> dict[str, float]:
    """Return the means of one setting: final errors of both, detours and swaps."""

    def measure() -> dict[str, Any]:
        arrays = task_of(TASKS[values]).batch(ARRAYS, run.rng("arrays")).damaged(frozen, mode)
        return damage_experiment(arrays, Cells(policy, scheduler=scheduler, seed=run.key("schedule")))

    found = run.stage(f"{values}-{policy}-{frozen}-{mode}-{scheduler}", measure)
    assert len(found["cells"]["kept"]) == ARRAYS, "a run was cut off"
    return {
        "cells": float(np.mean(found["cells"]["errors"])),
        "top-down": float(np.mean(found["top_down"]["errors"])),
        "detours": float(np.mean(found["cells"]["gratification"])),
        "swaps": float(np.mean(found["cells"]["swaps"])),
        "top-down swaps": float(np.mean(found["top_down"]["swaps"])),
    }


def robustness_seed(seed: int, run: Run) -> Values:
    """Measure final errors of cells and classical algorithms for every damage of one seed."""
    values: Values = {}
    for policy in POLICIES:
        for mode in MODES:
            for frozen in FROZEN:
                at = f"{policy}, {frozen} {mode}"
                found = damage(run, policy, frozen, mode)
                values[f"cells {at}"], values[f"top-down {at}"] = found["cells"], found["top-down"]
                other = damage(run, policy, frozen, mode, "uniform")
                values[f"cells {at}, uniform"] = other["cells"]
                if frozen == FROZEN[-1]:
                    real = damage(run, policy, frozen, mode, values="diabetes")
                    values[f"cells {at}, diabetes"] = real["cells"]
                    values[f"top-down {at}, diabetes"] = real["top-down"]
    return values


def detours_seed(seed: int, run: Run) -> Values:
    """Measure delayed gratification by the number of immovable frozen cells, and its slope; and the work."""
    values: Values = {}
    for scheduler in SCHEDULERS:
        more = "" if scheduler == "rounds" else f", {scheduler}"
        for policy in POLICIES:
            found = [damage(run, policy, frozen, "immovable", scheduler) for frozen in (0, *FROZEN)]
            detours = [one["detours"] for one in found]
            values.update(
                {f"{policy}, {frozen} frozen{more}": detour for frozen, detour in enumerate(detours)}
            )
            values[f"{policy}, slope{more}"] = float(np.polyfit((0, *FROZEN), detours, 1)[0])
            values[f"{policy}, swaps without damage{more}"] = found[0]["swaps"]
            if not more:
                values[f"{policy}, swaps without damage, top-down"] = found[0]["top-down swaps"]
    return values


def gathered(run: Run, pair: tuple[str, str], kind: str, scheduler: str) -> dict[str, Any]:
    """Return what became of one mixture of two policies and of its controls."""

    def measure() -> dict[str, Any]:
        levels = LEVELS if kind == "duplicates" else None
        arrays = task_of("arrays").batch(ARRAYS, run.rng("arrays"), levels=levels).damaged(0, MODES[0])
        cells = Cells("bubble", scheduler=scheduler, seed=run.key("schedule"))
        return mixture_experiment(arrays, cells, Mixture(pair, kind))

    found = run.stage(f"{'-'.join(pair)}-{kind}-{scheduler}", measure)
    assert not found["mixed"]["truncated"], "a run was cut off"
    return found


def gathering_seed(seed: int, run: Run) -> Values:
    """Measure aggregation of mixed arrays and of the controls, with different and with equal values."""
    values: Values = {}
    for kind, scheduler in itertools.product(("unique", "duplicates"), SCHEDULERS):
        more = ("" if kind == "unique" else f", {kind}") + ("" if scheduler == "rounds" else f", {scheduler}")
        for pair in PAIRS:
            found = gathered(run, pair, kind, scheduler)
            control = found["controls"][found["control"]]
            both = f"{pair[0]} and {pair[1]}"
            for when in ("peak", "end"):
                values[f"{both}, {when}{more}"] = float(np.mean(found["mixed"][when]))
                values[f"{both}, {when} of the control{more}"] = float(np.mean(control[when]))
            values[f"{both}, excess of the peak{more}"] = found["excess"]["mean"]
    return values


ROBUST = (("selection", "movable"), ("selection", "immovable"), ("bubble", "movable"))
SETTINGS = [f"{policy}, {frozen} {mode}" for policy, mode in ROBUST for frozen in FROZEN]
CLAIMS = [
    Claim(
        name="robustness",
        statement="With 1 to 3 frozen cells, Selection cells end with fewer neighbours out of order than "
        "selection sort, whether frozen cells are movable or not, and Bubble cells than bubble sort where "
        "they are movable. Not so for Bubble with immovable ones, nor for Insertion: there cells end as the "
        "classical algorithm does.",
        seeds=range(5),
        measure=robustness_seed,
        relations=[Relation(at, f"top-down {at}", f"cells {at}") for at in SETTINGS],
        share=False,
    ),
    Claim(
        name="detours",
        statement="Delayed gratification of Bubble cells rises with the number of immovable frozen cells "
        "(0 to 3); that of Selection cells has no trend.",
        seeds=range(5),
        measure=detours_seed,
        relations=[
            Relation("Bubble's slope", "bubble, slope", 0.0),
            Relation("Selection's slope", "selection, slope", 0.0, "level"),
        ],
        share=False,
    ),
    Claim(
        name="gathering",
        statement="In arrays of two policies, cells of one policy gather: the peak of aggregation is more "
        "than 0.03 above that of the control, one policy with random labels. With equal values Bubble and "
        "Selection, and Selection and Insertion, stay together at the end: more than 0.6.",
        seeds=range(5),
        measure=gathering_seed,
        relations=[
            *(Relation(f"{a} and {b}", f"{a} and {b}, excess of the peak", EXCESS) for a, b in PAIRS),
            *(
                Relation(f"{a} and {b}, equal values", f"{a} and {b}, end, duplicates", TOGETHER)
                for a, b in (PAIRS[0], PAIRS[2])
            ),
        ],
        share=False,
    ),
]
