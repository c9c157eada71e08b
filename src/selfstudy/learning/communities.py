"""Soft communities of a graph: found by edge density (DeCA), and contrasted with nodes (ReSC).

Li, Jing, Tong 2022, "Graph Communal Contrastive Learning", arXiv 2110.14863. N nodes, K communities,
embeddings [N, d] with rows of length 1, memberships R [N, K] whose rows sum to 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from selfstudy.data.adjacency import multiply
from selfstudy.models.encoders.communities import Similarity, similarities

EPSILON = 1e-8  # added to numbers of pairs of nodes


class Weights(NamedTuple):
    """What the community losses count beside the node contrast."""

    detection: float
    contrast: float


def edge_counts(belongs: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
    """Return F = R^T A R [K, K]; for hard R twice the edges within each community, and the edges between.

    Args:
        belongs: R [N, K].
        adjacency: A [N, N], sparse or dense, symmetric, without loops.
    """
    return belongs.T @ multiply(adjacency, belongs)


def edge_loss(belongs: torch.Tensor, adjacency: torch.Tensor, inter_weight: float) -> torch.Tensor:
    """Return DeCA as the authors' code has it: many edges within communities, few between them.

    [lambda sum(F) - (N - 1 + lambda) trace(F)] / (N (N - 1)) + trace(R^T R) / (2 N). Its best hard R is one
    community with all nodes.

    Args:
        belongs: R [N, K].
        adjacency: A [N, N].
        inter_weight: lambda, of the edges between.
    """
    nodes = len(belongs)
    counts = edge_counts(belongs, adjacency)
    edges = inter_weight * counts.sum() - (nodes - 1 + inter_weight) * counts.trace()
    return edges / (nodes * (nodes - 1)) + belongs.square().sum() / (2 * nodes)


def density_loss(belongs: torch.Tensor, adjacency: torch.Tensor, inter_weight: float) -> torch.Tensor:
    """Return DeCA by densities: of all pairs within a community many have an edge, of pairs between few.

    -(1/K) sum_k F_kk / n_k^2 + lambda / (K (K - 1)) sum_{k != l} F_kl / (n_k n_l), n_k = sum_i R_ik. The
    community of all nodes is as dense as the graph, and no more.

    Args:
        belongs: R [N, K].
        adjacency: A [N, N].
        inter_weight: lambda, of the densities between.
    """
    communities = belongs.shape[1]
    sizes = belongs.sum(0)
    densities = edge_counts(belongs, adjacency) / (torch.outer(sizes, sizes) + EPSILON)
    within = densities.trace()
    between = (densities.sum() - within) / max(1, communities - 1)
    return (inter_weight * between - within) / communities


DETECTION: dict[str, Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]] = {
    "density": density_loss,
    "edges": edge_loss,
}


class Centres(NamedTuple):
    """Where the nodes of each community lie on average, and which communities have any."""

    places: torch.Tensor  # [K, d]; 0 for an empty one
    filled: torch.Tensor  # [K], bool


def community_centres(embeddings: torch.Tensor, labels: torch.Tensor, communities: int) -> Centres:
    """Return the mean embedding of each community.

    Args:
        embeddings: [N, d]; the centres are detached from them.
        labels: [N], the community of each node.
        communities: K.
    """
    sizes = torch.bincount(labels, minlength=communities)
    sums = embeddings.new_zeros(communities, embeddings.shape[1]).index_add_(0, labels, embeddings.detach())
    return Centres(sums / sizes.clamp(min=1)[:, None], sizes > 0)


def community_contrast(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    centres: Centres,
    temperature: float,
    *,
    similarity: Similarity = "cosine",
    reweighting: float = 0.0,
) -> torch.Tensor:
    """Return ReSC: each node finds its community's centre of the other view among all of them.

    The mean of -log [e_k / (e_k + sum_{l != k} w_kl e_l)], k the node's community, e = exp(sim / tau). Under
    "rbf" w_kl = exp(-gamma |C_k - C_l|^2), under "cosine" 1. Empty communities are no negatives; the authors'
    code keeps them as a centre of zeros.

    Args:
        embeddings: h1 [N, d].
        labels: [N], of the other view.
        centres: of the other view.
        temperature: tau.
        similarity: of nodes and centres.
        reweighting: gamma.
    """
    scores = similarities(embeddings, centres.places, temperature, similarity)
    if similarity == "rbf":
        apart = (centres.places[:, None] - centres.places).square().sum(2)
        scores = scores - reweighting * apart[labels]  # 0 for a node's own
    scores = scores.masked_fill(~centres.filled, -math.inf)
    return functional.cross_entropy(scores, labels)


def contrast_with_communities(
    embedded: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    communities: int,
    temperature: float,
    *,
    similarity: Similarity = "cosine",
    reweighting: float = 0.0,
) -> torch.Tensor:
    """Return ReSC of every two views, the mean of both directions, summed over pairs of views.

    Args:
        embedded: of each view h [N, d].
        labels: of each view the community [N] of each node.
        communities: K.
        temperature: tau.
        similarity: of nodes and centres.
        reweighting: gamma.
    """
    centres = [
        community_centres(view, found, communities) for view, found in zip(embedded, labels, strict=True)
    ]
    both_ways = itertools.permutations(range(len(embedded)), 2)
    losses = [
        community_contrast(
            embedded[one],
            labels[other],
            centres[other],
            temperature,
            similarity=similarity,
            reweighting=reweighting,
        )
        for one, other in both_ways
    ]
    return torch.stack(losses).sum() / 2


def fading(epoch: float, stride: float) -> Weights:
    """Return the weights of the authors' schedule, which ends at a fifth of the stride.

    alpha = max(0, 1 - 5 epoch / stride), coef = exp(-epoch / stride): detection has alpha coef, contrast
    alpha (1 - coef). The latter is never above 0.048, whatever the stride.

    >>> [round(value, 3) for value in fading(50, 500)]
    [0.452, 0.048]
    """
    alpha = max(0.0, 1 - epoch / (0.2 * stride))
    coefficient = math.exp(-epoch / stride)
    return Weights(alpha * coefficient, alpha * (1 - coefficient))
