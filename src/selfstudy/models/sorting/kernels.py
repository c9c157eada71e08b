"""The compiled loops of the sorting simulator: cells, the classical algorithms, and replays of swaps.

All arrays are NumPy's; cells are numbered by their first position. Their values are dense ranks, for order
and ties are all that matters. Everything compiled is in this one file: the compiler's cache does not notice
a change in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BUBBLE, INSERTION, SELECTION = 0, 1, 2
NOTHING, ADVANCE = -1, -2  # what a cell may want instead of a place: nothing, or to look one place further
ACTIVATIONS, COMPARISONS, WISHES, SWAPS = 0, 1, 2, 3  # places in an array of counts
CELL = np.dtype(
    [("value", "i4"), ("place", "i4"), ("ideal", "i4"), ("kind", "i1"), ("falling", "i1"), ("frozen", "?")],
    align=True,
)
"""A cell: its rank, position and memory; its policy, whether it sorts in decreasing order, its damage."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def ranks(values: np.ndarray) -> np.ndarray:
    """Return dense ranks, int32: equal numbers for equal values, larger ones for larger values.

    >>> ranks(np.array([3.5, -1.0, 3.5])).tolist()
    [1, 0, 1]
    """
    return np.unique(values, return_inverse=True)[1].astype(np.int32)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile on first use, and keep the machine code on disk where some folder for it can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(nogil=True)(function)


