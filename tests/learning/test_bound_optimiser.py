"""The bound optimiser: steps by hand, the energy that falls, logits of any classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.learning.bound_optimiser import FEW, bound_energy, smooth, smooth_logits, softmax
from selfstudy.signals.affinity import affinity


def psd_problem(key: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Costs, a symmetric matrix without eigenvalues below 0, and a smoothness."""
    rng = np.random.default_rng(key)
    n, k = rng.integers(3, 30), rng.integers(2, 6)
    factor = rng.random((n, n)) * (rng.random((n, n)) < 0.3)
    costs = torch.from_numpy(rng.normal(size=(n, k)) * rng.uniform(0.1, 5)).float()
    return costs, torch.from_numpy(factor @ factor.T).float(), float(rng.uniform(0.05, 3))


def test_one_step_by_hand() -> None:
    """Oracle: three points and two classes, written out. W joins 0-1 and 1-2; a = (0, 2), (1, 1), (2, 0)."""
    costs = torch.tensor([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    among = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.5, 0.0]])
    e = np.exp
    z0 = np.array(
        [[1 / (1 + e(-2)), e(-2) / (1 + e(-2))], [0.5, 0.5], [e(-2) / (1 + e(-2)), 1 / (1 + e(-2))]]
    )
    b = np.array([z0[1], z0[0] + 0.5 * z0[2], 0.5 * z0[1]])
    top = e(-costs.numpy() + 0.7 * b)
    found = smooth(costs, among, 0.7, iterations=1)
    np.testing.assert_allclose(found.assignments.numpy(), top / top.sum(1, keepdims=True), rtol=1e-5)
    first = (z0 * np.log(z0) + z0 * costs.numpy() - 0.35 * z0 * b).sum()
    assert found.energies[0].item() == pytest.approx(first, rel=1e-6) and len(found.energies) == 2


@pytest.mark.parametrize("key", range(100))
def test_the_energy_never_rises(key: int) -> None:
    """Oracle: the bound: 100 random problems whose matrix has no eigenvalue below 0."""
    costs, among, smoothness = psd_problem(key)
    found = smooth(costs.double(), among.double(), smoothness, iterations=50, tolerance=0.0)
    assert (found.energies.diff() <= 1e-12 * found.energies[:-1].abs()).all()
    assert torch.allclose(found.assignments.sum(1), torch.ones(len(costs), dtype=torch.float64))


def test_the_energy_of_the_whole_smoothness_is_another() -> None:
    """Oracle: with lambda in place of lambda / 2, as it is printed, the energy rises somewhere among the same
    problems: the steps do not descend it."""
    risen = 0
    for key in range(100):
        costs, among, smoothness = (
            one.double() if hasattr(one, "double") else one for one in psd_problem(key)
        )
        z, energies = torch.softmax(-costs, 1), []
        for _ in range(30):
            energies.append(bound_energy(z, costs, among @ z, torch.tensor([[2 * smoothness]])))
            z = torch.softmax(-costs + smoothness * among @ z, 1)
        risen += bool((torch.stack(energies).diff() > 1e-9).any())
    assert risen > 0


def test_a_fixed_point_is_stationary() -> None:
    """Oracle: at the end the slope of the energy along the simplex is 0, by autograd."""
    costs, among, smoothness = psd_problem(1)
    costs, among = costs.double(), among.double()
    z = smooth(costs, among, smoothness, iterations=5000, tolerance=0.0).assignments
    logits = z.log().requires_grad_()
    own = torch.softmax(logits, 1)
    bound_energy(own, costs, among @ own, torch.tensor([[smoothness]])).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6


def test_it_stops_where_the_energy_settles() -> None:
    """Oracle: in a batch each problem has the assignments that it has alone, whichever stops first."""
    made = [psd_problem(key) for key in range(40)]
    made = [one for one in made if one[0].shape == made[0][0].shape] or made[:1]
    costs, among, _ = made[0]
    strengths = torch.tensor([0.0, 0.01, 3.0])
    together = smooth(costs.expand(3, *costs.shape), among.expand(3, *among.shape), strengths)
    for place, strength in enumerate(strengths):
        alone = smooth(costs, among, float(strength))
        torch.testing.assert_close(together.assignments[place], alone.assignments)
        steps = len(alone.energies)
        torch.testing.assert_close(together.energies[:steps, place], alone.energies)
        assert (together.energies[steps:, place] == together.energies[steps - 1, place]).all()


def test_the_tolerance_is_a_share_of_the_energy() -> None:
    """Oracle: the changes of a run that never stops: it ends after the first one below the share."""
    costs, among, _ = psd_problem(4)
    whole = smooth(costs, among, 2.0, iterations=30, tolerance=0.0).energies
    changes = (whole.diff() / whole[:-1]).abs()
    for tolerance in (0.1, 1e-3):
        stopped = smooth(costs, among, 2.0, iterations=30, tolerance=tolerance)
        assert len(stopped.energies) == 2 + int((changes <= tolerance).int().argmax())


def test_logits_without_edges_or_smoothness_are_softmax() -> None:
    """Oracle: softmax; with edges a point among four of another class takes theirs."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 3, generator=rng)
    torch.testing.assert_close(smooth_logits(logits, torch.zeros(9, 9), 2.0), torch.softmax(logits, 1))
    items = torch.randn(9, 2, generator=rng)
    graph = affinity(items, 2).among
    torch.testing.assert_close(smooth_logits(logits, graph, 0.0), torch.softmax(logits, 1))
    star = torch.zeros(5, 5)
    star[0, 1:] = star[1:, 0] = 1
    sure = torch.tensor([[0.5, 0.0], *[[0.0, 3.0]] * 4])
    assert sure.argmax(1).tolist() == [0, 1, 1, 1, 1]
    assert smooth_logits(sure, star, 1.0).argmax(1).tolist() == [1] * 5


@pytest.mark.parametrize("classes", [1, 2, FEW - 1, FEW, FEW + 1])
def test_softmax_along_either_axis(classes: int) -> None:
    """Oracle: torch's own; also far from 0."""
    scores = 300 * torch.randn(3, 7, classes, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(softmax(scores), torch.softmax(scores, -1))
