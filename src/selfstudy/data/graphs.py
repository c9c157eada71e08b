"""Graphs whose nodes have features, cleaned: undirected, every edge once, no loops, no missing numbers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import sparse

from selfstudy.core.errors import DataError
from selfstudy.core.random import generator
from selfstudy.data.image_sets import UNKNOWN

Features = Any  # np.ndarray or scipy.sparse.csr_array, [N, F]; scipy has no types of its own


SPARSE = 0.1  # share of features that are not 0


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes with features, and one or several relations between them.

    Attributes:
        name: of the graph.
        features: [N, F], float32; an array, or CSR where most are 0.
        relations: the edges of each relation, [2, E], int64: each undirected edge once, the smaller node
            first, in order.
        labels: [N], int64, from 0; `UNKNOWN` where there is none.
        classes: the names of the labels; none where nothing is labelled.
        nodes: the ids of the nodes as their owner calls them; none where they are numbered from 0.
        removed: what cleaning removed or changed, by kind, over all relations.
    """

    name: str
    features: Features
    relations: tuple[np.ndarray, ...]
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    removed: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def edges(self) -> np.ndarray:
        """The edges [2, E] of the first relation."""
        return self.relations[0]

    def unlabelled(self) -> Graph:
        """Return the graph without its labels."""
        return replace(self, labels=np.full(len(self), UNKNOWN), classes=())

    def with_relations(self, relations: Sequence[np.ndarray]) -> Graph:
        """Return the graph with other edges between its nodes."""
        return replace(self, relations=tuple(relations))


def cleaned(
    name: str,
    features: Any,
    relations: Sequence[Any],
    *,
    labels: Any = None,
    classes: Sequence[str] = (),
    nodes: Sequence[str] = (),
) -> Graph:
    """Return a graph of arrays as they come.

    Loops and repeated edges are removed, and a warning counts them. Edges that are listed one way only, among
    others that are listed both ways, are made undirected, with a warning. Nodes without edges and graphs in
    several pieces are left as they are.

    Args:
        name: of the graph.
        features: [N, F] numbers, an array or any sparse matrix of scipy.
        relations: of each relation the edges [2, E], numbered from 0.
        labels: [N], from 0, below 0 where unknown; None where nothing is labelled.
        classes: the names of the labels; their numbers, if not given.
        nodes: ids of the nodes.

    Raises:
        DataError: features that are no finite numbers (names row and column) or all 0, a node that is not
            there, no edges, or labels that are not one a node.
    """
    found = _features(name, features)
    count = found.shape[0]
    removed = {"loops": 0, "repeated": 0, "one way": 0}
    kept = tuple(_edges(name, edges, count, removed) for edges in relations)
    if not any(edges.shape[1] for edges in kept):
        raise DataError(f"The graph {name!r} has no edges between different nodes. Give its edges.")
    told = [f"{number} {kind}" for kind, number in removed.items() if number]
    if told:
        warnings.warn(
            f"Edges of the graph {name!r} were cleaned ({', '.join(told)}): loops and repetitions are "
            "removed, and edges that go one way are taken to go both ways.",
            stacklevel=2,
        )
    known = np.full(count, UNKNOWN) if labels is None else np.asarray(labels).astype(np.int64)
    known = np.where(known < 0, UNKNOWN, known)
    if known.shape != (count,):
        raise DataError(f"The graph {name!r} has {count} nodes, but its labels have the shape {known.shape}.")
    classes = tuple(classes) or tuple(str(label) for label in range(known.max() + 1))
    return Graph(name, found, kept, known, classes, tuple(nodes), removed)


def few_filled(values: np.ndarray) -> Features:
    """Return features [N, F] in CSR form where fewer than a tenth of them are not 0, else as they are."""
    return sparse.csr_array(values) if np.count_nonzero(values) < SPARSE * values.size else values