@_compiled
def _mix(x):
    """Finaliser of splitmix64, as in `selfstudy.core.random`."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_compiled
def _below(number, n):
    """Return a number in 0 .. n-1 from the upper half of 64 random bits."""
    return np.int64(((number >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@_compiled
def act(cells, at, order, ordered, clock, counts, swaps, movable, uniform, width, key, most):
    """Let cells act one after the other until none can change anything, or `swaps` is full.

    The parts are functions inside, which the compiler merges: handing arrays to a function of its own, or
    changing what a name stands for within the loop, takes longer than all that an activation does.

    Args:
        cells: [n] of type CELL; changed, as is all up to `swaps`.
        at: [n] the cell at each position.
        order: [n] the cells in the order of this round.
        ordered: [2] how far all is known to be in order, for increasing and for decreasing cells; from 1.
        clock: [2] the place in the round, and activations since something changed.
        counts: [4] what has been done, at ACTIVATIONS, COMPARISONS, WISHES and SWAPS.
        swaps: [S, 2] int32, is filled with pairs of positions.
        movable: whether frozen cells may be swapped by others.
        uniform: a random cell each time; otherwise each cell once a round, in a fresh random order.
        width: of a lattice in reading order, where Bubble cells have neighbours above and below too; or 0.
        key: uint64, of the stream; activation t takes its draw t.
        most: activations in all.

    Returns:
        (how many swaps there are in `swaps`, whether no cell can change anything any more).
    """
    n = len(cells)

    def in_order(upto, falling):
        """Tell whether positions before `upto` are in order; pairs with a frozen cell count as in order.

        Pairs before `ordered[falling]` are known to be. A swap sets it back, and it moves on only as far as
        somebody looks, so that a look costs a few steps, not O(n).
        """
        p = ordered[falling]
        while p < upto:
            left, right = cells[at[p - 1]], cells[at[p]]
            down = left.value < right.value if falling else left.value > right.value
            if down and not left.frozen and not right.frozen:
                break
            p += 1
        ordered[falling] = p
        return p >= upto

    def wish(c, bits):
        """Return the position that cell `c` wants to swap with, NOTHING or ADVANCE; `bits` are its coin."""
        cell = cells[c]
        p, target, found = cell.place, -1, NOTHING
        if cell.kind == BUBBLE:
            step = width if width > 0 and bits & 1 else 1
            target = p + step if bits & 2 else p - step
        elif cell.kind == INSERTION:
            if p > 0 and in_order(p, cell.falling):
                target = p - 1
        elif cell.ideal != p:
            target = cell.ideal  # past the end there is nobody left to look at
        if 0 <= target < n:
            counts[COMPARISONS] += 1
            other = cells[at[target]]
            less = other.value < cell.value if cell.falling else cell.value < other.value
            more = other.value > cell.value if cell.falling else cell.value > other.value
            if cell.kind == SELECTION:
                found = target if less and (movable or not other.frozen) else ADVANCE
            elif more if target > p else less:
                found = target
        return found

    def swap(p, q):
        c, o = at[p], at[q]
        at[p], at[q] = o, c
        cells[c].place, cells[o].place = q, p
        least = max(1, min(p, q))
        ordered[0], ordered[1] = min(ordered[0], least), min(ordered[1], least)

    def settled():
        """Tell whether no cell can change anything, whatever its coin."""
        comparisons = counts[COMPARISONS]
        still = True
        for c in range(n):
            for bits in range(4 if cells[c].kind == BUBBLE else 1):
                target = NOTHING if cells[c].frozen else wish(c, bits)
                if target == ADVANCE or (target >= 0 and (movable or not cells[at[target]].frozen)):
                    still = False
            if not still:
                break
        counts[COMPARISONS] = comparisons
        return still

    base = _mix(key + _GOLDEN)
    slot, idle, done = clock[0], clock[1], 0
    while done < len(swaps) and counts[ACTIVATIONS] < most:
        number = _mix(base + np.uint64(counts[ACTIVATIONS] + 1) * _GOLDEN)  # core.random.derive(key, t)
        counts[ACTIVATIONS] += 1
        if uniform:
            c = _below(number, n)
        else:  # Fisher and Yates, a step an activation
            other = slot + _below(number, n - slot)
            c = order[other]
            order[other], order[slot] = order[slot], c
            slot = slot + 1 if slot + 1 < n else 0
        target = NOTHING if cells[c].frozen else wish(c, np.int64((number >> np.uint64(30)) & np.uint64(3)))
        counts[WISHES] += target >= 0
        idle += 1
        if target == ADVANCE:
            cells[c].ideal += 1
            idle = 0
        elif target >= 0 and (movable or not cells[at[target]].frozen):
            swaps[done, 0], swaps[done, 1] = cells[c].place, target
            swap(cells[c].place, target)
            done += 1
            idle = 0
        if idle == n:
            idle = 0
            if settled():
                break
    clock[:] = slot, idle
    counts[SWAPS] += done
    return done, settled()


@_compiled
def sort_top_down(kind, values, frozen, movable, swaps):
    """Sort as a controller does that moves the cells of an array, some of which are broken.

    A swap is refused when the cell that is to be moved is frozen (of a pair out of order: Bubble the left
    one, Insertion the one that is inserted, Selection the least of the rest), and without `movable` when
    either is. Fills `swaps` [S, 2] as far as it reaches and returns counts [4]; the body of the loop is an
    activation.
    """
    n = len(values)
    at, counts = np.arange(n), np.zeros(4, np.int64)
    for i in range(n):
        if kind == BUBBLE:
            first, last, step = 0, n - 1 - i, 1
        elif kind == INSERTION:
            first, last, step = i, 0, -1
        else:
            first, last, step = i, i + 1, 1
        for j in range(first, last, step):
            counts[ACTIVATIONS] += 1
            if kind == BUBBLE:
                mover, other = j, j + 1
                wanted = values[at[j]] > values[at[j + 1]]
                counts[COMPARISONS] += 1
            elif kind == INSERTION:
                mover, other = j, j - 1
                wanted = values[at[j]] < values[at[j - 1]]
                counts[COMPARISONS] += 1
            else:
                mover, other = i, i
                for k in range(i + 1, n):
                    mover = k if values[at[k]] < values[at[mover]] else mover
                counts[COMPARISONS] += n - 1 - i
                wanted = mover != other
            if wanted:
                counts[WISHES] += 1
            if wanted and not frozen[at[mover]] and (movable or not frozen[at[other]]):
                at[mover], at[other] = at[other], at[mover]
                if counts[SWAPS] < len(swaps):
                    swaps[counts[SWAPS], 0], swaps[counts[SWAPS], 1] = mover, other
                counts[SWAPS] += 1
            elif kind == INSERTION:
                break
    return counts


@_compiled
def _counts_pair(left, right, equal):
    return left == right if equal else left > right


@_compiled
def pairs_over_time(of_cells, swaps, equal):
    """Count neighbours that are `equal`, or whose left one is larger, before and after each swap: [S + 1]."""
    n, steps = len(of_cells), len(swaps)
    now, found = of_cells.copy(), np.empty(steps + 1, np.int64)
    count = 0
    for p in range(1, n):
        count += _counts_pair(now[p - 1], now[p], equal)
    found[0] = count
    for step in range(steps):
        low, high = min(swaps[step, 0], swaps[step, 1]), max(swaps[step, 0], swaps[step, 1])
        for change in (-1, 1):
            if change == 1:
                now[low], now[high] = now[high], now[low]
            # The pairs that end at low, low + 1, high and high + 1; the middle two are one for neighbours.
            for p in range(max(low, 1), low + 2):
                count += change * _counts_pair(now[p - 1], now[p], equal)
            for p in range(max(high, low + 2), min(high + 2, n)):
                count += change * _counts_pair(now[p - 1], now[p], equal)
        found[step + 1] = count
    return found


@_compiled
def replay(n, swaps):
    """Return the cell at each position after all swaps, [n]."""
    at = np.arange(n)
    for step in range(len(swaps)):
        p, q = swaps[step, 0], swaps[step, 1]
        at[p], at[q] = at[q], at[p]
    return at
