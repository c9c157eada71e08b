"""Communities: what they count, what they are best at, who learns from them, and the schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.data.adjacency import Adjacency
from selfstudy.data.graphs import planted_blocks
from selfstudy.evaluation.clustering import agreement
from selfstudy.learning.communities import (
    DETECTION,
    Centres,
    community_centres,
    community_contrast,
    contrast_with_communities,
    density_loss,
    edge_counts,
    edge_loss,
    fading,
)
from selfstudy.models.encoders.communities import memberships


def cliques(size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Two cliques without an edge between them: A dense, and the true community of each node."""
    labels = torch.arange(2 * size) // size
    adjacency = (labels[:, None] == labels).double()
    return adjacency.fill_diagonal_(0), labels


def hard(labels: torch.Tensor, communities: int) -> torch.Tensor:
    return functional.one_hot(labels, communities).double()


def random_graph(nodes: int, seed: int) -> np.ndarray:
    drawn = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < 0.3, 1)
    return np.stack(np.nonzero(drawn))


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(drawn, dim=1)


def test_edges_within_and_between() -> None:
    """Oracle: edges counted one by one."""
    edges = random_graph(20, 0)
    labels = torch.arange(20) % 3
    counts = edge_counts(hard(labels, 3).float(), Adjacency(edges, 20).plain())
    for one in range(3):
        for two in range(3):
            pairs = [{int(labels[u]), int(labels[v])} for u, v in edges.T]
            expected = pairs.count({one, two}) * (2 if one == two else 1)
            assert float(counts[one, two]) == expected


@pytest.mark.parametrize("loss", [density_loss, edge_loss])
def test_true_communities_are_better_than_any_swap(loss) -> None:
    """Oracle: all single changes of two cliques, tried."""
    adjacency, labels = cliques()
    best = float(loss(hard(labels, 2), adjacency, 1.0))
    for node in range(len(labels)):
        swapped = labels.clone()
        swapped[node] = 1 - swapped[node]
        assert float(loss(hard(swapped, 2), adjacency, 1.0)) > best + 1e-9


def test_one_community_of_all() -> None:
    """Oracle: by counts it is as good as two cliques without an edge between them, by densities worse."""
    adjacency, labels = cliques()
    together = torch.zeros_like(labels)
    by_counts, by_density = (
        [float(loss(hard(found, 2), adjacency, 1.0)) for found in (labels, together)]
        for loss in (edge_loss, density_loss)
    )
    assert by_counts[0] == pytest.approx(by_counts[1], abs=1e-12)
    assert by_density[0] < by_density[1] - 0.1


@pytest.mark.parametrize("form", DETECTION)
def test_sparse_equals_dense(form: str) -> None:
    """Oracle: the dense matrix, in value and gradient, to 1e-6; and the formulas as written."""
    edges, nodes = random_graph(30, 1), 30
    sparse = Adjacency(edges, nodes).plain()
    losses, gradients = [], []
    for adjacency in (sparse, sparse.to_dense()):
        logits = torch.randn(nodes, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = DETECTION[form](logits.softmax(1), adjacency, 0.7)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, logits)[0])
    R, A = logits.detach().softmax(1).double(), sparse.to_dense().double()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-6)
    assert losses[0] == pytest.approx(written(form, R, A, 0.7), abs=1e-6)


def written(form: str, R: torch.Tensor, A: torch.Tensor, inter_weight: float) -> float:
    """The losses summed community by community."""
    nodes, count = R.shape
    F = [[float(R[:, k] @ A @ R[:, m]) for m in range(count)] for k in range(count)]
    n = R.sum(0).tolist()
    others = [(k, m) for k in range(count) for m in range(count) if k != m]
    if form == "density":
        within = sum(F[k][k] / n[k] ** 2 for k in range(count)) / count
        between = sum(F[k][m] / (n[k] * n[m]) for k, m in others) / (count * (count - 1))
        return inter_weight * between - within
    intra, inter = sum(F[k][k] for k in range(count)), sum(F[k][m] for k, m in others)
    spread = float((R.T @ R).trace()) / (2 * nodes)
    return (inter_weight * inter - (nodes - 1) * intra) / (nodes * (nodes - 1)) + spread


@pytest.mark.parametrize("similarity", ["cosine", "rbf"])
def test_detection_reaches_the_centres_alone(similarity) -> None:
    """Oracle: gradients that are exactly 0, and that are not."""
    embeddings = unit(12, 3, 0).requires_grad_()
    centres = torch.randn(
        3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
    )
    adjacency = Adjacency(random_graph(12, 0), 12).plain().to_dense().double()
    belongs = memberships(embeddings.detach(), centres, 0.4, similarity)
    density_loss(belongs, adjacency, 1.0).backward()
    assert embeddings.grad is None and centres.grad.abs().max() > 1e-6
    torch.testing.assert_close(belongs.sum(1), torch.ones(12, dtype=torch.float64))


