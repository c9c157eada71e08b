"""Items labelled together: rounds, limits, symmetries, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.learning import prototypes, transduction
from selfstudy.learning.transduction import (
    Found,
    Transduction,
    class_means,
    graph_of,
    rising,
    transduce,
    transformed,
    warn_of,
)


def problem(
    key: int, *, batch: tuple[int, ...] = (), ways: int = 4, shots: int = 2, queries: int = 24, width: int = 6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blobs: labelled items, their targets, queries."""
    rng = torch.Generator().manual_seed(key)
    centres = torch.randn(*batch, ways, width, generator=rng)
    labels = torch.arange(ways).repeat_interleave(shots)
    support = centres[..., labels, :] + 0.7 * torch.randn(*batch, len(labels), width, generator=rng)
    of = torch.arange(queries) % ways
    asked = centres[..., of, :] + 0.7 * torch.randn(*batch, queries, width, generator=rng)
    return support, functional.one_hot(labels, ways).float(), asked


def found(key: int, chosen: Transduction, **shape: int) -> Found:
    support, targets, queries = problem(key, **shape)
    return transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen))


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0, 1000.0])
def test_without_smoothness_and_update_it_is_the_nearest_prototype(sharpness: float) -> None:
    """Oracle: distances to class means, item by item, for any T."""
    support, targets, queries = problem(0)
    chosen = Transduction(smoothness=0.0, sharpness=sharpness, prototypes="fixed")
    labels = transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen)).labels
    means = [support[targets[:, k] == 1].mean(0) for k in range(4)]
    nearest = [min(range(4), key=lambda k: float((one - means[k]).norm())) for one in queries]
    assert labels.tolist() == nearest


@pytest.mark.parametrize("key", range(5))
def test_infinite_sharpness_is_lloyd_with_labelled_points(key: int) -> None:
    """Oracle: k-means in loops, labelled points staying in their cluster, from the same start."""
    support, targets, queries = problem(key)
    chosen = Transduction(smoothness=0.0, sharpness=1e6, rounds=20)
    result = transduce(support, targets, queries, chosen, graph=None)
    known, asked, labels = support.double().numpy(), queries.double().numpy(), targets.argmax(1).numpy()
    means = np.stack([known[labels == k].mean(0) for k in range(4)])
    for _ in range(20):
        nearest = ((asked[:, None] - means) ** 2).sum(2).argmin(1)
        means = np.stack(
            [np.concatenate([known[labels == k], asked[nearest == k]]).mean(0) for k in range(4)]
        )
    assert result.labels.tolist() == nearest.tolist()
    np.testing.assert_allclose(result.prototypes.numpy(), means, atol=1e-4)


def test_the_rounds_are_the_papers() -> None:
    """Oracle: the six lines of the algorithm, with a dense graph from sorted distances."""
    support, targets, queries = problem(3)
    chosen = Transduction(smoothness=0.8, sharpness=5.0, rounds=3, iterations=4)
    result = transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen))
    s, y, q = support.double(), targets.double(), queries.double()
    weights = torch.zeros(len(q), len(q), dtype=torch.float64)
    for place, one in enumerate(q):
        order = (q - one).norm(dim=1).argsort()
        weights[place, order[order != place][:3]] = 1
    weights = (weights + weights.T) / 2
    means = (y.T @ s) / y.sum(0)[:, None]
    for _ in range(3):
        a = 5 * (q[:, None] - means).square().sum(2)
        z = torch.softmax(-a, 1)
        for _ in range(4):
            z = torch.softmax(-a + 0.8 * weights @ z, 1)
        means = (y.T @ s + z.T @ q) / (y.sum(0) + z.sum(0))[:, None]
    torch.testing.assert_close(result.assignments.double(), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(result.prototypes.double(), means, atol=1e-5, rtol=0)


def test_labelled_items_in_the_graph_draw_their_neighbours() -> None:
    """Oracle: one update over all items with the rows of labelled ones put back, in dense matrices."""
    support, targets, queries = problem(5)
    chosen = Transduction(support_edges=True, prototypes="fixed", smoothness=1.2, iterations=1)
    result = transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen))
    items = torch.cat([support, queries])
    apart = torch.cdist(items, items).fill_diagonal_(torch.inf)
    weights = torch.zeros_like(apart).scatter_(1, apart.topk(3, largest=False).indices, 1.0)
    weights = (weights + weights.T) / 2
    a = 10 * torch.cdist(queries, class_means(support, targets)).square()
    drawn = weights[len(support) :, : len(support)] @ targets
    z = torch.softmax(-a + 1.2 * drawn, 1)  # the start: what labelled items add never changes
    among = weights[len(support) :, len(support) :]
    torch.testing.assert_close(result.assignments, torch.softmax(-a + 1.2 * (drawn + among @ z), 1))


