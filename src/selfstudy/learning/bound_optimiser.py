"""Assignments that are smooth over a graph: the bound optimiser of Laplacian K-modes and LaplacianShot.

Ziko, Granger, Ben Ayed 2018, "Scalable Laplacian K-modes", and Ziko et al. 2021, arXiv 2106.09516. It works
with any costs: `smooth_logits` smooths what a classifier says.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from selfstudy.signals.affinity import drawn_towards

ITERATIONS, TOLERANCE = 20, 1e-5
FEW = 32  # classes below which torch is quicker along the other axis
LEAST = 1e-38  # of an assignment whose logarithm is taken


class Smoothed(NamedTuple):
    """Where the optimiser stopped."""

    assignments: torch.Tensor
    """Z [..., n, K]; each row sums to 1."""
    energies: torch.Tensor
    """[steps + 1, ...], float64, from softmax(-a) on; a problem that has stopped repeats its last."""


def smooth(
    costs: torch.Tensor,
    among: torch.Tensor | None,
    smoothness: float | torch.Tensor,
    *,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Smoothed:
    """Return assignments with a low cost that agree along a graph.

    z_p <- softmax(-a_p + lambda sum_q w_pq z_q) for all items at once, from softmax(-a_p). Each step
    minimises a bound on `bound_energy`, so that this never rises where W is symmetric and has no eigenvalue
    below 0. Problems are independent, and each stops by itself.

    Args:
        costs: a [..., n, K].
        among: W, [B, n, n] or sparse [n, n]; None has no edge.
        smoothness: lambda, one or [...].
        iterations: most steps.
        tolerance: a step that changes the energy by a smaller share of it is the last.
    """
    strength = each(smoothness, costs)
    assignments = softmax(-costs)
    if among is None or not strength.any():
        energy = bound_energy(assignments, costs, torch.zeros_like(costs), strength)
        return Smoothed(assignments, energy[None])
    drawn = drawn_towards(among, assignments)
    energies = [bound_energy(assignments, costs, drawn, strength)]
    going = torch.ones(costs.shape[:-2], dtype=torch.bool)
    for _ in range(iterations):
        stepped = softmax(drawn.mul_(strength).sub_(costs))
        assignments = torch.where(going[..., None, None], stepped, assignments) if going.dim() else stepped
        drawn = drawn_towards(among, assignments)
        energies.append(bound_energy(assignments, costs, drawn, strength))
        going &= (energies[-1] - energies[-2]).abs() > tolerance * energies[-2].abs()
        if not going.any():
            break
    return Smoothed(assignments, torch.stack(energies))


def smooth_logits(
    logits: torch.Tensor, among: torch.Tensor, smoothness: float, *, iterations: int = ITERATIONS
) -> torch.Tensor:
    """Return probabilities [..., n, K] of any classifier made smooth over a graph: a = -logits.

    Args:
        logits: [..., n, K].
        among: W, [B, n, n] or sparse [n, n], as `affinity` makes it.
        smoothness: lambda; 0 gives softmax(logits).
        iterations: most steps.
    """
    return smooth(-logits, among, smoothness, iterations=iterations).assignments


def bound_energy(
    assignments: torch.Tensor, costs: torch.Tensor, drawn: torch.Tensor, strength: torch.Tensor
) -> torch.Tensor:
    """Return sum_p z_p log z_p + z_p a_p - (lambda / 2) z_p (W z)_p [...], float64.

    It is the energy that the steps of `smooth` descend. The half belongs there: the steps have lambda W z,
    which is the slope of (lambda / 2) z W z.

    Args:
        assignments: Z [..., n, K].
        costs: a [..., n, K].
        drawn: W Z [..., n, K].
        strength: lambda [..., 1, 1].
    """
    logs = assignments.clamp(min=LEAST).log_()
    terms = torch.addcmul(costs + logs, drawn, -strength / 2).mul_(assignments)
    return terms.sum(-1).sum(-1, dtype=torch.float64)


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return the softmax of scores [..., n, K] over K, as `torch.softmax` does.

    Along an axis of ten numbers that are neighbours in memory torch takes ten times as long as along one
    whose numbers lie apart, of which many are worked on at once.
    """
    if scores.shape[-1] >= FEW:
        return torch.softmax(scores, -1)
    return torch.softmax(scores.mT.contiguous(), -2).mT.contiguous()


def each(value: float | torch.Tensor, costs: torch.Tensor) -> torch.Tensor:
    """Return one number, or one a problem [...], so that it multiplies [..., n, K]."""
    return torch.as_tensor(value, dtype=costs.dtype)[..., None, None]
