"""The next token of a sequence whose tokens come with it more or less often (Tian et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.random import generator
from selfstudy.data.cooccurrence import Cooccurrence, Sequences, draw, synthetic
from selfstudy.evaluation.scores import Metric
from selfstudy.models.attention_decoder import losses, require_decoder
from selfstudy.tasks.sampled import SampledTask

LOSS = Metric(name="cross-entropy", lower_is_better=True)
_CHUNK = 256  # sequences that are measured at once


class CooccurrenceTask(SampledTask):
    """Sequences of a table P(l | m, n): T - 1 tokens of context, the last token m, and n to predict.

    Attributes:
        table: the true P(l | m, n).
        vocabulary: M.
        context: T.

    Args:
        name: the specification that makes this task again.
        table: what is drawn from.
        context: T, tokens of a sequence with the last one.
        items: test sequences.

    Raises:
        UsageError: a sequence without context, or no items.
    """

    def __init__(self, name: str, table: Cooccurrence, *, context: int = 128, items: int = 512) -> None:
        if context < 2 or items < 1:
            raise UsageError(
                f"Sequences need a last token and a token before it: context={context} must be at least 2, "
                f"and items={items} at least 1."
            )
        super().__init__(name, LOSS, items)
        self.table, self.context, self.vocabulary = table, context, table.vocabulary

    def batch(self, size: int, rng: np.random.Generator) -> Sequences:
        """Return `size` training sequences."""
        return draw(self.table, size, self.context, rng)

    def measure(self, model: Any, split: str, count: int) -> Sequence[float]:
        """Return the cross-entropy of each of `count` sequences, in nats."""
        require_decoder(model, self)
        # All are drawn, so that a smaller evaluation is the beginning of a larger one.
        drawn = draw(self.table, self.items, self.context, generator("cooccurrence", split))
        return mean_losses(model, Sequences(*(part[:count] for part in drawn)))

    def held_out(self, count: int) -> Sequences:
        """Return `count` sequences of the validation stream."""
        return draw(self.table, count, self.context, generator("cooccurrence", "validation"))


def mean_losses(model: Any, sequences: Sequences) -> Sequence[float]:
    """Return the mean cross-entropy of each sequence, in nats."""
    with torch.no_grad():
        chunks = zip(*(part.split(_CHUNK) for part in sequences), strict=True)
        return torch.cat([losses(model, *chunk).mean(1) for chunk in chunks]).tolist()


def cooccurrence(
    *,
    last: int = 2,
    next: int = 1,
    common: int = 10,
    own: int = 10,
    least: float = 0.1,
    most: float = 1.0,
    context: int = 128,
    items: int = 512,
) -> CooccurrenceTask:
    """Return the synthetic task; fields as in `data.cooccurrence.synthetic` and `CooccurrenceTask`."""
    table = synthetic(last=last, next=next, common=common, own=own, least=least, most=most)
    name = (
        f"cooccurrence?last={last}&next={next}&common={common}&own={own}&least={least}&most={most}"
        f"&context={context}&items={items}"
    )
    return CooccurrenceTask(name, table, context=context, items=items)