def test_near_items_decide_where_the_prototype_fails() -> None:
    """Oracle: the picture: a bridge of one blob's points reaches just beyond half-way to the other blob. The
    last point is nearer to the other's label; its neighbours, all on the bridge, are not."""
    bridge = torch.tensor([[-0.8, 0.0], [-0.6, 0.0], [-0.4, 0.0], [-0.2, 0.0], [0.05, 0.0]])
    rng = torch.Generator().manual_seed(0)
    left, right = (0.1 * torch.randn(20, 2, generator=rng) + torch.tensor([x, 0.0]) for x in (-1.0, 1.0))
    support, queries = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.cat([left, bridge, right])
    truth = torch.tensor([0] * 25 + [1] * 20)
    wrong = {}
    for smoothness in (0.0, 1.0):
        chosen = Transduction(smoothness=smoothness, sharpness=2.0, prototypes="fixed")
        result = transduce(support, torch.eye(2), queries, chosen, graph=graph_of(queries, support, chosen))
        wrong[smoothness] = (result.labels != truth).nonzero()[:, 0].tolist()
    assert wrong == {0.0: [24], 1.0: []}


def test_a_one_shot_outlier_is_mended_by_the_updates() -> None:
    """Oracle: two blobs; the only label of one lies outside it, so that half of the blob is nearer to the
    other's label."""
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(60, 2, generator=rng) * 0.3 + torch.tensor([x, 0.0]) for x in (-1.0, 1.0))
    support, queries = torch.tensor([[-1.0, 0.0], [3.2, 0.0]]), torch.cat([left, right])
    truth = torch.arange(2).repeat_interleave(60)
    for chosen, least, most in (
        (Transduction(prototypes="fixed", smoothness=0.0), 0.5, 0.9),
        (Transduction(), 1.0, 1.0),
    ):
        result = transduce(support, torch.eye(2), queries, chosen, graph=graph_of(queries, support, chosen))
        assert least <= float((result.labels == truth).float().mean()) <= most


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)), st.booleans())
def test_classes_may_be_renamed(key: int, order: list[int], edges: bool) -> None:
    """Oracle: permuted targets give permuted assignments."""
    support, targets, queries = problem(key)
    chosen = Transduction(rounds=4, support_edges=edges)
    graph = graph_of(queries, support, chosen)
    plain = transduce(support, targets, queries, chosen, graph=graph)
    renamed = transduce(support, targets[:, order], queries, chosen, graph=graph)
    torch.testing.assert_close(renamed.assignments, plain.assignments[:, order], atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["squared", "gaussian", "euclidean"]))
