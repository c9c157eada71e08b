"""The greedy search for a curriculum of bands (Wang et al. 2023, arXiv 2211.09703, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from selfstudy.core.errors import UsageError


class Tried(NamedTuple):
    """Bands that were trained with, and the accuracy that they reached."""

    bands: tuple[int, ...]
    accuracy: float


class FoundBands(NamedTuple):
    """What a search found.

    Attributes:
        bands: of each stage.
        tried: all trainings, in order; the first is on whole images.
    """

    bands: tuple[int, ...]
    tried: tuple[Tried, ...]


def greedy_search(
    accuracy: Callable[[tuple[int, ...]], float], candidates: Sequence[int], stages: int
) -> FoundBands:
    """Return the smallest bands, stage by stage, that reach the accuracy of whole images.

        >>> found = greedy_search(lambda bands: float(bands[-1] == 32), (16, 32), stages=3)
        >>> found.bands, len(found.tried)
        ((16, 16, 32), 4)

    Bands never fall from stage to stage. The largest candidate need not be tried: with it a stage is as in
    the last training that was good enough.

    Args:
        accuracy: trains with the bands of all stages and returns what is reached, on held-out items.
        candidates: for a stage; the largest is the side of whole images.
        stages: how many.

    Raises:
        UsageError: no candidates, or no stages.
    """
    if not candidates or stages < 1:
        raise UsageError(f"A search for bands needs candidates and stages, not {list(candidates)}, {stages}.")
    *smaller, whole = sorted(set(candidates))
    bands = [whole] * stages
    tried = [Tried(tuple(bands), accuracy(tuple(bands)))]
    for stage in range(stages):
        least = bands[stage - 1] if stage else 0
        for band in (value for value in smaller if value >= least):
            asked = (*bands[:stage], band, *bands[stage + 1 :])
            tried.append(Tried(asked, accuracy(asked)))
            if tried[-1].accuracy >= tried[0].accuracy:
                bands[stage] = band
                break
    return FoundBands(tuple(bands), tuple(tried))
