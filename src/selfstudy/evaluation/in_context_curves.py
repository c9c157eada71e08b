"""What a sequence model does with the examples in its context: curves by position, phases, plateaus.

Kirsch et al. 2022, arXiv 2212.04458: learning is accuracy at the last position of a sequence less that at the
first, and what a model has become shows in whether it learns on tasks it was trained on, and on new ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from selfstudy.core.errors import UsageError

Phase = Literal["fail", "memorise", "identify", "learn"]
MARGIN = 0.1  # of accuracy: less is no sign of anything
UNDER = 0.1  # share of log C by which the loss is below it when a plateau has been left


def right_by_position(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return which labels a model tells: [S, L], bool.

    Args:
        scores: of the classes, [S, L, C].
        labels: [S, L].
    """
    return scores.argmax(-1) == labels


def learned(curve: Sequence[float]) -> float:
    """Return accuracy at the last position less that at the first.

    >>> round(learned([0.2, 0.5, 0.8]), 2)
    0.6
    """
    return curve[-1] - curve[0]


def phase(seen: Sequence[float], unseen: Sequence[float], classes: int, margin: float = MARGIN) -> Phase:
    """Return what a model has become.

    It learns when accuracy rises within sequences of unseen tasks. If it rises within those of seen tasks
    alone, the model identifies the task. If it is above chance at once, the examples have been memorised.

    >>> phase([0.9, 0.9], [0.2, 0.2], 5), phase([0.3, 0.9], [0.2, 0.25], 5), phase([0.2, 0.9], [0.2, 0.6], 5)
    ('memorise', 'identify', 'learn')

    Args:
        seen: accuracy by position on tasks it was trained on.
        unseen: the same on new tasks.
        classes: C; chance is 1/C.
        margin: what counts as a rise.
    """
    if learned(unseen) >= margin:
        return "learn"
    if learned(seen) >= margin:
        return "identify"
    return "memorise" if seen[0] >= 1 / classes + margin else "fail"


def plateau_left(
    steps: Sequence[int], losses: Sequence[float], classes: int, under: float = UNDER
) -> int | None:
    """Return the first step at which the loss is `under` below log C, the loss of knowing nothing.

    >>> plateau_left([0, 10, 20], [1.61, 1.6, 1.3], classes=5)
    20

    Args:
        steps: of the losses.
        losses: cross-entropies in nats; smoothed where they are of single batches.
        classes: C.
        under: share of log C.

    Returns:
        The step, or None while the plateau lasts.
    """
    for step, loss in zip(steps, losses, strict=True):
        if loss < (1 - under) * math.log(classes):
            return step
    return None


def smoothed(losses: Sequence[float], width: int) -> list[float]:
    """Return the mean of each loss and up to `width` - 1 before it.

    >>> smoothed([4.0, 2.0, 0.0], width=2)
    [4.0, 3.0, 1.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(losses)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - width, 0)
    return [float(mean) for mean in (sums[ends] - sums[starts]) / (ends - starts)]


# Learners of the same sequences that are not trained beforehand. Each takes inputs [S, L, m] and labels
# [S, L], and tells the labels of the positions 2 to L from all examples before them: [S, L - 1].


def nearest_neighbour(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Tell the label of the nearest example so far."""
    distances = torch.cdist(inputs, inputs)  # [S, L, L]
    later = torch.ones(distances.shape[-2:], dtype=torch.bool).triu()
    nearest = distances.masked_fill(later, math.inf)[:, 1:].argmin(-1)
    return labels.gather(1, nearest)


def nearest_mean(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Tell the class whose mean of examples so far is nearest, among the classes seen so far."""
    of_class = torch.nn.functional.one_hot(labels).to(inputs.dtype)  # [S, L, C]
    counts = of_class.cumsum(1)[:, :-1, :, None]
    sums = torch.einsum("slc,slm->slcm", of_class, inputs).cumsum(1)[:, :-1]
    distances = (inputs[:, 1:, None] - sums / counts.clamp(min=1)).square().sum(-1)
    return distances.masked_fill(counts[..., 0] == 0, math.inf).argmin(-1)


def logistic_regression(inputs: torch.Tensor, labels: torch.Tensor, positions: Sequence[int]) -> torch.Tensor:
    """Tell the labels at some positions by scikit-learn's logistic regression on the examples before each.

    Args:
        inputs: [S, L, m].
        labels: [S, L].
        positions: from 2.

    Returns:
        [S, len(positions)].

    Raises:
        UsageError: a position without an example before it.
    """
    from sklearn.linear_model import LogisticRegression

    if min(positions) < 2:
        raise UsageError(f"Position {min(positions)} has no example before it: give positions from 2.")
    told = torch.empty(len(inputs), len(positions), dtype=labels.dtype)
    for s, (x, y) in enumerate(zip(inputs.numpy(), labels.numpy(), strict=True)):
        for i, position in enumerate(positions):
            known = y[: position - 1]
            if len(set(known)) == 1:
                told[s, i] = int(known[0])
                continue
            rule = LogisticRegression(max_iter=1000).fit(x[: position - 1], known)
            told[s, i] = int(rule.predict(x[position - 1 : position])[0])
    return told
