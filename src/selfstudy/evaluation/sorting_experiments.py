"""Two experiments on self-sorting arrays: damage against the algorithm, mixtures against the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfstudy.data.arrays import Arrays
from selfstudy.evaluation.sorting import aggregation, resampled, summarise
from selfstudy.evaluation.statistics import paired_bootstrap
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
    """
    own = summarise(cells.sort(arrays))
    classical = summarise(TopDown(str(cells.policy)).sort(arrays))
    before = [classical["errors"][i] for i in own["kept"]]
    gain = paired_bootstrap(before, own["errors"]).to_json() if own["kept"] else None
    return {"cells": own, "top_down": classical, "gain": gain}


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
