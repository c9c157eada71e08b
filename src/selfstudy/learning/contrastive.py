"""Contrastive losses: two views of an input are alike, and unlike those of other inputs.

NT-Xent is that of SimCLR (Chen et al. 2020, arXiv 2002.05709), with keys from a queue that of MoCo (He et
al. 2020, arXiv 1911.05722). The losses with `IndividualTemperatures` are those of SogCLR (Yuan et al. 2022,
arXiv 2202.12387), where temperatures are fixed, and iSogCLR (Qiu et al. 2023), where they are learned. Of
these only the gradient means something, and it lacks the factor 1 / tau of NT-Xent's: their value is no
bound.

Where several processes train together, each is given its own rows and gets the loss of the whole batch; see
`selfstudy.learning.distributed`.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from selfstudy.learning.distributed import gather_rows
from selfstudy.learning.precision import full, full_precision
from selfstudy.learning.temperatures import IndividualTemperatures

Losses = dict[str, torch.Tensor]


def cosines(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each of `rows` [R, D] with each of `columns` [C, D]: [R, C], float32 or wider."""
    with full_precision(rows):
        rows, columns = (functional.normalize(full(part), dim=1) for part in (rows, columns))
        return rows @ columns.T


def negatives(batch: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return which of two views of B inputs are of different inputs: M [2B, 2B], all first views first.

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
    """Return the normalised-temperature cross-entropy of two views (SimCLR, equation 1), a mean over 2B rows.

    Args:
        first: embeddings [B, D] of one view of each input; normalised here.
        second: of the other view.
        temperature: of all rows, or of each [2B, 1].
        mask: which pairs are negatives, [2B, 2B], all first views first; `negatives(B)` unless given.
    """
    both = torch.cat((gather_rows(first), gather_rows(second)))
    rows = torch.arange(len(both), device=both.device)
    partners = rows.roll(len(both) // 2)
    kept = negatives(len(both) // 2, both.device) if mask is None else mask.clone()
    kept[rows, partners] = True
    logits = cosines(both, both) / temperature
    return functional.cross_entropy(logits.masked_fill(~kept, -torch.inf), partners)


def info_nce(
    queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the cross-entropy of telling a query's key from those in the queue (MoCo, equation 1), a mean.

    Args:
        queries: embeddings [B, D] of one view; normalised here, as all.
        keys: of the other view, [B, D].
        queue: of other inputs, [K, D].
        temperature: of all queries.
    """
    logits = _queue_cosines(queries, keys, queue) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _queue_cosines(queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each query with its own key, then with those in the queue: [B, 1 + K]."""
    queries, keys = gather_rows(queries), gather_rows(keys)
    own = functional.cosine_similarity(full(queries), full(keys), dim=1)
    return torch.cat((own[:, None], cosines(queries, queue)), dim=1)


def individual_loss(
    first: torch.Tensor,
    second: torch.Tensor,
    ids: torch.Tensor,
    temperatures: IndividualTemperatures,
    *,
    centred: bool = False,
) -> Losses:
    """Return the loss of two views with a temperature of each input, and move the temperatures.

        loss = mean_i sum_(both views r of i) (sum_c P_rc S_rc / n - S_r+),    n = 2B - 2

    Args:
        first: embeddings [B, D] of one view of each input; normalised here.
        second: of the other view.
        ids: [B], places in the data.
        temperatures: weigh negatives.
        centred: whether exponents hold S_rc - S_r+ as in the paper, or S_rc as in its authors' code. With
            normalised weights that is the same; with a moving average it is not.

    Returns:
        "loss", and for the log "temperature" and "divergence", means over the batch.
    """
    both = torch.cat((gather_rows(first), gather_rows(second)))
    batch = len(both) // 2
    compared = cosines(both, both).view(2, batch, 2 * batch)
    own = compared.flatten(0, 1).diagonal(batch).expand(2, batch)
    others = negatives(batch, both.device).view(2, batch, 2 * batch)
    if centred:
        return _pulled(compared - own[..., None], others, ids, temperatures)
    found = _pulled(compared, others, ids, temperatures)
    return {**found, "loss": found["loss"] - own.sum(0).mean()}


def queue_loss(
    queries: torch.Tensor,
    keys: torch.Tensor,
    queue: torch.Tensor,
    ids: torch.Tensor,
    temperatures: IndividualTemperatures,
) -> Losses:
    """Return the loss of queries against a queue of keys, with a temperature of each input.

    The query's own key counts among the K + 1 that are weighed; all are taken less its similarity.

    Args:
        queries: embeddings [B, D] of one view; normalised here, as all.
        keys: of the other view, [B, D].
        queue: of other inputs, [K, D].
        ids: [B], places in the data.
        temperatures: weigh keys.
    """
    logits = _queue_cosines(queries, keys, queue)
    compared = (logits - logits[:, :1])[None]
    return _pulled(compared, torch.ones_like(compared, dtype=torch.bool), ids, temperatures)


def image_text_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    ids: torch.Tensor,
    image_temperatures: IndividualTemperatures,
    text_temperatures: IndividualTemperatures,
) -> Losses:
    """Return the loss of B pairs, each side against the other sides of all pairs with its own temperatures.

    Args:
        images: embeddings [B, D]; normalised here.
        texts: of the text of each image, [B, D].
        ids: [B], places in the data.
        image_temperatures: weigh texts for an image.
        text_temperatures: weigh images for a text.

    Returns:
        "loss", and for each side "temperature" and "divergence".
    """
    similarities = cosines(gather_rows(images), gather_rows(texts))
    own = similarities.diagonal()[:, None]
    others = ~torch.eye(len(own), dtype=torch.bool, device=images.device)
    of_images = _pulled((similarities - own)[None], others, ids, image_temperatures)
    of_texts = _pulled((similarities.T - own)[None], others, ids, text_temperatures)
    loss = of_images.pop("loss") + of_texts.pop("loss")
    named = {f"image {name}": value for name, value in of_images.items()}
    return {"loss": loss, **named, **{f"text {name}": value for name, value in of_texts.items()}}


def _pulled(
    compared: torch.Tensor, counted: torch.Tensor, ids: torch.Tensor, temperatures: IndividualTemperatures
) -> Losses:
    """Return the weighed mean of h [V, B, C], summed over views: its gradient pushes negatives away."""
    ids = gather_rows(ids)
    found = temperatures.weigh(compared, counted, ids)
    loss = (found.weights * compared).sum(-1).sum(0).mean()
    return {
        "loss": loss,
        "temperature": temperatures.tau[ids].mean(),
        "divergence": found.divergence.mean(),
    }
