from __future__ import annotations

import numpy as np
import pytest

from selfstudy.core.files import as_read
from selfstudy.core.random import derive
from selfstudy.data.arrays import draw_arrays
from selfstudy.evaluation.sorting_experiments import Mixture, damage_experiment, held_to, mixture_experiment
from selfstudy.evaluation.sorting_pictures import damage_pictures, mixture_pictures, sorting_picture
from selfstudy.models.sorting.cells import Cells, sort_mixed
from selfstudy.models.sorting.one_array import SelfSortingArray
from selfstudy.models.sorting.top_down import TopDown

ARRAYS = draw_arrays(derive(np.array(11, np.uint64), np.arange(20)), 20)


def test_both_sort_the_same_arrays() -> None:
    """Oracle: the models called by themselves; the gain is the mean of paired differences."""
    arrays, cells = ARRAYS.damaged(2, "movable"), Cells("selection", seed=3)
    found = damage_experiment(arrays, cells)
    own = [int(trace.errors()[-1]) for trace in cells.sort(arrays)]
    classical = [int(trace.errors()[-1]) for trace in TopDown("selection").sort(arrays)]
    assert found["cells"]["errors"] == own and found["top_down"]["errors"] == classical
    assert found["gain"]["mean"] == pytest.approx(np.mean(classical) - np.mean(own))
    cut = damage_experiment(arrays, Cells("bubble", max_steps=1))
    assert cut["gain"] is None and cut["cells"]["outcomes"]["truncated"] == 20


def test_what_is_known_exactly() -> None:
    """Oracle: by hand: no disorder and no swap too many without damage; labels far from the closed form."""
    whole = damage_experiment(ARRAYS, Cells("insertion"))
    assert whole["beyond_inversions"] == 0
    assert damage_experiment(ARRAYS, Cells("selection"))["beyond_inversions"] is None
    assert damage_experiment(ARRAYS.damaged(1, "movable"), Cells("bubble"))["beyond_inversions"] is None

    def lines(start: list[float], **more) -> list[bool]:
        outcomes = {"stuck": 0, "truncated": 0, **more}
        damage = [
            {"frozen": 0, "cells": outcomes, "beyond_inversions": 2 * outcomes["stuck"]},
            {"frozen": 1, "cells": {"stuck": 5, "truncated": 5}, "beyond_inversions": None},
        ]
        mixtures = [{"share": 0.5, "mixed": {"start": start}}]
        return [line["holds"] for line in held_to(damage, mixtures, 20)]

    assert lines([0.4, 0.45, 0.5]) == [True, True, True]  # (20 / 2 - 1) / 20 is 0.45
    assert lines([0.5, 0.55, 0.6, 0.55]) == [True, True, False]
    assert lines([0.45], stuck=1) == [False, False] and held_to([], [], 20) == []


def test_mixtures_and_their_controls_are_computed_alike() -> None:
    """Oracle: the peaks of traces made apart: both policies, and each alone with the same labels."""
    cells, labels = Cells("bubble", seed=2), ARRAYS.labels(0.3)
    found = mixture_experiment(ARRAYS, cells, Mixture(("bubble", "insertion"), "unique", 0.3))

    def peaks(policies: list[str]) -> list[float]:
        traces = sort_mixed(cells, ARRAYS, policies, labels=labels)
        return [trace.aggregation(labels[i]).max() for i, trace in enumerate(traces)]

    assert found["mixed"]["peak"] == peaks(["bubble", "insertion"])
    assert {name: control["peak"] for name, control in found["controls"].items()} == {
        "bubble": peaks(["bubble"]),
        "insertion": peaks(["insertion"]),
    }
    highest = max(np.mean(peaks(["bubble"])), np.mean(peaks(["insertion"])))
    assert found["excess"]["mean"] == pytest.approx(np.mean(peaks(["bubble", "insertion"])) - highest)
    # Different values: order alone decides who stands where at the end.
    assert found["mixed"]["end"] == found["controls"]["bubble"]["end"]


