"""Random views of graphs: edges dropped and features hidden, the less central the more likely.

Zhu et al. 2021, "Graph Contrastive Learning with Adaptive Augmentation", arXiv 2010.14945. Whether an edge
or a feature is kept is a function of the view's key and of its own number alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import sparse

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive, uniforms
from selfstudy.data.adjacency import Adjacency
from selfstudy.data.graphs import Features, Graph

DAMPING, ROUNDS = 0.85, 200  # of PageRank
EIGENVECTOR_ROUNDS = 200
LEAST = 1e-8  # centrality of a node without any
EDGES, COLUMNS = 0, 1  # streams of a view


class Chances(NamedTuple):
    """How likely everything is to be left out of a view."""

    edges: np.ndarray  # [E]
    columns: np.ndarray  # [F]


class View(NamedTuple):
    """One relation of a graph as it is seen."""

    adjacency: torch.Tensor  # normalised, sparse [N, N]
    columns: torch.Tensor  # [F], 1 for features that are seen, else 0


@dataclass(frozen=True, kw_only=True)
class GraphViews:
    """How views of graphs are made."""

    edges: float = 0.3
    """Mean probability that an edge is dropped."""
    columns: float = 0.2
    """Mean probability that a feature is hidden, for all nodes at once."""
    centrality: Literal["pagerank", "degree", "eigenvector", "none"] = "pagerank"
    """What makes edges and features stay; none is the same probability for all."""
    most: float = 0.7
    """Largest probability of any edge or feature."""

    def validate(self) -> None:
        """Raise a UsageError for a probability outside 0 to 1."""
        for name in ("edges", "columns", "most"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"GraphViews.{name} is {getattr(self, name)}; it must be from 0 to 1.")

    def chances(self, graph: Graph, relation: int = 0) -> Chances:
        """Return how likely each edge [E] of a relation and each feature [F] is to be left out."""
        edges = graph.relations[relation]
        central = CENTRALITIES[self.centrality](edges, len(graph)).clip(min=LEAST)
        logs = np.log(central)
        # The paper has directed edges, weighed by the node they lead to; ours lead both ways.
        return Chances(
            self._chances(logs[edges].mean(0), self.edges),
            self._chances(_column_logs(graph.features, central), self.columns),
        )

    def _chances(self, logs: np.ndarray, rate: float) -> np.ndarray:
        """Return probabilities with the mean `rate`, cut at `most`: higher for smaller logs [n]."""
        if not len(logs):
            return logs
        weights = logs.max() - logs
        mean = weights.mean()
        # Where all are equally central the mean is 0 but for rounding, and all are equally likely.
        shares = weights / mean if mean > 1e-9 else np.ones_like(weights)
        return np.minimum(shares * rate, self.most)


class RandomViews:
    """Draws views of one relation of a graph.

    Args:
        graph: what is seen.
        relation: which of its relations.
        settings: how likely everything is left out.
    """

    def __init__(self, graph: Graph, relation: int, settings: GraphViews) -> None:
        edges = graph.relations[relation]
        self.chances = settings.chances(graph, relation)
        self.adjacency = Adjacency(edges, len(graph))
        self._names = edges[0] * len(graph) + edges[1]  # an edge's stream is named by its two nodes

    def kept(self, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Return which edges [E] and which features [F] are in the view of a key, as bool."""
        of_edges = uniforms(derive(key, EDGES), self._names)
        of_columns = uniforms(derive(key, COLUMNS), np.arange(len(self.chances.columns)))
        return of_edges >= self.chances.edges, of_columns >= self.chances.columns

    def view(self, key: int) -> View:
        """Return the view of a key, such as `run.key("view", which, step)`."""
        edges, columns = self.kept(key)
        return View(self.adjacency.normalised(edges), torch.from_numpy(columns).float())


def _column_logs(features: Features, central: np.ndarray) -> np.ndarray:
    """Return log sum_v |x_vj| c(v) of each feature j; one that is nowhere is the least of all."""
    return np.log(np.asarray(central @ abs(features)).ravel().clip(min=LEAST))


def _symmetric(edges: np.ndarray, nodes: int) -> sparse.csr_array:
    pairs = np.concatenate([edges, edges[::-1]], axis=1)
    return sparse.csr_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(nodes, nodes))


def pagerank(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Return the share [N] of a random walk's time at each node; nodes without edges get what is left over.

    200 rounds with damping 0.85, as in the paper's code; the shares of the others sum to less than 1 there.
    """
    matrix = _symmetric(edges, nodes)
    degrees = matrix.sum(1).clip(min=1)
    shares = np.full(nodes, 1 / nodes)
    for _ in range(ROUNDS):
        shares = (1 - DAMPING) / nodes + DAMPING * (matrix @ (shares / degrees))
    return shares


def degree(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Return the number of edges [N] at each node."""
    return np.bincount(edges.ravel(), minlength=nodes).astype(float)


def eigenvector(edges: np.ndarray, nodes: int) -> np.ndarray:
    """Return the leading eigenvector [N] of A + I, whose sum is N; by power iteration from all ones.

    The identity leaves the eigenvectors as they are, and makes the iteration end on bipartite graphs.
    """
    matrix = _symmetric(edges, nodes)
    values = np.ones(nodes)
    for _ in range(EIGENVECTOR_ROUNDS):
        values = values + matrix @ values
        values *= nodes / values.sum()
    return values


CENTRALITIES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "pagerank": pagerank,
    "degree": degree,
    "eigenvector": eigenvector,
    "none": lambda edges, nodes: np.ones(nodes),
}
