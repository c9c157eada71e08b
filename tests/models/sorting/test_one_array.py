from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.sorting import inversions
from selfstudy.models.sorting import policies
from selfstudy.models.sorting.one_array import POLICIES, SCHEDULERS, SelfSortingArray
from selfstudy.models.sorting.policies import PLAIN

State = tuple[tuple[int, ...], tuple[int, ...]]  # the cell at each position, the ideal position of each cell


def acts(state: State, c: int, coin: int, kind: str, values, frozen, movable: bool) -> State:
    """The paper's rules, written down once more for whole states."""
    at, ideal = state
    p = at.index(c)
    if frozen[c]:
        return state
    if kind == "bubble":
        q = p + (1 if coin else -1)
        if not 0 <= q < len(at) or (values[at[max(p, q)]] >= values[at[min(p, q)]]):
            return state
    elif kind == "insertion":
        runs, broken = [[]], False
        for o in at[:p]:
            if frozen[o]:
                runs.append([])
            else:
                runs[-1].append(values[o])
        broken = any(run != sorted(run) for run in runs)
        q = p - 1
        if p == 0 or broken or values[c] >= values[at[q]]:
            return state
    else:
        q = ideal[c]
        if q == p or q == len(at):
            return state
        if (frozen[at[q]] and not movable) or values[c] >= values[at[q]]:
            return at, tuple(i + (o == c) for o, i in enumerate(ideal))
    if frozen[at[q]] and not movable:
        return state
    new = list(at)
    new[p], new[q] = new[q], new[p]
    return tuple(new), ideal


def graph(kind: str, values, frozen, movable: bool) -> tuple[dict[State, set[State]], State]:
    """All states that some schedule reaches, with what follows each."""
    n = len(values)
    start: State = (tuple(range(n)), (0,) * n)
    found: dict[State, set[State]] = {}
    todo = [start]
    while todo:
        state = todo.pop()
        if state in found:
            continue
        found[state] = {acts(state, c, k, kind, values, frozen, movable) for c in range(n) for k in (0, 1)}
        todo += found[state]
    return found, start


def small_cases() -> Iterator[tuple[str, tuple[int, ...], tuple[bool, ...], bool]]:
    for kind, n in itertools.product(POLICIES, (2, 3)):
        for values in itertools.product(range(n), repeat=n):
            for frozen in itertools.product((False, True), repeat=n):
                for movable in (True, False):
                    yield kind, values, frozen, movable


def test_every_small_array_under_every_schedule() -> None:
    """Oracle: the rules once more, all states of all schedules of 2 and 3 cells; a run goes along to an end.

    Without damage every end is sorted.
    """
    for kind, values, frozen, movable in small_cases():
        states, state = graph(kind, values, frozen, movable)
        ends = {s[0] for s, after in states.items() if after == {s}}
        if not any(frozen):
            assert all([values[c] for c in end] == sorted(values) for end in ends)
        mode = "movable" if movable else "immovable"
        trace = SelfSortingArray(
            values, kind, frozen=np.flatnonzero(frozen), mode=mode, seed=hash(values) % 97
        ).run()
        assert not trace.truncated and tuple(trace.cells_at(len(trace.swaps))) in ends
        reached = {state}
        for step in range(1, len(trace.swaps) + 1):
            # What can be reached by looking on (memory alone changes), then the swap itself.
            todo, before = list(reached), set(reached)
            while todo:
                for after in states[todo.pop()]:
                    if after[0] == next(iter(before))[0] and after not in before:
                        before.add(after)
                        todo.append(after)
            arrangement = tuple(trace.cells_at(step))
            reached = {after for one in before for after in states[one] if after[0] == arrangement}
            assert reached, (kind, values, frozen, movable, step)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", POLICIES)
