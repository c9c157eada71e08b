"""Which smoothness and sharpness: those under which labels that are held out are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.budget import Meter
from selfstudy.core.errors import BudgetSpent
from selfstudy.learning.transduction import Transduction, graph_of, transduce

SMOOTHNESS = (0.1, 0.3, 0.5, 0.7, 0.8, 1.0, 1.2, 1.5)
SHARPNESS = (1.0, 5.0, 10.0, 20.0)


class Grid(NamedTuple):
    """How often held-out labels were found."""

    smoothness: Sequence[float]
    sharpness: Sequence[float]
    right: torch.Tensor
    """[sharpness, smoothness], shares."""

    def best(self, usual: Transduction) -> tuple[float, float]:
        """Return the best smoothness and sharpness; of equals, those nearest to the usual ones."""
        far = np.abs(np.log2(np.array(self.sharpness) / usual.sharpness))[:, None] + np.abs(
            np.array(self.smoothness) - usual.smoothness
        )
        right = self.right.numpy()
        nearest = int(np.where(right == right.max(), far, np.inf).argmin())
        row, column = divmod(nearest, far.shape[1])
        return float(self.smoothness[column]), float(self.sharpness[row])


def halves(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Return which labelled items stay labelled [s], bool: of each class half, rounded up.

    None where no class has two, so that nothing can be held out.
    """
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn[of_class] = np.arange(len(of_class))
    kept = turn < (np.bincount(labels)[labels] + 1) // 2
    return None if kept.all() else kept


def grid_on_halves(
    support: torch.Tensor,
    labels: np.ndarray,
    unlabelled: torch.Tensor,
    classes: int,
    settings: Transduction,
    splits: Sequence[np.ndarray],
    *,
    meter: Meter | None = None,
    look: Callable[[int], object] = lambda done: None,
) -> Grid:
    """Return how often held-out labels are found, among unlabelled items, under each pair of settings.

    Args:
        support: labelled items [s, d], transformed.
        labels: [s].
        unlabelled: [q, d], transformed, that are labelled along.
        classes: C.
        settings: of all else.
        splits: which labelled items stay labelled [s], bool, as `halves` draws them.
        meter: counts a sample for each query, pair and round.
        look: called with the number of splits done.

    Raises:
        BudgetSpent: it does not cover the whole grid.
    """
    strengths = torch.tensor(SMOOTHNESS)
    right = torch.zeros(len(SHARPNESS), len(SMOOTHNESS), dtype=torch.float64)
    count = 0
    for done, kept in enumerate(splits):
        held = torch.from_numpy(labels[~kept])
        targets = functional.one_hot(torch.from_numpy(labels[kept]), classes).float()
        known, queries = support[kept], torch.cat([support[~kept], unlabelled])
        graph = graph_of(queries, known, settings)
        for row, sharpness in enumerate(SHARPNESS):
            found = transduce(
                known,
                targets,
                queries,
                settings,
                graph=graph,
                smoothness=strengths,
                sharpness=sharpness,
                meter=meter,
            )
            if meter and meter.refused:
                raise BudgetSpent("The budget ended within the choice of settings. Give a larger one.")
            right[row] += (found.labels[:, : len(held)] == held).sum(1)
        count += len(held)
        look(done + 1)
    return Grid(SMOOTHNESS, SHARPNESS, right / count)
