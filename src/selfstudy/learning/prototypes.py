"""Prototypes of clusters: how far items are from them, and where they go for given assignments.

Items [..., n, d], prototypes [..., K, d], weights [..., n, K]; leading dimensions are problems, and items
that all problems share need not have them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

STEPS, MOVED = 20, 1e-5  # of a fixed point; a largest move below this ends it
NEAR = 1e-6  # least distance that is divided by
EMPTY = 0.5  # of an item: a prototype with less is empty

Distance = Literal["squared", "gaussian", "euclidean", "manhattan"]


def squared_distances(items: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Return |x - m|^2 [..., n, K]."""
    sizes = items.square().sum(-1)[..., None] + prototypes.square().sum(-1)[..., None, :]
    return sizes.sub(items @ prototypes.mT, alpha=2).clamp_(min=0)


def distances(
    kind: Distance, items: torch.Tensor, prototypes: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    """Return F(x, m) [..., n, K].

    "squared": |x - m|^2, whose best prototypes are means. "gaussian": -exp(-|x - m|^2 / (2 h^2)), modes.
    "euclidean": |x - m|, and "manhattan": the sum of |x_j - m_j|, medians.

    Args:
        kind: of the distance.
        items: [..., n, d].
        prototypes: [..., K, d].
        bandwidth: h, of "gaussian" alone.
    """
    if kind == "manhattan":
        return torch.cdist(items, prototypes, p=1)
    squares = squared_distances(items, prototypes)
    if kind == "gaussian":
        return -torch.exp(-squares / (2 * bandwidth**2))
    return squares if kind == "squared" else squares.sqrt()


def moved(
    kind: Distance,
    items: torch.Tensor,
    weights: torch.Tensor,
    prototypes: torch.Tensor,
    bandwidth: float,
) -> torch.Tensor:
    """Return prototypes [..., K, d] at which sum_p z_pk F(x_p, m_k) is least, or less than it was.

    Args:
        kind: F.
        items: [..., n, d].
        weights: z [..., n, K], at least 0.
        prototypes: [..., K, d], where they are; an empty one stays.
        bandwidth: h.
    """
    found = UPDATES[kind](items, weights, prototypes, bandwidth)
    return torch.where(empty(weights)[..., None], prototypes, found)


def empty(weights: torch.Tensor) -> torch.Tensor:
    """Return which prototypes have less than half an item [..., K]."""
    return weights.sum(-2) < EMPTY


def strongest(items: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return for each prototype the item with the largest assignment to it [..., K, d]."""
    best = weights.argmax(-2)  # [..., K]
    if items.dim() == 2:
        return items[best]
    return items.gather(-2, best[..., None].expand(*best.shape, items.shape[-1]))


def reseeded(
    items: torch.Tensor, apart: torch.Tensor, prototypes: torch.Tensor, vacant: torch.Tensor
) -> torch.Tensor:
    """Return prototypes with the vacant ones at the items that are farthest from any.

    Args:
        items: [..., n, d].
        apart: F [..., n, K].
        prototypes: [..., K, d].
        vacant: [..., K], bool.
    """
    count = min(items.shape[-2], prototypes.shape[-2])
    far = apart.amin(-1).topk(count, dim=-1).indices  # [..., K], farthest first
    turn = (vacant.cumsum(-1) - 1).clamp(0, count - 1)
    places = far.gather(-1, turn)
    if items.dim() == 2:
        fresh = items[places]
    else:
        fresh = items.gather(-2, places[..., None].expand(*places.shape, items.shape[-1]))
    return torch.where(vacant[..., None], fresh, prototypes)


def _means(
    items: torch.Tensor, weights: torch.Tensor, prototypes: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    return (weights.mT @ items) / weights.sum(-2)[..., None].clamp(min=NEAR)


def _fixed_point(
    items: torch.Tensor,
    weights: torch.Tensor,
    prototypes: torch.Tensor,
    pull: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return where m = the mean of items, weighed by z and by how much each pulls at m, stays."""
    for _ in range(STEPS):
        before = prototypes
        prototypes = _means(items, weights * pull(squared_distances(items, before)), before, 0.0)
        if (prototypes - before).norm(dim=-1).max() < MOVED:
            break
    return prototypes


def _modes(
    items: torch.Tensor, weights: torch.Tensor, prototypes: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    """Mean shift (Fukunaga, Hostetler 1975)."""
    return _fixed_point(items, weights, prototypes, lambda squares: torch.exp(-squares / (2 * bandwidth**2)))


def _geometric_medians(
    items: torch.Tensor, weights: torch.Tensor, prototypes: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    """Weiszfeld 1937."""
    return _fixed_point(items, weights, prototypes, lambda squares: 1 / squares.sqrt().clamp(min=NEAR))


def _medians(
    items: torch.Tensor, weights: torch.Tensor, prototypes: torch.Tensor, bandwidth: float
) -> torch.Tensor:
    """The weighted median of each coordinate: the first value that half of the weight does not exceed."""
    values, order = items.sort(dim=-2)  # [..., n, d]
    found = []
    for weight in weights.unbind(-1):  # [..., n]
        shape = torch.broadcast_shapes(order.shape, (*weight.shape, 1))
        heaped = weight[..., None].expand(shape).gather(-2, order.expand(shape)).cumsum(-2)
        middle = (heaped >= heaped[..., -1:, :] / 2).int().argmax(-2, keepdim=True)
        found.append(values.expand(shape).gather(-2, middle)[..., 0, :])
    return torch.stack(found, -2)


UPDATES: dict[str, Callable[..., torch.Tensor]] = {
    "squared": _means,
    "gaussian": _modes,
    "euclidean": _geometric_medians,
    "manhattan": _medians,
}
