"""What is held out of a graph: the labels of nodes, or edges where nothing is labelled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.core.random import generator
from selfstudy.data.graphs import Graph
from selfstudy.data.image_sets import UNKNOWN

TRAIN, VALIDATION = 0.1, 0.1  # of the labelled nodes; the others are test nodes
HELD = {"validation": 0.05, "test": 0.1}  # of the edges
FEWEST_EDGES = 20  # that edges are held out of


class HeldEdges(NamedTuple):
    """Edges that a graph was robbed of, and as many pairs of nodes that never had one."""

    edges: np.ndarray  # [2, E]
    others: np.ndarray  # [2, E]


def node_splits(labels: np.ndarray, draw: int) -> dict[str, np.ndarray]:
    """Return the places of train, validation and test nodes, 10/10/80 % of the labelled ones, at random.

    Of every class at least one node is a train node.

    Raises:
        DataError: fewer than two classes, or too few labelled nodes.
    """
    known = np.flatnonzero(labels != UNKNOWN)
    if len(np.unique(labels[known])) < 2 or len(known) < 10:
        raise DataError(
            f"{len(known)} nodes of {len(np.unique(labels[known]))} classes have labels. Give at least 10 "
            "labelled nodes of two classes or more, or none, to be judged by held-out edges."
        )
    order = generator("node splits", len(labels), draw).permutation(known)
    # The first of each class in this order goes to the front.
    _, first = np.unique(labels[order], return_index=True)
    order = np.concatenate([order[np.sort(first)], np.delete(order, first)])
    ends = [max(len(first), round(TRAIN * len(order))), 0]
    ends[1] = ends[0] + max(1, round(VALIDATION * len(order)))
    parts = zip(("train", "validation", "test"), np.split(order, ends), strict=True)
    return {split: np.sort(places) for split, places in parts}


def hold_out_edges(graph: Graph, draw: int) -> tuple[Graph, dict[str, HeldEdges]]:
    """Return the graph without 15 % of the edges of each relation, and these for validation and test.

    Raises:
        DataError: it has fewer than 20 edges, or hardly any pair without one.
    """
    rng = generator("edge splits", len(graph), draw)
    kept, held = [], {split: [] for split in HELD}  # type: ignore[var-annotated]
    for edges in graph.relations:
        if edges.shape[1] < FEWEST_EDGES:
            raise DataError(
                f"The graph {graph.name!r} has a relation of {edges.shape[1]} edges. To hold some out it "
                f"takes {FEWEST_EDGES}; give more, or label nodes."
            )
        order, taken = rng.permutation(edges.shape[1]), 0
        for split, share in HELD.items():
            count = round(share * edges.shape[1])
            held[split].append(edges[:, np.sort(order[taken : taken + count])])
            taken += count
        kept.append(edges[:, np.sort(order[taken:])])
    every = {split: np.concatenate(parts, axis=1) for split, parts in held.items()}
    others = _non_edges(graph, sum(edges.shape[1] for edges in every.values()), rng)
    ends = np.cumsum([edges.shape[1] for edges in every.values()])[:-1]
    pairs = np.split(others, ends, axis=1)
    found = {split: HeldEdges(every[split], part) for split, part in zip(every, pairs, strict=True)}
    return graph.with_relations(kept), found


def _non_edges(graph: Graph, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` pairs [2, count] of different nodes without an edge in any relation."""
    nodes = len(graph)
    taken = np.unique(np.concatenate([edges[0] * nodes + edges[1] for edges in graph.relations]))
    if nodes * (nodes - 1) // 2 - len(taken) < 2 * count:
        raise DataError(f"Nearly all pairs of nodes of the graph {graph.name!r} have an edge. Label nodes.")
    found = np.zeros(0, np.int64)
    while len(found) < count:
        pairs = np.sort(rng.integers(nodes, size=(2, 2 * count)), axis=0)
        ids = pairs[0, pairs[0] < pairs[1]] * nodes + pairs[1, pairs[0] < pairs[1]]
        found = np.concatenate([found, ids[~np.isin(ids, taken)]])
    return np.stack(np.divmod(found[:count], nodes))