def test_memberships_by_distance() -> None:
    """Oracle: softmax of -|h - phi|^2 / tau^3, phi of length 1, node by node."""
    embeddings, centres = unit(5, 3, 0), 2 * unit(4, 3, 1)
    found = memberships(embeddings, centres, 0.7, "rbf")
    for node in range(5):
        apart = torch.stack([(embeddings[node] - c / c.norm()).square().sum() for c in centres])
        torch.testing.assert_close(found[node], (-apart / 0.7**3).softmax(0))


def test_one_community_has_nothing_to_contrast() -> None:
    """Oracle: exactly 0."""
    views, labels = [unit(6, 3, 0), unit(6, 3, 1)], [torch.zeros(6, dtype=torch.long)] * 2
    assert float(contrast_with_communities(views, labels, 1, 0.4)) == 0.0


def test_contrast_is_cross_entropy_over_centres() -> None:
    """Oracle: torch's cross-entropy over the mean embeddings, both ways."""
    views, labels = [unit(9, 4, 0), unit(9, 4, 1)], [torch.arange(9) % 3, (torch.arange(9) + 1) % 3]
    expected = 0.0
    for one, other in ((0, 1), (1, 0)):
        means = torch.stack([views[other][labels[other] == k].mean(0) for k in range(3)])
        expected += float(functional.cross_entropy(views[one] @ means.T / 0.4, labels[other])) / 2
    assert float(contrast_with_communities(views, labels, 3, 0.4)) == pytest.approx(expected, abs=1e-12)


def test_near_communities_count_more_under_rbf() -> None:
    """Oracle: the sum as written, with w_kl = exp(-gamma |C_k - C_l|^2)."""
    embeddings, labels = unit(7, 3, 0), torch.arange(7) % 3
    centres = community_centres(unit(7, 3, 1), labels, 3)
    gamma, tau, total = 2.0, 0.8, 0.0
    for node, k in enumerate(labels.tolist()):
        e = [math.exp(-float((embeddings[node] - c).square().sum()) / tau**3) for c in centres.places]
        w = [math.exp(-gamma * float((centres.places[k] - c).square().sum())) for c in centres.places]
        total -= math.log(e[k] / (e[k] + sum(w[m] * e[m] for m in range(3) if m != k)))
    found = community_contrast(embeddings, labels, centres, tau, similarity="rbf", reweighting=gamma)
    assert float(found) == pytest.approx(total / 7, abs=1e-10)


def test_empty_communities_are_no_negatives() -> None:
    """Oracle: the loss with the filled communities alone; centres without gradient."""
    embeddings = unit(6, 3, 0).requires_grad_()
    labels = torch.tensor([0, 2, 0, 2, 2, 0])
    centres = community_centres(embeddings, labels, 4)
    assert centres.filled.tolist() == [True, False, True, False] and not centres.places[1].any()
    assert not centres.places.requires_grad, "else all embeddings shrink to one point"
    found = community_contrast(embeddings, labels, centres, 0.4)
    alone = community_contrast(
        embeddings, labels // 2, Centres(centres.places[[0, 2]], centres.filled[[0, 2]]), 0.4
    )
    assert found.item() == pytest.approx(alone.item(), abs=1e-12)
    found.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_the_schedule_of_the_code() -> None:
    """Oracle: alpha = 1, 0.5, 0 and coef = 1, 0.905, 0.819 at epochs 0, 50 and 100 of stride 500."""
    for epoch, alpha, coefficient in ((0, 1.0, 1.0), (50, 0.5, 0.905), (100, 0.0, 0.819)):
        found = fading(epoch, 500)
        assert found.detection + found.contrast == pytest.approx(alpha)
        if alpha:
            assert found.detection / alpha == pytest.approx(coefficient, abs=5e-4)
    for stride in (10, 500, 1e5):
        most = max(fading(share * stride, stride).contrast for share in np.linspace(0, 0.3, 301))
        assert most == pytest.approx(0.0476, abs=2e-4), "whatever the stride"


def test_planted_blocks_are_recovered() -> None:
    """Oracle: the blocks of the draw; free memberships, the best of five starts has an NMI above 0.8."""
    graph = planted_blocks(nodes=400, blocks=4, inside=0.2, outside=0.01, seed=0)
    adjacency = Adjacency(graph.edges, 400).plain()
    found = []
    for start in range(5):
        generator = torch.Generator().manual_seed(start)
        logits = torch.randn(400, 4, generator=generator).requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            loss = density_loss(logits.softmax(1), adjacency, 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        found.append((loss.item(), agreement(graph.labels, logits.argmax(1).numpy()).nmi))
    assert min(found)[1] > 0.8