def test_features_may_be_turned(key: int, distance: str) -> None:
    """Oracle: an orthogonal map of all features changes no assignment; in double precision, in which both
    stop at the same steps."""
    support, targets, queries = (part.double() for part in problem(key, batch=(1,)))
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(key)).double())
    chosen = Transduction(rounds=3, sharpness=2.0, distance=distance)  # type: ignore[arg-type]
    one, two = (
        transduce(s, targets, q, chosen, graph=graph_of(q, s, chosen)).assignments
        for s, q in ((support, queries), (support @ turn, queries @ turn))
    )
    torch.testing.assert_close(one, two, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kept", ["updated", "strongest", "fixed"])
@pytest.mark.parametrize("distance", ["squared", "gaussian", "euclidean", "manhattan"])
def test_a_batch_is_its_episodes_one_by_one(distance: Any, kept: Any) -> None:
    """Oracle: each episode alone, by a dense graph and by the sparse one of a single set."""
    support, targets, queries = problem(7, batch=(5,))
    chosen = Transduction(sharpness=0.7, support_edges=True, distance=distance, prototypes=kept, rounds=6)
    together = transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen))
    for place in range(5):
        for one in (slice(place, place + 1), place):
            s, q = support[one], queries[one]
            alone = transduce(s, targets, q, chosen, graph=graph_of(q, s, chosen))
            torch.testing.assert_close(together.assignments[one], alone.assignments, atol=1e-4, rtol=0)
            torch.testing.assert_close(together.prototypes[one], alone.prototypes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("distance", ["squared", "gaussian"])
def test_an_episode_that_has_settled_stays(distance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each episode alone, where a coarse limit ends them after different numbers of rounds."""
    monkeypatch.setattr(transduction, "SETTLED", {"squared": 0.25, "gaussian": 0.1}[distance])
    monkeypatch.setattr(prototypes, "STEPS", 1)
    support, targets, queries = problem(7, batch=(5,), shots=1)
    chosen = Transduction(sharpness=1.0, distance=distance)
    together = transduce(support, targets, queries, chosen, graph=graph_of(queries, support, chosen))
    rounds = set()
    for one in (slice(place, place + 1) for place in range(5)):
        s, q = support[one], queries[one]
        alone = transduce(s, targets, q, chosen, graph=graph_of(q, s, chosen))
        rounds.add(len(alone.energies))
        torch.testing.assert_close(together.prototypes[one], alone.prototypes, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.assignments[one], alone.assignments, atol=1e-5, rtol=0)
    assert len(rounds) > 1


def test_settings_of_a_batch_may_differ() -> None:
    """Oracle: each pair of smoothness and sharpness alone."""
    support, targets, queries = problem(8)
    usual = Transduction(rounds=5)
    graph = graph_of(queries, support, usual)
    smoothness, sharpness = torch.tensor([0.0, 0.5, 1.5]), torch.tensor([1.0, 5.0, 20.0])
    together = transduce(
        support, targets, queries, usual, graph=graph, smoothness=smoothness, sharpness=sharpness
    )
    for place in range(3):
        own = Transduction(rounds=5, smoothness=float(smoothness[place]), sharpness=float(sharpness[place]))
        alone = transduce(support, targets, queries, own, graph=graph)
        torch.testing.assert_close(together.assignments[place], alone.assignments, atol=1e-5, rtol=0)


def test_rounds_end_with_the_budget() -> None:
    """Oracle: 24 queries a round: 70 samples are two rounds, 20 none; two rounds are what two rounds give."""
    support, targets, queries = problem(1)
    chosen = Transduction()
    graph = graph_of(queries, support, chosen)
    meter = Meter(Budget(samples=70))
    cut = transduce(support, targets, queries, chosen, graph=graph, meter=meter)
    assert len(cut.energies) == 2 and meter.snapshot()["samples"] == 48 and meter.refused == "samples"
    two = transduce(support, targets, queries, Transduction(rounds=2), graph=graph)
    assert torch.equal(cut.assignments, two.assignments)
    with pytest.raises(BudgetSpent):
        transduce(support, targets, queries, chosen, graph=graph, meter=Meter(Budget(samples=20)))


def test_transforms() -> None:
    """Oracle: the formulas by hand; a feature at the mean has no direction, stays 0 and is named."""
    features, centre = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1.0, 5.0]]), torch.tensor([1.0, 1.0])
    assert torch.equal(transformed(features, "none", centre), features)
    torch.testing.assert_close(transformed(features[:1], "length", centre), torch.tensor([[1.0, 0.0]]))
    with pytest.warns(UserWarning, match="1 items have a feature of length 0"):
        got = transformed(features, "centred", centre)
    half = 2**-0.5
    torch.testing.assert_close(
        got,
        torch.tensor([[2 * half, -half], [0.0, 0.0], [0.0, 1.0]])
        * torch.tensor([[1 / 2.5**0.5], [1.0], [1.0]]),
    )


def test_fallen_prototypes_are_named() -> None:
    """Oracle: T = 1 on features of length 1, the commonest failure; T = 20 says nothing."""
    support, targets, queries = (
        functional.normalize(part, dim=1) if part.shape[1] == 6 else part for part in problem(2, shots=1)
    )
    for sharpness in (0.2, 20.0):
        chosen = Transduction(smoothness=0.0, sharpness=sharpness)
        result = transduce(support, targets, queries, chosen, graph=None)
        if sharpness < 1:
            with pytest.warns(UserWarning, match="fell together"):
                warn_of(result, chosen)
        else:
            warn_of(result, chosen)


def test_a_rise_of_the_energy_is_named() -> None:
    """Oracle: energies by hand, one that rises by a tenth, one by a rounding."""
    energies = torch.tensor([[2.0, -1.0], [1.0, -2.0], [1.0000001, -1.9]], dtype=torch.float64)
    assert rising(energies, 5).tolist() == [False, True]
    start = torch.tensor([[0.0], [1.0]])
    result = Found(torch.eye(2)[torch.tensor([0, 1, 0, 1, 0])], start, (energies[:, 1],))
    assert result.rises == 1
    with pytest.warns(UserWarning, match="The energy rose"):
        warn_of(result, Transduction())


def test_bad_settings() -> None:
    """Oracle: each is named."""
    for field in ("sharpness", "bandwidth", "neighbours", "rounds", "iterations"):
        with pytest.raises(UsageError, match=field):
            Transduction(**{field: 0}).validate()
    with pytest.raises(UsageError, match=r"smoothness is -0\.1; it must be 0 or more"):
        Transduction(smoothness=-0.1).validate()
    with pytest.raises(UsageError, match="psd needs symmetric"):
        Transduction(psd=True, symmetric=False).validate()


def test_too_few_items_for_the_graph() -> None:
    """Oracle: three queries have two neighbours each, which is said; one has none, and needs no word."""
    queries = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="3 items have 2 neighbours each; 3 were asked for"):
        graph = graph_of(queries, None, Transduction())
    assert graph is not None and (graph.among.to_dense() == 1 - torch.eye(3)).all()
    assert graph_of(queries[:1], None, Transduction()) is None
    assert transduction.SETTLED == 1e-5