def _features(name: str, features: Any) -> Features:
    if sparse.issparse(features):
        matrix = sparse.csr_array(features).astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(matrix.data))
        row = int(np.searchsorted(matrix.indptr, wrong[0], side="right")) - 1 if len(wrong) else 0
        column = int(matrix.indices[wrong[0]]) if len(wrong) else 0
    else:
        matrix = np.asarray(features, dtype=np.float32)
        if matrix.ndim != 2 or not matrix.size:
            raise DataError(
                f"The features of the graph {name!r} have the shape {matrix.shape}; give [N, F], a row a "
                "node."
            )
        wrong = np.flatnonzero(~np.isfinite(matrix).ravel())
        row, column = divmod(int(wrong[0]), matrix.shape[1]) if len(wrong) else (0, 0)
    if len(wrong):
        raise DataError(
            f"Node {row} of the graph {name!r} has no finite number in feature {column} ({len(wrong)} such "
            "cells in all). Fill them in, or leave the feature out."
        )
    if not (matrix.data if sparse.issparse(matrix) else matrix).any():
        raise DataError(
            f"All features of the graph {name!r} are 0, so nodes cannot be told apart. Give features, or "
            "take one feature a node with features=identity."
        )
    return matrix


def _edges(name: str, edges: Any, count: int, removed: dict[str, int]) -> np.ndarray:
    """Return the edges [2, E] once each, in order; add to `removed`."""
    edges = np.asarray(edges, dtype=np.int64)
    if edges.ndim != 2 or edges.shape[0] != 2:
        raise DataError(f"The edges of the graph {name!r} have the shape {edges.shape}; give [2, E].")
    wrong = np.flatnonzero(((edges < 0) | (edges >= count)).any(0))
    if len(wrong):
        pair = edges[:, wrong[0]]
        node = pair[(pair < 0) | (pair >= count)][0]
        raise DataError(
            f"Edge {wrong[0]} of the graph {name!r} names the node {node}, but its {count} nodes are "
            f"numbered 0 to {count - 1}. Give features of all nodes, or take the edge out."
        )
    loops = edges[0] == edges[1]
    directed = np.unique(edges[0, ~loops] * count + edges[1, ~loops])
    first, second = np.divmod(directed, count)
    ids, ways = np.unique(np.minimum(first, second) * count + np.maximum(first, second), return_counts=True)
    removed["loops"] += int(loops.sum())
    removed["repeated"] += int((~loops).sum() - len(directed))
    # A list with every edge once is as good as one with every edge both ways; a mixture has directions.
    removed["one way"] += int((ways == 1).sum()) if (ways == 2).any() else 0
    return np.stack(np.divmod(ids, count))


def planted_blocks(
    *,
    nodes: int = 400,
    blocks: int = 4,
    inside: float = 0.08,
    outside: float = 0.02,
    features: int = 16,
    noise: float = 1.0,
    relations: int = 1,
    seed: int = 0,
) -> Graph:
    """Return a graph of blocks that are denser inside than between each other (stochastic block model).

    Args:
        nodes: N, shared evenly among the blocks.
        blocks: how many; the labels of the nodes.
        inside: probability of an edge within a block.
        outside: and between two blocks.
        features: F; of each node the unit vector of its block plus Gaussian noise.
        noise: its standard deviation.
        relations: drawn independently of each other.
        seed: names the draw.
    """
    rng = generator("planted blocks", nodes, blocks, inside, outside, features, noise, seed)
    labels = rng.permutation(np.arange(nodes) % blocks)
    centres = np.eye(blocks, features)
    values = centres[labels] + noise * rng.standard_normal((nodes, features))
    first, second = np.triu_indices(nodes, 1)
    chance = np.where(labels[first] == labels[second], inside, outside)
    drawn = [rng.random(len(first)) < chance for _ in range(relations)]
    edges = [np.stack([first[kept], second[kept]]) for kept in drawn]
    return cleaned("blocks", values, edges, labels=labels)
