"""Making label spaces: of edges, of embeddings, of a matrix, each checked."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from selfstudy.core.errors import DataError
from selfstudy.models.labels.spaces import (
    Between,
    EmbeddedLabels,
    LabelGraph,
    LabelMatrix,
    LabelTree,
    sparse_edges,
)

ASYMMETRY = 1e-6  # most that d(a, b) and d(b, a) may differ
LOOKED_AT = 400  # labels of a matrix whose triangles are looked at


def edges_space(
    edges: np.ndarray, lengths: np.ndarray | None = None, names: Sequence[str] = ()
) -> LabelTree | LabelGraph:
    """Return the space of a graph's nodes: a tree where it is one.

    Labels of parts that are not joined are put 2 diameters apart, the largest of the parts' diameters, which
    two sweeps of shortest paths find on trees and bound from below on other graphs.

    Args:
        edges: [E, 2], nodes from 0, once each; they go both ways.
        lengths: [E], above 0; None is 1 each.
        names: of the N nodes; none are their numbers, as many as `edges` has.

    Raises:
        DataError: an edge of a node with itself, one given twice, a length that is not above 0, or nodes
            that have no name.
    """
    edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    names = _distinct(names or tuple(map(str, range(int(edges.max(initial=0)) + 1))))
    lengths = np.ones(len(edges)) if lengths is None else np.asarray(lengths, dtype=np.float64)
    if len(edges) and (edges.min() < 0 or edges.max() >= len(names)):
        raise DataError(f"The edges name nodes from {edges.min()} to {edges.max()}; there are {len(names)}.")
    _require_edges(edges, lengths, names)
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    sparse = sparse_edges(edges, lengths, len(names))
    parts, part_of = connected_components(sparse, directed=False)
    if parts == 1 and len(edges) == len(names) - 1:
        root = int(np.setdiff1d(edges[:, 0], edges[:, 1])[0]) if len(edges) else 0
        before = breadth_first_order(sparse, root, directed=False)[1]
        parents = np.where(before < 0, -1, before).astype(np.int64)
        above = np.zeros(len(names))
        above[np.where(parents[edges[:, 1]] == edges[:, 0], edges[:, 1], edges[:, 0])] = lengths
        return LabelTree(names, parents, above)
    graph = LabelGraph(names, edges, lengths)
    if parts == 1:
        return graph
    apart = 2 * max(_diameter(graph, np.flatnonzero(part_of == part)) for part in range(parts)) or 2.0
    warnings.warn(
        f"The graph of labels falls into {parts} parts with no path between them. Their labels are put "
        f"{apart:g} apart, twice the diameter of the widest part.",
        stacklevel=2,
    )
    return dataclasses.replace(graph, apart=apart)


def embedding_space(
    vectors: np.ndarray, names: Sequence[str] = (), *, between: Between = "euclidean"
) -> EmbeddedLabels:
    """Return the space of a vector [N, d] a label.

    Raises:
        DataError: not as many vectors as names, values that are not finite, or vectors of length 0 where
            angles are compared.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or (names and len(vectors) != len(names)):
        raise DataError(
            f"There are embeddings of the shape {vectors.shape} and {len(names)} labels. Give one vector "
            "each, as [labels, width]."
        )
    bad = ~np.isfinite(vectors).all(1)
    if between != "euclidean":
        bad |= ~vectors.any(1)
    names = _distinct(names or tuple(map(str, range(len(vectors)))))
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"The embedding of label {names[first]!r} is not finite, or has the length 0, which has no "
            f"angle. It is one of {int(bad.sum())}."
        )
    return EmbeddedLabels(names, vectors, between)


def matrix_space(matrix: np.ndarray, names: Sequence[str] = ()) -> LabelMatrix:
    """Return the space of a matrix of distances [N, N].

    One that violates the triangle inequality is usable, with a warning.

    Raises:
        DataError: it is not square, or a distance is negative, not finite, not the same both ways, or from a
            label to itself and not 0. The message names the pair.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (names and len(names) != len(matrix)):
        raise DataError(
            f"The matrix of distances has the shape {matrix.shape}, with {len(names)} names of labels. Give "
            "as many rows as columns, and a name each."
        )
    names = _distinct(names or tuple(map(str, range(len(matrix)))))
    faults = {
        "is not finite": ~np.isfinite(matrix),
        "is negative": matrix < 0,
        "is that of a label to itself and must be 0": np.diag(matrix.diagonal() != 0),
        "is another than the one back": np.abs(matrix - matrix.T) > ASYMMETRY,
    }
    for fault, wrong in faults.items():
        if wrong.any():
            i, j = np.argwhere(wrong)[0]
            raise DataError(
                f"The distance {matrix[i, j]:g} from {names[i]!r} to {names[j]!r} {fault}. It is one of "
                f"{int(wrong.sum())} such."
            )
    _warn_of_triangles(matrix)
    return LabelMatrix(names, matrix)


def _require_edges(edges: np.ndarray, lengths: np.ndarray, names: tuple[str, ...]) -> None:
    _, first, times = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    faults = {
        "joins a label with itself": np.flatnonzero(edges[:, 0] == edges[:, 1]),
        "is given more than once": first[times > 1],
        "has a length that is not above 0": np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0))),
    }
    for fault, wrong in faults.items():
        if len(wrong):
            a, b = edges[wrong[0]]
            raise DataError(f"The edge from {names[a]!r} to {names[b]!r} {fault}. Mend it, or take it out.")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"The label {twice!r} is named twice. Give each label once.")
    return tuple(names)


def _diameter(graph: LabelGraph, part: np.ndarray) -> float:
    """Return the distance from the node that is farthest from the first of `part` to the farthest from it."""
    far = graph.distances(part[:1])[0, part]
    return float(graph.distances(part[far.argmax()][None])[0, part].max())


def _warn_of_triangles(matrix: np.ndarray) -> None:
    at = np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), LOOKED_AT)).astype(int))
    seen = matrix[np.ix_(at, at)]
    shortest = seen.copy()
    for middle in range(len(seen)):
        np.minimum(shortest, seen[:, middle, None] + seen[None, middle], out=shortest)
    violated = int((seen > shortest + ASYMMETRY * max(1.0, seen.max(initial=0))).sum()) // 2
    if violated:
        part = f", looking at {len(at)} of {len(matrix)} labels" if len(at) < len(matrix) else ""
        warnings.warn(
            f"The distances of {violated} pairs of labels are longer than a way round by a third label"
            f"{part}: they are no metric. They can be used all the same.",
            stacklevel=3,
        )
