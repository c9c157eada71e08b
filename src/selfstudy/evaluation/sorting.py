"""How well arrays are sorted, what it took, and whether cells of one type gather more than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.evaluation.gratification import delayed_gratification
from selfstudy.models.sorting.kernels import pairs_over_time, ranks
from selfstudy.models.sorting.traces import SORTED, STUCK, TRUNCATED, Trace

POINTS = 101  # of progress, from the first state to the last


def monotonicity_error(values: Sequence[float] | np.ndarray) -> int:
    """Return how many values are smaller than their left neighbour.

    >>> monotonicity_error([1, 3, 2, 2])
    1
    """
    return int(np.count_nonzero(np.diff(np.asarray(values, dtype=float)) < 0))


def sortedness(values: Sequence[float] | np.ndarray) -> float:
    """Return the share of values that are not smaller than their left neighbour, in percent; 100 for none.

    >>> sortedness([1, 3, 2, 2])
    75.0
    """
    n = len(values)
    return 100.0 * (n - monotonicity_error(values)) / n if n else 100.0


def displacement(values: Sequence[float] | np.ndarray) -> int:
    """Return Spearman's footrule: the sum of distances between positions and those in the sorted array.

    Equal values keep their order, so that they are not displaced among each other.

    >>> displacement([1, 2, 0]), displacement([1, 1, 2])
    (4, 0)
    """
    places = np.argsort(np.asarray(values, dtype=float), kind="stable")
    return int(np.abs(places - np.arange(len(places))).sum())


def resampled(series: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Return the series at `points` evenly spaced places, the first and the last among them.

    >>> resampled(np.array([0.0, 1.0, 2.0]), 5).tolist()
    [0.0, 0.0, 1.0, 2.0, 2.0]
    """
    return series[np.rint(np.linspace(0, len(series) - 1, points)).astype(int)]


def expected_aggregation(n: int, first: int) -> float:
    """Return the mean aggregation of n labels in random order, `first` of one kind and the rest of another.

    >>> expected_aggregation(100, 50)
    0.49
    """
    pairs = first * (first - 1) + (n - first) * (n - first - 1)
    return pairs / n**2 if n else 0.0


class Aggregation(NamedTuple):
    """How much cells of one type stood together, over one run."""

    start: float
    peak: float
    end: float
    curve: np.ndarray
    """At POINTS places of progress."""


def aggregation(trace: Trace, labels: np.ndarray | None = None) -> Aggregation:
    """Return start, peak over all states, end and curve of a trace's aggregation.

    The peak of thousands of states that resemble one another is far above the mean of random labels. Hold it
    against the peak of the control, where all cells follow one policy and labels are random.
    """
    series = trace.aggregation(labels)
    return Aggregation(float(series[0]), float(series.max()), float(series[-1]), resampled(series))


class LabelTest(NamedTuple):
    """Whether a trace's types gather more than random labels of the very same cells would."""

    peak: float
    chance: float
    """Mean peak of random labels."""
    p: float
    """Share of the relabelled traces, the true one counted in, whose peak is as high."""


def label_permutation_test(trace: Trace, *, draws: int = 999, seed: int = 0) -> LabelTest:
    """Compare the peak of a trace's aggregation with those of its types dealt out anew.

    Other than the control it keeps the swaps that happened, so it needs no further runs. It is the weaker of
    the two: swaps that move whole types keep such labels together as well.

    Raises:
        UsageError: the trace has no types.
    """
    if not len(trace.types):
        raise UsageError("A label test needs a trace of cells with types. Give types, or labels, to the run.")
    n = len(trace.types)
    peak = trace.aggregation().max()
    peaks = np.array(
        [
            pairs_over_time(
                generator(seed, "labels", draw).permutation(trace.types).astype(np.int32), trace.swaps, True
            ).max()
            / n
            for draw in range(draws)
        ]
    )
    return LabelTest(float(peak), float(peaks.mean()), float((1 + (peaks >= peak).sum()) / (draws + 1)))


def summarise(traces: Sequence[Trace]) -> dict[str, Any]:
    """Return the figures of many runs as JSON data: lists by run, and how often each outcome occurred.

    Truncated runs count among outcomes and have no other figures: `kept` says which runs the lists are of.
    """
    outcomes = [trace.outcome for trace in traces]
    kept = [i for i, outcome in enumerate(outcomes) if outcome != TRUNCATED]
    errors = [traces[i].errors() for i in kept]
    return {
        "kept": kept,
        "outcomes": {name: outcomes.count(name) for name in (SORTED, STUCK, TRUNCATED)},
        "errors": [int(series[-1]) for series in errors],
        "displacements": [displacement(traces[i].final) for i in kept],
        "gratification": [delayed_gratification(series) for series in errors],
        "swaps": [traces[i].counts.swaps for i in kept],
        "comparisons": [traces[i].counts.comparisons for i in kept],
        "wishes": [traces[i].counts.wishes for i in kept],
        "activations": [traces[i].counts.activations for i in kept],
    }


def inversions(values: Sequence[float] | np.ndarray) -> int:
    """Return the number of pairs in the wrong order: as many swaps of neighbours sort them.

    >>> inversions([3, 1, 2, 2])
    3
    """
    order = ranks(np.asarray(values, dtype=float))
    return sum(int(np.count_nonzero(order[:i] > order[i])) for i in range(len(order)))
