"""Cell policies as Python callables: the three of the paper, and any that a user writes.

An array with a policy of the user's runs here, a cell at a time; one with the paper's policies alone runs in
`kernels`, hundreds of times faster, and leaves the same trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.random import derive

# A policy may toss its coin, so a round without a change is not yet the end: where one of four neighbours
# would do, twenty such rounds come before a last move once in 300 times, a hundred never.
IDLE_ROUNDS = 100
_BLOCK = 4096  # draws made at once


@dataclass(slots=True)
class View:
    """What a cell sees when it acts. Values are negated for a cell that sorts in decreasing order."""

    values: Sequence[float]
    """By position; not to be changed."""
    frozen: Sequence[bool]
    """By position; not to be changed."""
    movable: bool
    """Whether frozen cells may be swapped with."""
    width: int
    """Of a lattice in reading order; 0 for a line."""
    place: int = 0
    """The cell's own position."""
    coin: float = 0.0
    """Uniform in [0, 1), fresh for each activation."""
    memory: dict[str, Any] = field(default_factory=dict)
    """The cell's own, kept from one activation to the next; starts empty."""


Policy = Callable[[View], "int | None"]
"""Returns the position that the cell wants to swap with, or None. A refused swap simply does not happen."""


def bubble(view: View) -> int | None:
    """Look at a neighbour at random, and swap with it where the two are out of order."""
    quarter = int(4 * view.coin)
    step = view.width if view.width and quarter % 2 else 1
    target = view.place + step if quarter >= 2 else view.place - step
    if not 0 <= target < len(view.values):
        return None
    left, right = sorted((view.place, target))
    return target if view.values[left] > view.values[right] else None


def insertion(view: View) -> int | None:
    """Move left past larger values, once all on the left is in order but for frozen cells."""
    place, values, frozen = view.place, view.values, view.frozen
    if place == 0 or values[place] >= values[place - 1]:
        return None
    for p in range(1, place):
        if values[p - 1] > values[p] and not frozen[p - 1] and not frozen[p]:
            return None
    return place - 1


def selection(view: View) -> int | None:
    """Go to the first position whose occupant is larger; remember which ones were passed."""
    target = view.memory.setdefault("ideal", 0)
    if target == view.place or target >= len(view.values):
        return None
    skipped = view.frozen[target] and not view.movable
    if skipped or view.values[view.place] >= view.values[target]:
        view.memory["ideal"] = target + 1
        return None
    return target


PLAIN: dict[str, Policy] = {"bubble": bubble, "insertion": insertion, "selection": selection}


def schedule(key: int, n: int, *, uniform: bool) -> Iterator[tuple[int, float]]:
    """Yield which of n cells acts next, and its coin, without end; as `kernels.act` has it with this key."""
    order, slot, start = list(range(n)), 0, 0
    while True:
        for number in derive(np.array(key, np.uint64), np.arange(start, start + _BLOCK)).tolist():
            upper, coin = number >> 32, (number & 0xFFFFFFFF) / 2**32
            if uniform:
                yield upper * n >> 32, coin
                continue
            other = slot + (upper * (n - slot) >> 32)
            order[other], order[slot] = order[slot], order[other]
            yield order[slot], coin
            slot = (slot + 1) % n
        start += _BLOCK


def simulate_policies(
    policies: Sequence[Policy],
    values: Sequence[float],
    falling: Sequence[bool],
    frozen: Sequence[bool],
    *,
    movable: bool,
    uniform: bool,
    width: int,
    key: int,
    most: int,
) -> tuple[np.ndarray, tuple[int, int, int, int], bool]:
    """Run the policies of one array; all arguments are by cell.

    Ends when nothing, no position and no memory, has changed for IDLE_ROUNDS rounds of n activations.

    Returns:
        (swaps [S, 2], counts as in `Counts` without comparisons, whether it was cut off after `most`).

    Raises:
        UsageError: a policy wants to swap with something that is no position.
    """
    n = len(values)
    at, damage = list(range(n)), list(frozen)
    turned = {sign: [sign * value for value in values] for sign in (1, -1)}
    views = [View(turned[-1 if falling[c] else 1], damage, movable, width, place=c) for c in range(n)]
    swaps: list[tuple[int, int]] = []
    idle = steps = wishes = 0
    turns = schedule(key, n, uniform=uniform)
    while n > 1 and steps < most and idle < IDLE_ROUNDS * n:
        c, coin = next(turns)
        steps, idle = steps + 1, idle + 1
        view = views[c]
        if damage[view.place]:
            continue
        view.coin, before = coin, dict(view.memory)
        target = policies[c](view)
        idle = idle if view.memory == before else 0
        if target is None:
            continue
        p, q = view.place, _position(target, view)
        wishes += 1
        if damage[q] and not movable:
            continue
        for row in (at, damage, *turned.values()):
            row[p], row[q] = row[q], row[p]  # type: ignore[index]
        views[at[p]].place, views[at[q]].place = p, q
        swaps.append((p, q))
        idle = 0
    cut = n > 1 and idle < IDLE_ROUNDS * n
    return np.array(swaps, np.int32).reshape(-1, 2), (steps, 0, wishes, len(swaps)), cut


def _position(target: Any, view: View) -> int:
    n = len(view.values)
    if not isinstance(target, int | np.integer) or not 0 <= target < n or target == view.place:
        raise UsageError(
            f"The policy of the cell at position {view.place} wants to swap with {target!r}. It must return "
            f"another position from 0 to {n - 1}, or None."
        )
    return int(target)