@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.integers(-5, 5), max_size=30), seed=st.integers(0, 2**64 - 1))
def test_without_damage_all_is_sorted(kind: str, scheduler: str, values: list[int], seed: int) -> None:
    """Oracle: sorted(), and for swaps of neighbours the number of inversions, whatever the schedule."""
    trace = SelfSortingArray(values, kind, scheduler=scheduler, seed=seed).run()
    assert trace.final.tolist() == sorted(values) and trace.outcome == "sorted"
    assert trace.counts.swaps == len(trace.swaps) == trace.counts.wishes
    if kind != "selection":
        assert trace.counts.swaps == inversions(values)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    n=st.integers(2, 16),
    movable=st.booleans(),
    scheduler=st.sampled_from(SCHEDULERS),
    seed=st.integers(0, 2**32),
)
def test_compiled_cells_are_the_policies_in_python(data, n, movable, scheduler, seed) -> None:
    """Oracle: the second implementation in `policies`, with mixed types, directions, damage, lattices."""
    each = {"min_size": n, "max_size": n}
    values = data.draw(st.lists(st.integers(0, 8), **each))
    types = data.draw(st.lists(st.sampled_from(POLICIES), **each))
    options = {
        "frozen": [i for i, one in enumerate(data.draw(st.lists(st.booleans(), **each))) if one],
        "mode": "movable" if movable else "immovable",
        "direction": data.draw(
            st.one_of(st.just("decreasing"), st.lists(st.sampled_from(["increasing", "decreasing"]), **each))
        ),
        "scheduler": scheduler,
        "width": data.draw(st.sampled_from([0, *(w for w in range(1, n + 1) if n % w == 0)])),
        "seed": seed,
    }
    compiled = SelfSortingArray(values, types, **options).run(1500)
    # The other one goes on to its limit, in which immovable cells may be asked again.
    plain = SelfSortingArray(values, [lambda view, p=PLAIN[name]: p(view) for name in types], **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies, "IDLE_ROUNDS", 10_000)
        found = plain.run(1500)
    assert compiled.swaps.tolist() == found.swaps.tolist()
    assert found.counts.wishes >= compiled.counts.wishes >= compiled.counts.swaps == found.counts.swaps


@settings(max_examples=60, deadline=None)
@given(
    values=st.permutations(range(12)),
    kind=st.sampled_from(POLICIES),
    scheduler=st.sampled_from(SCHEDULERS),
    frozen=st.sets(st.integers(0, 11)),
    movable=st.booleans(),
    seed=st.integers(0, 99),
)
def test_frozen_cells(values, kind, scheduler, frozen, movable, seed) -> None:
    """Oracle: who stands where after each swap; a frozen cell never is the first of a swap."""
    mode = "movable" if movable else "immovable"
    array = SelfSortingArray(values, kind, frozen=frozen, mode=mode, scheduler=scheduler, seed=seed)
    trace = array.run()
    for step, (p, q) in enumerate(trace.swaps.tolist()):
        at = trace.cells_at(step)
        assert at[p] not in frozen
        assert movable or at[q] not in frozen
    assert not trace.truncated
    if not movable:
        at = trace.cells_at(len(trace.swaps))
        assert all(at[c] == c for c in frozen)


def test_one_immovable_cell_parts_bubble_in_two() -> None:
    """Oracle: each side sorted on its own, so at most two neighbours out of order."""
    values = np.random.default_rng(0).permutation(40)
    for place in (0, 1, 17, 39):
        trace = SelfSortingArray(values, "bubble", frozen=[place], mode="immovable", seed=place).run()
        final = trace.final
        assert final[:place].tolist() == sorted(values[:place])
        assert final[place] == values[place]
        assert final[place + 1 :].tolist() == sorted(values[place + 1 :])
        assert trace.errors()[-1] <= 2


@pytest.mark.parametrize("kind", POLICIES)
def test_decreasing_is_increasing_of_negative_values(kind: str) -> None:
    """Oracle: the same swaps on the negated values; the final array is mirrored."""
    values = np.random.default_rng(1).permutation(50).astype(float)
    falling = SelfSortingArray(values, kind, direction="decreasing", frozen=[3], seed=4).run()
    rising = SelfSortingArray(-values, kind, frozen=[3], seed=4).run()
    assert falling.swaps.tolist() == rising.swaps.tolist()
    assert falling.final.tolist() == (-rising.final).tolist()
    assert falling.errors().tolist() == rising.errors().tolist()
    whole = SelfSortingArray(values, kind, direction="decreasing").run()
    assert whole.final.tolist() == sorted(values, reverse=True) and whole.outcome == "sorted"


