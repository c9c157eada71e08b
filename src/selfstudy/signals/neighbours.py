"""Nearest neighbours: exact, a block of queries at a time; by faiss where it is asked for."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from selfstudy.core.errors import MissingExtra, UsageError

BLOCK = 1 << 23  # distances held at a time: 32 MiB

Backend = Literal["torch", "faiss"]
Space = Literal["euclidean", "cosine"]


class Near(NamedTuple):
    """The nearest items of each query, nearest first; of equal distances the lower place first."""

    distances: torch.Tensor
    """[M, k], Euclidean: of the vectors as they are, or of the vectors brought to length 1."""
    places: torch.Tensor
    """[M, k], int64, within the known items."""


def nearest(
    known: torch.Tensor,
    queries: torch.Tensor,
    count: int,
    *,
    space: Space = "euclidean",
    backend: Backend = "torch",
) -> Near:
    """Return the `count` nearest of the known items to each query.

    Memory is bounded: besides the vectors and the result, `BLOCK` distances.

    Args:
        known: [N, d].
        queries: [M, d].
        count: k, from 1 to N.
        space: "euclidean", or "cosine": vectors brought to length 1 first, so that the order is that of the
            cosine, and its value 1 - distance^2 / 2.
        backend: "torch", or "faiss", which uses all threads and instructions that the machine has; both are
            exact and differ in rounding alone.

    Raises:
        UsageError: a count that the known items do not have.
        MissingExtra: faiss is asked for and not installed.
    """
    if not 1 <= count <= len(known):
        raise UsageError(f"{count} nearest neighbours are asked for among {len(known)} items.")
    known, queries = known.float(), queries.float()
    if space == "cosine":
        known, queries = functional.normalize(known, dim=1), functional.normalize(queries, dim=1)
    else:
        centre = known.mean(0)  # distances stay, and lose fewer digits
        known, queries = known - centre, queries - centre
    found = BACKENDS[backend](known.contiguous(), queries.contiguous(), count)
    by_place = found.places.argsort(1)
    distances = found.distances.gather(1, by_place).clamp(min=0).sqrt()
    order = distances.argsort(dim=1, stable=True)
    return Near(distances.gather(1, order), found.places.gather(1, by_place).gather(1, order))


def nearest_others(
    items: torch.Tensor, count: int, *, space: Space = "euclidean", backend: Backend = "torch"
) -> Near:
    """Return the `count` items nearest to each item, itself left out.

    Args:
        items: [N, d].
        count: k, from 1 to N - 1.
        space: as in `nearest`.
        backend: as in `nearest`.

    Raises:
        UsageError: a count that the items do not have.
        MissingExtra: faiss is asked for and not installed.
    """
    if not 1 <= count < len(items):
        raise UsageError(f"{count} nearest neighbours are asked for among {max(0, len(items) - 1)} others.")
    found = nearest(items, items, count + 1, space=space, backend=backend)
    itself = found.places == torch.arange(len(items))[:, None]
    # Among many equal items it may not be within its own nearest: then the last one goes.
    itself[:, -1] |= ~itself.any(1)
    kept = ~itself
    shape = (len(items), count)
    return Near(found.distances[kept].view(shape), found.places[kept].view(shape))


def _by_torch(known: torch.Tensor, queries: torch.Tensor, count: int) -> Near:
    """Return squared distances and places."""
    sizes = known.square().sum(1)
    squares = torch.empty(len(queries), count)
    places = torch.empty(len(queries), count, dtype=torch.int64)
    rows = max(1, BLOCK // len(known))
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        block = torch.addmm(sizes[None], part, known.T, alpha=-2)  # |x - q|^2 - |q|^2
        found = block.topk(count, dim=1, largest=False)
        squares[start : start + rows] = found.values + part.square().sum(1, keepdim=True)
        places[start : start + rows] = found.indices
    return Near(squares, places)


def _by_faiss(known: torch.Tensor, queries: torch.Tensor, count: int) -> Near:
    """Return squared distances and places."""
    try:
        import faiss
    except ImportError:
        raise MissingExtra("faiss", "search") from None
    index = faiss.IndexFlatL2(known.shape[1])
    index.add(known.numpy())
    squares, places = index.search(queries.numpy(), count)
    return Near(torch.from_numpy(squares), torch.from_numpy(places))


BACKENDS = {"torch": _by_torch, "faiss": _by_faiss}
