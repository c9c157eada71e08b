"""The compiled simulator of self-sorting arrays against a plain one with an object for each cell.

Method: the same arrays (20 of 100 cells in each condition, three broken) are sorted by both under the same
schedule: the same draws decide which cell acts when, and its coin. First the traces are compared: every swap
of every array and the number of activations must be equal, otherwise the benchmark fails. The plain
simulator is what one writes in Python first: a class for each policy, cells that hold their neighbours'
list, draws made by the block with NumPy. As the rule says, an Insertion cell looks through the cells on its
left, up to the first disorder, and then at its neighbour. It looks, as ours does, whether any cell can still
act once none has for a round. Both are timed in turn, on one thread, by processor time and by the clock; a
figure is the median of the repetitions after a warm-up, and a ratio is the median of the ratios of the
repetitions. The throughput of a condition is its activations by its time; "all" is all activations by all
time, of which Insertion has most.

It also times 100 arrays of 100 cells under every policy and damage setting, both schedulers, once.

    python benchmarks/self_sorting.py [--repetitions 5] [--arrays 20] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

from selfstudy.core.machine import hardware, versions
from selfstudy.core.random import derive
from selfstudy.data.arrays import MODES, Arrays, draw_arrays
from selfstudy.models.sorting.cells import POLICIES, SCHEDULERS, Cells
from selfstudy.models.sorting.traces import Trace

LENGTH = 100
ALL = 100  # arrays of every policy and damage
BLOCK = 4096  # draws made at once
KEYS = derive(np.uint64(0), np.arange(100_000))  # of the arrays


class Cell:
    """One element of an array: it knows its value, its place, and the list that all cells are in."""

    def __init__(self, array: list[Cell], value: float, place: int, frozen: bool, movable: bool) -> None:
        self.array, self.value, self.place = array, value, place
        self.frozen, self.movable = frozen, movable

    def act(self, coin: int) -> tuple[int, int] | bool:
        """Act; return the swap, or whether anything changed."""
        place, target = self.place, self.target(coin)
        if target is None:
            return False
        other = self.array[target]
        if other.frozen and not self.movable:
            return False
        self.array[place], self.array[target] = other, self
        self.place, other.place = target, place
        return place, target

    def target(self, coin: int) -> int | None:
        """Return the place that the cell wants to swap with."""
        raise NotImplementedError

    def can_act(self) -> bool:
        """Tell whether the cell could change anything, whatever its coin."""
        if self.frozen:
            return False
        targets = (self.target(coin) for coin in (0, 1))
        return any(t is not None and (self.movable or not self.array[t].frozen) for t in targets)


class Bubble(Cell):
    """Looks at a neighbour at random."""

    def target(self, coin: int) -> int | None:  # noqa: D102
        if coin:
            right = self.place + 1
            return right if right < len(self.array) and self.value > self.array[right].value else None
        left = self.place - 1
        return left if left >= 0 and self.value < self.array[left].value else None


class Insertion(Cell):
    """Moves left once all there is in order."""

    def target(self, coin: int) -> int | None:  # noqa: D102
        place, array, before = self.place, self.array, None
        for at in range(place):
            cell = array[at]
            if cell.frozen:
                before = None
                continue
            if before is not None and before > cell.value:
                return None
            before = cell.value
        return place - 1 if place > 0 and self.value < array[place - 1].value else None


class Selection(Cell):
    """Looks for its ideal place."""

    ideal = 0

    def act(self, coin: int) -> tuple[int, int] | bool:  # noqa: D102
        if self.advances():
            self.ideal += 1
            return True
        return super().act(coin)

    def advances(self) -> bool:
        """Tell whether the ideal place moves on."""
        if self.ideal == self.place or self.ideal >= len(self.array):
            return False
        other = self.array[self.ideal]
        return (other.frozen and not self.movable) or self.value >= other.value

    def target(self, coin: int) -> int | None:  # noqa: D102
        return None if self.ideal == self.place or self.ideal >= len(self.array) else self.ideal

    def can_act(self) -> bool:  # noqa: D102
        return not self.frozen and (self.advances() or self.target(0) is not None)


KINDS = {"bubble": Bubble, "insertion": Insertion, "selection": Selection}


def plain(kind: str, values: Sequence[float], frozen: Sequence[bool], movable: bool, key: int, uniform: bool):
    """Sort one array; return its swaps and the number of activations."""
    n = len(values)
    array: list[Cell] = []
    array.extend(KINDS[kind](array, value, at, frozen[at], movable) for at, value in enumerate(values))
    cells = list(array)
    order, swaps, idle, steps, slot = list(cells), [], 0, 0, 0
    while True:
        draws = derive(key, np.arange(steps, steps + BLOCK))
        uppers, coins = (draws >> np.uint64(32)).tolist(), (draws >> np.uint64(31) & np.uint64(1)).tolist()
        for upper, coin in zip(uppers, coins, strict=True):
            steps += 1
            if uniform:
                cell = cells[upper * n >> 32]
            else:
                other = slot + (upper * (n - slot) >> 32)
                cell = order[other]
                order[other], order[slot] = order[slot], cell
                slot = slot + 1 if slot + 1 < n else 0
            changed = False if cell.frozen else cell.act(coin)
            if changed:
                idle = 0
                if changed is not True:
                    swaps.append(changed)
            else:
                idle += 1
                if idle == n:
                    idle = 0
                    if not any(cell.can_act() for cell in cells):
                        return swaps, steps


def plain_all(kind: str, given: Arrays, cells: Cells) -> list[Any]:
    keys = cells.schedules(given).tolist()
    rows = zip(given.values.tolist(), given.frozen.tolist(), keys, strict=True)
    movable, uniform = given.mode == "movable", cells.scheduler == "uniform"
    return [plain(kind, values, frozen, movable, key, uniform) for values, frozen, key in rows]


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return processor seconds, seconds of the clock, and the result."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def require_equal(traces: list[Trace], plain_traces: list[Any], what: str) -> None:
    for at, (trace, (swaps, steps)) in enumerate(zip(traces, plain_traces, strict=True)):
        if trace.counts.activations != steps or trace.swaps.tolist() != [list(pair) for pair in swaps]:
            sys.exit(f"{what}: the traces of array {at} differ")


def compare(count: int, repetitions: int) -> dict[str, Any]:
    """Time both on every policy in both modes, with three broken cells."""
    conditions: dict[str, Any] = {}
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": []}
    for repetition in range(-1, repetitions):
        total = {"ours": np.zeros(2), "plain": np.zeros(2)}
        for kind in POLICIES:
            for mode in MODES:
                given = draw_arrays(KEYS[:count], LENGTH, broken=3, mode=mode)
                cells = Cells(kind)
                ours = timed(lambda cells=cells, given=given: cells.sort(given, threads=1))
                theirs = timed(lambda kind=kind, given=given, cells=cells: plain_all(kind, given, cells))
                if repetition < 0:
                    require_equal(ours[2], theirs[2], f"{kind}, {mode}")
                    continue
                name = f"{kind}, 3 broken, {mode}"
                found = conditions.setdefault(
                    name, {"activations": sum(t.counts.activations for t in ours[2]), "ours": [], "plain": []}
                )
                found["ours"].append(ours[:2])
                found["plain"].append(theirs[:2])
                total["ours"] += ours[:2]
                total["plain"] += theirs[:2]
        if repetition >= 0:
            for who, sums in total.items():
                seconds[who].append(tuple(sums.tolist()))
    every = sum(found["activations"] for found in conditions.values())
    conditions["all"] = {"activations": every, **seconds}
    return {name: summary(**found) for name, found in conditions.items()}


def summary(activations: int, ours: list, plain: list) -> dict[str, float]:
    cpu = [statistics.median(row[0] for row in rows) for rows in (ours, plain)]
    wall = [statistics.median(row[1] for row in rows) for rows in (ours, plain)]
    return {
        "activations": activations,
        "ours_per_millisecond": activations / cpu[0] / 1000,
        "plain_per_millisecond": activations / cpu[1] / 1000,
        "ours_cpu_seconds": cpu[0],
        "plain_cpu_seconds": cpu[1],
        "ours_seconds": wall[0],
        "plain_seconds": wall[1],
        "ratio_cpu": statistics.median(b[0] / a[0] for a, b in zip(ours, plain, strict=True)),
        "ratio": statistics.median(b[1] / a[1] for a, b in zip(ours, plain, strict=True)),
    }


def everything(count: int) -> dict[str, float]:
    """Time every policy under every damage setting and both schedulers."""

    def work() -> int:
        runs = 0
        for kind in POLICIES:
            for scheduler in SCHEDULERS:
                for mode in MODES:
                    for broken in range(4):
                        given = draw_arrays(KEYS[:count], LENGTH, broken=broken, mode=mode)
                        runs += len(Cells(kind, scheduler=scheduler).sort(given, threads=1))
        return runs

    cpu, wall, runs = timed(work)
    return {"runs": runs, "cpu_seconds": cpu, "seconds": wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--arrays", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {
        "compared": compare(options.arrays, options.repetitions),
        "every policy, damage setting and scheduler": everything(ALL),
        "arrays": options.arrays,
        "cells": LENGTH,
        "threads": 1,
        "versions": {**versions(), "numba": numba.__version__},
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
