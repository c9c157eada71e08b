"""Items labelled together: a few labelled ones, clusters around prototypes, and agreement of near items.

Ziko et al. 2021, arXiv 2106.09516, of which LaplacianShot (Ziko et al. 2020) is the case of prototypes that
stay, and k-means the case of no smoothness. `transduce` works on one set or on a batch of episodes at once;
`fit_predict` and `cluster` in `selfstudy.learning.joint_labels` take plain arrays.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from selfstudy.core.budget import Meter
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.learning.bound_optimiser import Smoothed, each, smooth
from selfstudy.learning.loops import check_positive
from selfstudy.learning.prototypes import (
    Distance,
    distances,
    empty,
    moved,
    reseeded,
    strongest,
)
from selfstudy.signals.affinity import Affinity, affinity, drawn_towards
from selfstudy.signals.neighbours import Backend

SETTLED = 1e-5  # largest move of a prototype that ends the rounds
UNSURE = 0.9  # of the entropy of an even guess: above it items are hardly told apart
RISE = 1e-6  # of an energy and of each item: by so much it may rise through rounding

Transform = Literal["centred", "length", "none"]


@dataclass(frozen=True, kw_only=True)
class Transduction:
    """How items are labelled together."""

    smoothness: float = 1.0
    """lambda: how much near items want the same label; 0 is k-means from the labelled items."""
    sharpness: float = 10.0
    """T, times the distances. Below 5 prototypes that are updated fall together at the mean of all items."""
    neighbours: int = 3
    """k, nearest neighbours of each item in the graph."""
    distance: Distance = "squared"
    """Of items to prototypes: "squared" has means as prototypes, "gaussian" modes, "euclidean" and
    "manhattan" medians."""
    bandwidth: float = 1.0
    """h of "gaussian", exp(-|x - m|^2 / (2 h^2))."""
    prototypes: Literal["updated", "strongest", "fixed"] = "updated"
    """Moved to where their items are; or to the item that is most theirs; or left at the labelled items."""
    transform: Transform = "centred"
    """Of the features: the mean taken off, then length 1; length 1 alone; or none."""
    support_edges: bool = False
    """Whether labelled items are in the graph too; they then draw their neighbours."""
    symmetric: bool = True
    """Whether the graph is made symmetric, (W + W^T) / 2. The authors' code leaves it as it is."""
    psd: bool = False
    """Whether the diagonal of the graph is raised until the energy can never rise."""
    rounds: int = 20
    """Most updates of the prototypes."""
    iterations: int = 20
    """Most steps of the bound optimiser in a round."""
    search: Backend = "torch"
    """What finds nearest neighbours in a large set; "faiss" is faster where it is installed."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, sharpness=0, bandwidth=0, neighbours=0, rounds=0, iterations=0)
        if not self.smoothness >= 0:
            raise UsageError(f"Transduction.smoothness is {self.smoothness:g}; it must be 0 or more.")
        if self.psd and not self.symmetric:
            raise UsageError("psd needs symmetric: a graph that is not symmetric has no real eigenvalues.")


class Found(NamedTuple):
    """Queries with their assignments; leading dimensions are problems."""

    assignments: torch.Tensor
    """Z [..., q, K]."""
    prototypes: torch.Tensor
    """M [..., K, d], after the last round."""
    energies: tuple[torch.Tensor, ...]
    """A round each: [steps + 1, ...]."""

    @property
    def labels(self) -> torch.Tensor:
        """The number of the class of each query [..., q]."""
        return self.assignments.argmax(-1)

    @property
    def rises(self) -> int:
        """In how many rounds, of all problems, the energy rose in a step, beyond rounding."""
        return sum(int(rising(steps, self.assignments.shape[-2]).sum()) for steps in self.energies)


def transformed(features: torch.Tensor, transform: Transform, centre: torch.Tensor) -> torch.Tensor:
    """Return features [..., n, d] as distances are taken of them: CL2N, L2N or as they are.

    A feature that is 0 stays 0.

    Args:
        features: [..., n, d].
        transform: "centred", "length" or "none".
        centre: [d], the mean of what the encoder was trained on, or of all that there is.
    """
    if transform == "none":
        return features
    found = functional.normalize(features - centre if transform == "centred" else features, dim=-1)
    nothing = int((found == 0).all(-1).sum())
    if nothing:
        warnings.warn(
            f"{nothing} items have a feature of length 0, which has no direction: they are as far from one "
            "class as from the other.",
            stacklevel=2,
        )
    return found


def class_means(support: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean [..., K, d] of the labelled items of each class; 0 for a class without any.

    Args:
        support: S [..., s, d].
        targets: Y [..., s, K], 0 or 1.
    """
    return (targets.mT @ support) / targets.sum(-2)[..., None].clamp(min=1)


def graph_of(queries: torch.Tensor, support: torch.Tensor | None, settings: Transduction) -> Affinity | None:
    """Return the graph that the settings ask for; None where there is nobody to be near to."""
    items = queries.shape[-2] + (support.shape[-2] if settings.support_edges and support is not None else 0)
    if items < 2 or queries.shape[-2] < 2:
        return None
    if items <= settings.neighbours:
        warnings.warn(
            f"{items} items have {items - 1} neighbours each; {settings.neighbours} were asked for.",
            stacklevel=2,
        )
    return affinity(
        queries,
        min(settings.neighbours, items - 1),
        support=support if settings.support_edges else None,
        symmetric=settings.symmetric,
        psd=settings.psd,
        backend=settings.search,
    )


