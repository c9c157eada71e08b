"""Curricula of inputs: how many low frequencies a network sees, and how strongly images are changed.

Wang et al. 2023, "EfficientTrain", arXiv 2211.09703, table 4; Wang et al. 2024, "EfficientTrain++",
arXiv 2405.08768.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

from selfstudy.core.errors import UsageError
from selfstudy.data.rand_augment import LARGEST

# By the side of the images: the published bands, and those that small images are trained with.
BANDS = {224: (160, 160, 160, 192, 224), 32: (20, 20, 20, 26, 32), 28: (16, 16, 20, 24, 28)}
MAGNITUDES = (1.0, 3.0, 5.0, 7.0, 9.0)
LEAST = 16  # pixels; below, a step on smaller images takes hardly less time
CLOSE = 1e-9  # sums of shares are rounded


class Stage(NamedTuple):
    """A part of the training.

    Attributes:
        share: of the steps.
        band: B, the side of what the network sees, in pixels.
        magnitude: of RandAugment, 0 to 10.
    """

    share: float
    band: int
    magnitude: float


class CurriculumSchedule:
    """What is seen after a share of the training.

        >>> schedule = CurriculumSchedule([Stage(0.5, 16, 1.0), Stage(0.5, 32, 9.0)])
        >>> schedule(0.25).band, schedule(0.5).band, schedule.cost(32)
        (16, 32, 0.625)

    Args:
        stages: in order; their shares sum to 1.

    Raises:
        UsageError: no stages, or shares that are none.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        if not stages or min(stage.share for stage in stages) <= 0:
            raise UsageError("A curriculum needs stages, each with a share of the steps above 0.")
        self.stages = tuple(stages)
        self._ends = [*itertools.accumulate(stage.share for stage in stages)]
        if not math.isclose(self._ends[-1], 1):
            raise UsageError(
                f"The shares of a curriculum's stages sum to {self._ends[-1]:g}; they must to 1."
            )

    @property
    def bands(self) -> tuple[int, ...]:
        """B of each stage."""
        return tuple(stage.band for stage in self.stages)

    def __call__(self, progress: float) -> Stage:
        """Return the stage after a share of the steps; at the end of one stage the next begins."""
        after = sum(end <= progress + CLOSE for end in self._ends[:-1])
        return self.stages[after]

    def cost(self, size: int) -> float:
        """Return the cost as a share of training on whole images, where it grows with the pixels.

        Args:
            size: H, the side of whole images in pixels.
        """
        return sum(stage.share * (stage.band / size) ** 2 for stage in self.stages)


def curriculum(
    bands: Sequence[int],
    magnitudes: Sequence[float],
    equal: Literal["steps", "cost"] = "steps",
) -> CurriculumSchedule:
    """Return a schedule of stages of one length, or of one cost.

    Args:
        bands: B of each stage.
        magnitudes: of each stage.
        equal: stages have as many "steps" (EfficientTrain), or "cost" as much where a step costs B^2
            (EfficientTrain++).

    Raises:
        UsageError: another number of magnitudes than of bands, or magnitudes that are none.
    """
    if len(bands) != len(magnitudes):
        raise UsageError(
            f"There are {len(bands)} bands and {len(magnitudes)} magnitudes; give one of each for a stage, "
            f"of which the usual curriculum has {len(MAGNITUDES)}."
        )
    if not all(0 <= magnitude <= LARGEST for magnitude in magnitudes):
        raise UsageError(f"The magnitudes {list(magnitudes)} must be from 0 to {LARGEST:g}.")
    lengths = [1.0 if equal == "steps" else band**-2 for band in bands]
    shares = [length / sum(lengths) for length in lengths]
    return CurriculumSchedule([*map(Stage, shares, bands, magnitudes)])


def usual_bands(size: int, grain: int = 1, published: Sequence[int] = ()) -> tuple[int, ...]:
    """Return the bands for images of a side: those of `BANDS`, else in proportion to the published ones.

    None is below 16 pixels, so that smaller images are seen whole.

    Args:
        size: H.
        grain: what a band must be a multiple of; bands are also even. Each is the nearest such number.
        published: bands of 224 pixels to be taken in proportion instead.

    >>> usual_bands(64), usual_bands(32, grain=4)
    ((46, 46, 46, 54, 64), (20, 20, 20, 24, 32))
    """
    in_proportion = [size * band / 224 for band in published or BANDS[224]]
    known = BANDS[size] if size in BANDS and not published else in_proportion
    unit = math.lcm(2, max(1, grain))
    least = -(-LEAST // unit) * unit
    nearest = [max(least, round(band / unit) * unit) for band in known]
    return tuple(size if known[at] == size else min(size, band) for at, band in enumerate(nearest))


def checked_bands(bands: Sequence[int], size: int, grain: int = 1, name: str = "model") -> tuple[int, ...]:
    """Return bands that a network can see, odd ones rounded down.

    Args:
        bands: B of each stage.
        size: H, of the images.
        grain: what the network's inputs must be a multiple of, such as its patch; 0 is the size alone.
        name: of the network.

    Raises:
        UsageError: bands outside 2 to H, or that the network cannot see.
    """
    if not bands or not all(2 <= band <= size for band in bands):
        raise UsageError(
            f"The bands {list(bands)} must be from 2 to {size}, the side of the images in pixels."
        )
    even = tuple(band if band == size else band // 2 * 2 for band in bands)
    if not grain and even != (size,) * len(even):
        raise UsageError(
            f"The model {name!r} takes images of one side alone, {size} pixels: take a convolutional network "
            "or a vision transformer, or --curriculum augmentation."
        )
    unit = math.lcm(2, max(1, grain))
    for band in even:
        if band != size and band % grain:
            below, above = band // unit * unit, min(size, -(-band // unit) * unit)
            near = " or ".join(str(value) for value in (below, above) if value)
            raise UsageError(
                f"The model {name!r} cannot see images of {band} pixels: give {near}, a multiple of {grain}."
            )
    if even != tuple(bands):
        warnings.warn(f"Odd bands are rounded down: {list(bands)} becomes {list(even)}.", stacklevel=2)
    if any(after < before for before, after in itertools.pairwise(even)):
        warnings.warn(
            f"The bands {list(even)} fall. A curriculum goes from low to high frequencies.", stacklevel=2
        )
    return even
