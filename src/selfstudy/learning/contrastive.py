"""Contrastive losses: two views of an image are alike, and unlike those of other images.

Chen et al. 2020, "SimCLR", arXiv 2002.05709.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def similarities(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the cosine [R, C] of each of `rows` [R, D] with each of `columns` [C, D], in float32 or wider."""
    # Autocast would take the product in bfloat16, whose cosines are off by up to 0.4 %.
    with torch.autocast(rows.device.type, enabled=False):
        rows, columns = (part if part.dtype == torch.float64 else part.float() for part in (rows, columns))
        return functional.normalize(rows, dim=1) @ functional.normalize(columns, dim=1).T


def negatives(batch: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return which of two views of B images are of different images: M [2B, 2B], all first views first.

    >>> negatives(2).int().tolist()
    [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    """
    return ~torch.eye(batch, dtype=torch.bool, device=device).repeat(2, 2)


def nt_xent(
    first: torch.Tensor,
    second: torch.Tensor,
    temperature: float | torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the normalised-temperature cross-entropy of two views (Chen et al. 2020, equation 1), a mean.

    Args:
        first: embeddings [B, D] of one view of each image; normalised here.
        second: of the other view.
        temperature: of all rows, or of each [2B, 1].
        mask: which pairs are negatives, [2B, 2B], all first views first; `negatives(B)` unless given.
    """
    batch = len(first)
    both = torch.cat((first, second))
    logits = similarities(both, both) / temperature
    partners = torch.arange(2 * batch, device=both.device).roll(batch)
    kept = negatives(batch, both.device) if mask is None else mask.clone()
    kept[torch.arange(2 * batch, device=both.device), partners] = True
    return functional.cross_entropy(logits.masked_fill(~kept, -torch.inf), partners)
