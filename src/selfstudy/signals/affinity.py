"""Which items are near which: graphs of nearest neighbours as matrices.

A batch of sets is dense [B, n, n]; one set is sparse [n, n], of which a million rows fit into memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from selfstudy.data.adjacency import csr_tensor
from selfstudy.signals.neighbours import Backend, nearest_others

LOOSE = 1e-3  # by which a shift is larger than the eigenvalue that was found for it


class Affinity(NamedTuple):
    """How much the assignment of a query is drawn towards those of others."""

    among: torch.Tensor
    """[B, q, q] or sparse [q, q], between queries; nothing on the diagonal unless it was shifted."""
    towards: torch.Tensor
    """[B, q, s] or sparse [q, s], of queries to labelled items; s is 0 where these are not in the graph."""


def affinity(
    queries: torch.Tensor,
    neighbours: int,
    *,
    support: torch.Tensor | None = None,
    symmetric: bool = True,
    psd: bool = False,
    backend: Backend = "torch",
) -> Affinity:
    """Return the graph in which each item has weight 1 to each of its nearest neighbours.

    Args:
        queries: [B, q, d], or [q, d], for which the graph is sparse.
        neighbours: k, of each item, by Euclidean distance; from 1, below the number of items.
        support: [B, s, d] or [s, d], labelled items that are in the graph too; None leaves them out.
        symmetric: (W + W^T) / 2 in place of W.
        psd: add -(least eigenvalue) to the diagonal of `among` where that is above 0.
        backend: of the search for neighbours in one set.

    Raises:
        UsageError: more neighbours than there are other items.
    """
    items = queries if support is None else torch.cat([support, queries], -2)
    labelled = items.shape[-2] - queries.shape[-2]
    if items.dim() == 3:
        weights = _dense(items, neighbours, symmetric)
        among, towards = weights[:, labelled:, labelled:], weights[:, labelled:, :labelled]
        if psd:
            shift = (-torch.linalg.eigvalsh(among.double())[:, 0].to(among.dtype)).clamp(min=0)
            among = among + torch.diag_embed(shift[:, None].expand(among.shape[:-1]))
        return Affinity(among, towards)
    found = _sparse(items, neighbours, symmetric, backend)[labelled:]
    between, towards = found[:, labelled:], found[:, :labelled]
    if psd:
        between = between + _shift(between) * sparse.eye_array(between.shape[0], dtype=np.float32)
    return Affinity(csr_tensor(between.tocsr()), csr_tensor(towards.tocsr()))


def drawn_towards(weights: torch.Tensor, assignments: torch.Tensor) -> torch.Tensor:
    """Return b_p = sum_q w_pq z_q: [..., n, K].

    Args:
        weights: [B, n, m], or sparse [n, m].
        assignments: [..., m, K].
    """
    if weights.layout is not torch.sparse_csr:
        return weights @ assignments
    items, classes = assignments.shape[-2:]
    flat = assignments.movedim(-2, 0).reshape(items, -1)
    found = weights @ flat
    return found.view(len(found), *assignments.shape[:-2], classes).movedim(0, -2)


def _dense(items: torch.Tensor, neighbours: int, symmetric: bool) -> torch.Tensor:
    apart = torch.cdist(items, items)
    apart.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    near = apart.topk(neighbours, dim=-1, largest=False).indices
    weights = torch.zeros_like(apart).scatter_(-1, near, 1.0)
    return (weights + weights.mT) / 2 if symmetric else weights


def _sparse(items: torch.Tensor, neighbours: int, symmetric: bool, backend: Backend) -> sparse.csr_array:
    places = nearest_others(items, neighbours, backend=backend).places.numpy()
    starts = np.arange(len(places) + 1) * neighbours
    ones = np.ones(places.size, dtype=np.float32)
    weights = sparse.csr_array((ones, places.ravel(), starts), shape=(len(places),) * 2)
    return sparse.csr_array((weights + weights.T) / 2) if symmetric else weights


def _shift(weights: sparse.csr_array) -> np.float32:
    """Return how far below 0 the least eigenvalue of a symmetric matrix lies, a little more or 0."""
    from scipy.sparse.linalg import eigsh

    if weights.shape[0] < 3:
        least = np.linalg.eigvalsh(weights.toarray())[0]
    else:
        start = np.random.default_rng(0).standard_normal(weights.shape[0])
        options = {"k": 1, "which": "SA", "v0": start, "tol": LOOSE, "return_eigenvectors": False}
        least = eigsh(weights.astype(float), **options)[0]
    return np.float32(max(0.0, -(1 + 2 * LOOSE) * least))