def transduce(
    support: torch.Tensor,
    targets: torch.Tensor,
    queries: torch.Tensor,
    settings: Transduction,
    *,
    graph: Affinity | None,
    start: torch.Tensor | None = None,
    smoothness: float | torch.Tensor | None = None,
    sharpness: float | torch.Tensor | None = None,
    meter: Meter | None = None,
    look: Callable[[int], object] = lambda done: None,
) -> Found:
    """Label queries together.

        repeat: a = T F(Q, M); Z = softmax(-a); repeat Z = softmax(-a + lambda W Z); M = update(S, Y, Q, Z)

    The labelled items keep their labels. Where there are none, empty prototypes go to the farthest item.

    Args:
        support: S [..., s, d], transformed.
        targets: Y [..., s, K], 0 or 1.
        queries: Q [..., q, d], transformed; [q, d] may be shared by problems that differ in the rest.
        settings: of all but what follows.
        graph: of `graph_of`; None smooths nothing.
        start: the first prototypes [..., K, d]; None are the means of the labelled items.
        smoothness: lambda, one or [...]; None is that of the settings.
        sharpness: T, likewise.
        meter: counts a sample for each query in each round; where it is spent, the rounds end.
        look: called with the number of rounds done.

    Raises:
        BudgetSpent: not even the first round is covered.
    """
    prototypes = class_means(support, targets) if start is None else start
    strength = settings.smoothness if smoothness is None else smoothness
    strength = torch.as_tensor(strength if graph is not None else 0.0, dtype=queries.dtype)
    times = torch.as_tensor(settings.sharpness if sharpness is None else sharpness, dtype=queries.dtype)
    problems = torch.broadcast_shapes(prototypes.shape[:-2], queries.shape[:-2], strength.shape, times.shape)
    prototypes, targets = (part.expand(*problems, *part.shape[-2:]) for part in (prototypes, targets))
    items = torch.cat([support, queries], -2) if support.shape[-2] else queries
    drawn = _drawn_by_support(graph, targets)
    going = torch.ones(problems, dtype=torch.bool)
    assignments, energies = prototypes.new_empty(0), list[torch.Tensor]()
    for done in range(settings.rounds):
        if meter and not _charged(meter, going.numel() * queries.shape[-2], first=not done):
            break
        smoothed = one_round(queries, prototypes, settings, times, strength, graph, drawn)
        energies.append(smoothed.energies)
        kept = going[..., None, None]
        assignments = torch.where(kept, smoothed.assignments, assignments) if done else smoothed.assignments
        look(done + 1)
        if settings.prototypes == "fixed":
            break
        weights = torch.cat([targets, assignments], -2) if support.shape[-2] else assignments
        update = _updated(items, queries, weights, assignments, prototypes, settings)
        update = torch.where(kept, update, prototypes)
        going &= (update - prototypes).norm(dim=-1).amax(-1) >= SETTLED
        prototypes = update
        if not going.any():
            break
    return Found(assignments, prototypes, tuple(energies))


def _charged(meter: Meter, samples: int, *, first: bool) -> bool:
    """Count a round, and tell whether it may be done; the first one raises where it may not."""
    try:
        meter.charge(samples=samples)
    except BudgetSpent:
        if first:
            raise
        return False
    return True


def one_round(
    queries: torch.Tensor,
    prototypes: torch.Tensor,
    settings: Transduction,
    sharpness: torch.Tensor,
    smoothness: torch.Tensor,
    graph: Affinity | None,
    drawn: torch.Tensor | float = 0.0,
) -> Smoothed:
    """Return the assignments of queries [..., q, d] to prototypes [..., K, d] that stay where they are.

    Args:
        queries: Q.
        prototypes: M.
        settings: distance and steps.
        sharpness: T [...].
        smoothness: lambda [...].
        graph: None smooths nothing.
        drawn: W Y [..., q, K], of queries to labelled items.
    """
    apart = distances(settings.distance, queries, prototypes, settings.bandwidth)
    costs = each(sharpness, apart) * apart - each(smoothness, apart) * drawn
    among = None if graph is None else graph.among
    return smooth(costs, among, smoothness, iterations=settings.iterations)


def _drawn_by_support(graph: Affinity | None, targets: torch.Tensor) -> torch.Tensor | float:
    if graph is None or not graph.towards.shape[-1]:
        return 0.0
    return drawn_towards(graph.towards, targets)


def _updated(
    items: torch.Tensor,
    queries: torch.Tensor,
    weights: torch.Tensor,
    assignments: torch.Tensor,
    prototypes: torch.Tensor,
    settings: Transduction,
) -> torch.Tensor:
    if settings.prototypes == "strongest":
        return strongest(queries, assignments)
    found = moved(settings.distance, items, weights, prototypes, settings.bandwidth)
    vacant = empty(weights)
    if not vacant.any():
        return found
    apart = distances(settings.distance, queries, found, settings.bandwidth)
    return reseeded(queries, apart, found, vacant)


def warn_of(found: Found, settings: Transduction) -> None:
    """Warn where prototypes fell together, or where the energy rose.

    Args:
        found: of one problem.
        settings: that it was found with.
    """
    classes = found.assignments.shape[-1]
    unsure = torch.special.entr(found.assignments).sum(-1).mean() / math.log(max(2, classes))
    if settings.prototypes == "updated" and len(found.assignments) and classes > 1 and unsure > UNSURE:
        warnings.warn(
            "The prototypes fell together at the mean of all items, so that these are hardly told apart. A "
            f"sharpness above {settings.sharpness:g} keeps them apart.",
            stacklevel=3,
        )
    if found.rises:
        warnings.warn(
            "The energy rose in a step: the assignments may swing to and fro. psd keeps it from rising.",
            stacklevel=3,
        )


def rising(energies: torch.Tensor, items: int) -> torch.Tensor:
    """Return of which problems [...] an energy [steps + 1, ...] of n items is above the one before."""
    return (energies.diff(dim=0) > RISE * (energies[:-1].abs() + items)).any(0)
