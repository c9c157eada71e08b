"""Values of steps from a reference solution: the labels of a first value model (ReST-MCTS*, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from selfstudy.signals.tree_values import step_value


def reference_targets(steps: Sequence[str], reference: Sequence[str]) -> tuple[float, ...]:
    """Return the value after each of `steps` when the right solution is `reference`.

    Up to its first difference a solution of K steps gets k/K. The first wrong step, and all after it, have
    the distance of the last right prefix, so each of them takes value away.

    >>> [round(value, 3) for value in reference_targets(["a", "b", "c"], ["a", "b", "c"])]
    [0.333, 0.667, 1.0]
    >>> [round(value, 3) for value in reference_targets(["a", "x"], ["a", "b", "c"])]
    [0.333, 0.111]
    """
    values, value, good, distance = [], 0.0, True, 0
    for k, step in enumerate(steps):
        left = len(reference) - k  # steps to the answer, this one included
        if good:
            good = left > 0 and step == reference[k]
            distance = left if good else left + 1
        value = step_value(value, distance, good)
        values.append(value)
    return tuple(values)
