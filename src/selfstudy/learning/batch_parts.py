"""How a batch of token sequences is read in parts: rows of like length together, few enough for the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from selfstudy.learning.distributed import processes
from selfstudy.models.language.scoring import batches_by_length

Row = TypeVar("Row")

# Tokens of a part on a processor, padding included. More leave its cache between two operations; with fewer,
# the calls themselves begin to count.
CACHED_TOKENS = 1024


def batch_parts(
    rows: Sequence[Row], lengths: Sequence[int], micro_batch: int | None, device: torch.device
) -> list[list[Row]]:
    """Return a batch in parts, longest rows first; the same in every process, and each reads its share.

    Args:
        rows: of the batch.
        lengths: tokens of each row.
        micro_batch: rows of a part and process. None takes as many as fit into a processor's cache; the
            whole batch on an accelerator.
        device: where the parts are read.

    >>> batch_parts("abcd", [400, 300, 700, 200], None, torch.device("cpu"))
    [['c'], ['a', 'b'], ['d']]
    >>> batch_parts("abcd", [400, 300, 700, 200], 3, torch.device("cpu"))
    [['c', 'a', 'b'], ['d']]
    """
    if micro_batch is None and device.type == "cpu":
        return [[rows[i] for i in part] for part in batches_by_length(lengths, CACHED_TOKENS * processes())]
    longest_first = sorted(range(len(rows)), key=lambda i: (-lengths[i], i))
    size = (micro_batch or len(rows)) * processes()
    return [[rows[i] for i in longest_first[first : first + size]] for first in range(0, len(rows), size)]