def test_conflict_is_cut_off() -> None:
    """Oracle: the outcomes of traces made apart, some of which never settle; those of the controls do."""
    cells, labels = Cells("bubble", max_steps=4000), ARRAYS.labels()
    found = mixture_experiment(ARRAYS, cells, Mixture(("bubble", "selection"), "conflict"))
    traces = sort_mixed(cells, ARRAYS, ["bubble", "selection"], labels=labels, falling=labels == 1)
    assert found["mixed"]["truncated"] == sum(trace.truncated for trace in traces) > 0
    assert all(control["truncated"] == 0 for control in found["controls"].values())


def test_a_moving_picture_of_an_array() -> None:
    """Oracle: the trace: each frame has all cells once, coloured by type, frozen ones apart."""
    trace = SelfSortingArray([3, 1, 2, 0], ["bubble", "selection"] * 2, frozen=[1], seed=1).run()
    shown = sorting_picture("t", trace, ["bubble", "selection"], note="n", frames=50)
    assert len(shown["frames"]) == len(trace.swaps) + 1
    for step, frame in enumerate(shown["frames"]):
        bars = {
            name: dict(zip(one["x"], np.array(one["y"]) + one["base"], strict=True))
            for one in frame["data"]
            for name in [one["name"]]
        }
        at = trace.cells_at(step)
        assert list(bars["frozen"]) == [np.flatnonzero(at == 1)[0]]
        whole = {**bars["bubble"], **bars["selection"], **bars["frozen"]}
        assert np.allclose([whole[p] for p in range(4)], trace.values[at], atol=1e-3)
        assert frame["name"] == f"{step} (out of order: {trace.errors()[step]})"
    empty = sorting_picture("t", SelfSortingArray([]).run(), ["bubble"], note="", frames=5)
    assert len(empty["frames"]) == 1


def test_pictures_show_the_records() -> None:
    """Oracle: a made-up record, found again in the traces."""
    means = {"error": 1.5, "gratification": 0.25}
    records = [
        {
            "policy": "bubble",
            "scheduler": scheduler,
            "frozen": frozen,
            "mode": mode,
            "cells": means,
            "top_down": {**means, "error": 7.0 + frozen},
        }
        for scheduler in ("rounds", "uniform")
        for frozen, mode in ((0, "movable"), (2, "movable"), (2, "immovable"))
    ]
    pictures = damage_pictures(records, "rounds")
    titles = [shown["title"] for shown in pictures]
    assert titles == [
        "Final errors, movable frozen cells",
        "Final errors, immovable frozen cells",
        "Delayed gratification, movable frozen cells",
        "Delayed gratification, immovable frozen cells",
    ]
    bars = {trace["name"]: (trace["x"], trace["y"]) for trace in pictures[1]["traces"] if trace["x"]}
    assert bars == {"bubble, cells": ([0, 2], [1.5, 1.5]), "bubble, top-down": ([0, 2], [7.0, 9.0])}
    assert [trace["name"] for trace in pictures[3]["traces"]] == ["bubble, rounds", "bubble, uniform"]
    mixed = as_read(
        {
            "name": "both",
            "kind": "unique",
            **mixture_experiment(ARRAYS, Cells("bubble"), Mixture(("bubble", "selection"), "unique")),
        }
    )
    gathering, errors = mixture_pictures([mixed])
    control = mixed["controls"][mixed["control"]]
    assert np.allclose(gathering["traces"][2]["y"], control["curve"], rtol=1e-4)
    assert np.allclose(gathering["traces"][3]["y"], mixed["mixed"]["curve"], rtol=1e-4)
    assert gathering["traces"][1]["fill"] == "tonexty" and errors["traces"][0]["y"][-1] == 0
    assert damage_pictures([], "rounds") == [] and mixture_pictures([]) == []
