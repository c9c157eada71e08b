"""Quasi-random search: points that fill a space of settings evenly, by Halton's sequence.

Random search with fewer gaps (Bergstra and Bengio 2012; Bousquet et al. 2017, arXiv 1706.03200): any first
points of the sequence are spread well, so that trials may be run one after the other and cut off anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from selfstudy.core.errors import UsageError
from selfstudy.core.random import stream_key

Value = float | int | str


@dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(
                f"{type(self).__name__} goes from {self.low:g} to {self.high:g}: low must be below."
            )

    def at(self, share: float) -> float:
        """Return the value after a share of the way."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A number from `low` to `high`, both above 0, whose logarithm is uniform."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low > 0:
            raise UsageError(f"LogUniform goes from {self.low:g}: a logarithm needs low above 0.")

    def at(self, share: float) -> float:
        """Return the value after a share of the way."""
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))


@dataclass(frozen=True)
class Choice:
    """One of some values, all as likely."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise UsageError("A Choice needs at least one value.")

    def at(self, share: float) -> Value:
        """Return the value after a share of the way."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


Space = Mapping[str, Uniform | Choice]
"""What may be set, by name."""


def halton_points(space: Space, count: int, *key: object) -> list[dict[str, Value]]:
    """Return points of a space by Halton's scrambled sequence; a function of `key` alone.

    Two spaces with as many settings get the same points of the unit cube for one key.

    >>> points = halton_points({"rate": LogUniform(1e-4, 1e-1)}, 4, 0)
    >>> all(1e-4 <= point["rate"] <= 1e-1 for point in points)
    True

    Args:
        space: what may be set; an empty one has a single, empty point.
        count: how many points.
        key: names the scrambling.

    Raises:
        UsageError: fewer than one point.
    """
    if count < 1:
        raise UsageError(f"A search needs at least one point, not {count}.")
    if not space:
        return [{} for _ in range(count)]
    from scipy.stats import qmc

    cube = qmc.Halton(len(space), rng=stream_key("halton", *key)).random(count)
    return [
        {name: part.at(float(share)) for (name, part), share in zip(space.items(), row, strict=True)}
        for row in cube
    ]
