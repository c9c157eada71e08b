"""Two experiments on self-sorting arrays: damage against the algorithm, mixtures against the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfstudy.data.arrays import Arrays
from selfstudy.evaluation.sorting import (
    aggregation,
    expected_aggregation,
    inversions,
    resampled,
    summarise,
)
from selfstudy.evaluation.statistics import paired_bootstrap
from selfstudy.evaluation.tolerances import within
from selfstudy.models.sorting.cells import Cells, sort_mixed
from selfstudy.models.sorting.top_down import TopDown
from selfstudy.models.sorting.traces import TRUNCATED, Trace

PAIRS = (("bubble", "selection"), ("bubble", "insertion"), ("selection", "insertion"))
KINDS = ("unique", "duplicates", "conflict")  # of mixtures: different values, equal ones, opposite directions
BAND = (0.025, 0.975)  # shares of runs below the control's band and below its upper end


class Mixture(NamedTuple):
    """What is mixed."""

    pair: tuple[str, str]
    kind: str
    """One of KINDS."""
    share: float = 0.5
    """Of the first policy's cells."""


def damage_experiment(arrays: Arrays, cells: Cells) -> dict[str, Any]:
    """Sort `arrays` by cells and by the classical algorithm of the same name; return both summaries.

    Pairs are arrays: both get the same values and the same broken cells. "gain" is by how much the cells'
    final error is lower, with its bootstrap interval over the arrays whose run was not cut off.
    "beyond_inversions" is the largest difference between swaps and inversions, where they should be equal:
    with neighbours that swap, without damage.
    """
    own = summarise(cells.sort(arrays))
    classical = summarise(TopDown(str(cells.policy)).sort(arrays))
    before = [classical["errors"][i] for i in own["kept"]]
    gain = paired_bootstrap(before, own["errors"]).to_json() if own["kept"] else None
    beyond = None
    if cells.policy in ("bubble", "insertion") and not arrays.broken and not arrays.width:
        needed = [inversions(arrays.values[i]) for i in own["kept"]]
        beyond = max((abs(a - b) for a, b in zip(own["swaps"], needed, strict=True)), default=None)
    return {"cells": own, "top_down": classical, "gain": gain, "beyond_inversions": beyond}


def held_to(
    damage: Sequence[dict[str, Any]], mixtures: Sequence[dict[str, Any]], length: int
) -> list[dict[str, Any]]:
    """Hold both experiments to what is known exactly; see `selfstudy.evaluation.tolerances.within`.

    Without damage all runs end sorted, and swaps of neighbours are as many as inversions. Random labels have
    the aggregation of `expected_aggregation`; three standard errors are passed by chance once in 370 times.

    Args:
        damage: records with "frozen", the counts of outcomes in "cells", and "beyond_inversions" or None.
        mixtures: records with "kind", "share", and the aggregations by run at the "start" of "mixed".
        length: cells of an array.
    """
    lines = []
    whole = [record for record in damage if not record["frozen"]]
    if whole:
        unsorted = sum(record["cells"]["stuck"] + record["cells"]["truncated"] for record in whole)
        lines.append(within("runs without damage that did not end sorted", float(unsorted), most=0))
    beyond = [record["beyond_inversions"] for record in whole if record["beyond_inversions"] is not None]
    if beyond:
        lines.append(within("most swaps beyond the inversions", float(max(beyond)), most=0))
    for share in dict.fromkeys(record["share"] for record in mixtures):
        start = next(np.array(r["mixed"]["start"]) for r in mixtures if r["share"] == share)
        error = start.std(ddof=1) / len(start) ** 0.5 if len(start) > 1 else 0.0
        if error > 0:
            away = abs(start.mean() - expected_aggregation(length, round(share * length))) / error
            name = f"standard errors between random labels ({share:g}) and their closed form"
            lines.append(within(name, float(away), most=3))
    return lines


def mixture_experiment(arrays: Arrays, cells: Cells, mixture: Mixture) -> dict[str, Any]:
    """Sort undamaged arrays of two policies, and the controls: one policy for all cells, the same labels.

    Aggregation of chimeric arrays and of controls is computed by the same function on the same labels. The
    excess is taken over the higher of the two controls of a pair, array by array.
    """
    labels = arrays.labels(mixture.share)
    falling = labels == 1 if mixture.kind == "conflict" else None
    mixed = gathered(sort_mixed(cells, arrays, mixture.pair, labels=labels, falling=falling))
    controls = {
        policy: gathered(sort_mixed(cells, arrays, [policy], labels=labels)) for policy in mixture.pair
    }
    higher = max(controls, key=lambda policy: float(np.mean(controls[policy]["peak"])))
    excess = paired_bootstrap(mixed["peak"], controls[higher]["peak"]).to_json()
    return {"mixed": mixed, "controls": controls, "control": higher, "excess": excess}


def gathered(traces: Sequence[Trace]) -> dict[str, Any]:
    """Return how cells of one type gathered over many runs: by run, and curves over progress."""
    found = [aggregation(trace) for trace in traces]
    curves = np.array([one.curve for one in found])
    low, high = np.quantile(curves, BAND, axis=0)
    errors = np.array([resampled(trace.errors()) for trace in traces])
    return {
        "start": [one.start for one in found],
        "peak": [one.peak for one in found],
        "end": [one.end for one in found],
        "truncated": sum(trace.outcome == TRUNCATED for trace in traces),
        "curve": curves.mean(0),
        "low": low,
        "high": high,
        "error_curve": errors.mean(0),
    }