def test_a_lattice_is_sorted_in_reading_order_with_fewer_swaps() -> None:
    """Oracle: sorted(); swaps over a whole row undo more than one inversion, so fewer are needed."""
    values = np.random.default_rng(2).permutation(144)
    line, lattice = (SelfSortingArray(values, "bubble", width=width, seed=1).run() for width in (0, 12))
    assert lattice.final.tolist() == sorted(values)
    assert lattice.counts.swaps < line.counts.swaps / 2
    assert set(np.abs(np.diff(lattice.swaps)).ravel().tolist()) == {1, 12}


def test_all_frozen_is_stuck_and_not_sorted() -> None:
    """Oracle: the definition; even values in order were not put there by the cells."""
    for values in ([2, 1], [1, 2]):
        trace = SelfSortingArray(values, "bubble", frozen=[0, 1]).run()
        assert trace.outcome == "stuck" and trace.counts.activations <= 2 and not len(trace.swaps)


@pytest.mark.parametrize("values", [[], [3.0]])
@pytest.mark.parametrize("kind", POLICIES)
def test_empty_and_single_arrays_are_sorted(values: list[float], kind: str) -> None:
    """Oracle: nothing to do."""
    trace = SelfSortingArray(values, kind).run()
    assert trace.outcome == "sorted" and trace.counts == (0, 0, 0, 0)
    assert trace.errors().tolist() == [0] and trace.sortedness().tolist() == [100.0]
    assert trace.aggregation().tolist() == [0.0]


def test_opposite_directions_are_cut_off_and_flagged() -> None:
    """Oracle: two Bubble cells that want opposite orders swap for ever."""
    trace = SelfSortingArray([1, 2], "bubble", direction=["increasing", "decreasing"]).run(500)
    assert trace.truncated and trace.outcome == "truncated" and trace.counts.activations == 500


def test_a_seed_names_the_trace() -> None:
    """Oracle: equality; another seed gives other swaps."""
    values = np.random.default_rng(3).permutation(30)
    traces = [SelfSortingArray(values, "bubble", seed=seed).run().swaps.tolist() for seed in (5, 5, 6)]
    assert traces[0] == traces[1] != traces[2]


def test_a_longer_run_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same run in one piece."""
    from selfstudy.models.sorting import one_array

    values = np.random.default_rng(4).permutation(40)
    for kind in POLICIES:
        whole = SelfSortingArray(values, kind, seed=1).run()
        monkeypatch.setattr(one_array, "_CHUNK", 7)
        parts = SelfSortingArray(values, kind, seed=1).run()
        monkeypatch.undo()
        assert parts.swaps.tolist() == whole.swaps.tolist() and parts.counts == whole.counts


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"types": "bubbel"}, UsageError, "bubble"),
        ({"types": ["bubble"]}, UsageError, "types"),
        ({"frozen": [0, 1, 2, 0]}, UsageError, "frozen"),
        ({"frozen": [3]}, UsageError, "frozen"),
        ({"mode": "fixed"}, UsageError, "movable"),
        ({"direction": "up"}, UsageError, "increasing"),
        ({"scheduler": "threads"}, UsageError, "rounds"),
        ({"width": 2}, UsageError, "width"),
        ({"values": [1.0, float("nan"), 2.0]}, DataError, "Value 2"),
        ({"values": [1.0, 2.0, float("inf")]}, DataError, "Value 3"),
        ({"values": ["a", "b"]}, DataError, "numbers"),
        ({"values": [[1, 2], [3, 4]]}, DataError, "shape"),
    ],
)
def test_bad_input(options, error, words) -> None:
    """Oracle: the kind of error and what it must name."""
    with pytest.raises(error, match=words):
        SelfSortingArray(**{"values": [3, 1, 2], **options})
