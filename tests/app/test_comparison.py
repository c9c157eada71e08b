"""What a comparison comes to, from runs that are written by hand: pairs, tests, targets, ended runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from selfstudy.app.comparison import comparison_result
from selfstudy.app.contestants import CURVE
from selfstudy.app.watching import SEEN, STOPPED
from selfstudy.evaluation.paired_tests import holm
from selfstudy.evaluation.scores import ACCURACY, Metric

ERROR = Metric(name="squared error", lower_is_better=True)
ASKED = {"budget": {"samples": 100.0}, "stop_hopeless": None, "target": None}


def write_run(folder: Path, metric: Metric, figure: float, looks: list[tuple[float, float]]) -> Path:
    """A finished run: its figure, and (samples, figure on validation items) of its looks."""
    folder.mkdir(parents=True)
    summary = {"base": {metric.name: 0.1}, "trained": {metric.name: figure}, "spent": {"samples": 100.0}}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / CURVE).write_text(json.dumps([[0, 0.1], [100, figure]]))
    lines = [
        {"loop": "fit", "level": level, "figure": seen, "spent": {"samples": spent}}
        for level, (spent, seen) in enumerate(looks, 1)
    ]
    (folder / SEEN).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def compared(root: Path, metric: Metric, runs: dict[str, list[list[float]]], **asked: Any) -> dict[str, Any]:
    """A comparison of runs by method and seed, each the figures of its looks at 10, 20, ... samples."""
    folders = [
        write_run(
            root / slug / f"seed-{seed}", metric, looks[-1], [(10 * at, y) for at, y in enumerate(looks, 1)]
        )
        for slug, seeds in runs.items()
        for seed, looks in enumerate(seeds)
    ]
    return comparison_result({"methods": list(runs), **ASKED, **asked}, folders, metric)


def test_all_pairs_are_tested_and_corrected_together(tmp_path: Path) -> None:
    """Oracle: scipy's test of two paired samples for each pair of three methods, and Holm's rule over the
    three."""
    figures = {"a": [0.5, 0.6, 0.7], "b": [0.52, 0.59, 0.75], "c": [0.8, 0.82, 0.95]}
    found = compared(tmp_path, ACCURACY, {slug: [[y] for y in ys] for slug, ys in figures.items()})
    pairs = found["differences"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    wanted = [scipy.stats.ttest_rel(figures[pair["a"]], figures[pair["b"]]).pvalue for pair in pairs]
    assert [pair["p"] for pair in pairs] == pytest.approx(wanted)
    assert [pair["p_holm"] for pair in pairs] == pytest.approx(holm(wanted))
    assert pairs[1]["p_holm"] != pytest.approx(pairs[1]["p"])


def test_runs_are_paired_by_their_seed(tmp_path: Path) -> None:
    """Oracle: the mean difference of seeds 0 and 2 by hand, where seed 1 of one method was ended."""
    runs = {"a": [[0.5], [0.9], [0.7]], "b": [[0.4], [0.1], [0.5]]}
    compared(tmp_path, ACCURACY, runs)
    ended = tmp_path / "b" / "seed-1"
    (ended / CURVE).unlink()
    (ended / STOPPED).write_text(json.dumps({"done": 0.4, "spent": {"samples": 40.0}}))
    folders = [tmp_path / slug / f"seed-{seed}" for slug in runs for seed in range(3)]
    asked = {"methods": ["a", "b"], **ASKED, "stop_hopeless": 1.0}
    found = comparison_result(asked, folders, ACCURACY)
    (pair,) = found["differences"]
    assert pair["mean"] == pytest.approx((0.1 + 0.2) / 2) and pair["n"] == 2
    assert found["results"]["b"]["seeds"] == ["0", "2"] and list(found["results"]["b"]["ended"]) == ["1"]
    assert found["stopped"] == {
        "runs": 1,
        "saved": 60.0,
        "saved_share": pytest.approx(0.1),
        "best": "a",
        "best_of_first_seed": "a",
        "unwatched": [],
    }


@pytest.mark.parametrize("metric", [ACCURACY, ERROR])
def test_the_target_is_what_the_weakest_reaches_in_half_of_its_runs(metric: Metric, tmp_path: Path) -> None:
    """Oracle: by hand: of the last looks of the weaker method the second best of four, and what each run had
    spent when it first was as good, also where it became worse again; an error is the same mirrored."""
    good = [[0.3, 0.5, 0.9], [0.5, 0.4, 0.9], [0.2, 0.3, 0.9], [0.2, 0.6, 0.9]]
    weak = [[0.1, 0.2, 0.3], [0.1, 0.3, 0.5], [0.1, 0.2, 0.4], [0.1, 0.2, 0.6]]
    runs = {"good": good, "weak": weak}
    if metric.lower_is_better:
        runs = {slug: [[1 - y for y in looks] for looks in seeds] for slug, seeds in runs.items()}
    target = compared(tmp_path, metric, runs)["time_to_target"]
    assert target["figure"] == pytest.approx(0.5)
    assert target["times"] == {
        "good": {"0": 20, "1": 10, "2": 30, "3": 20},
        "weak": {"0": None, "1": 30, "2": None, "3": 30},
    }
    assert target["scores"]["good"] == 1.0 > target["scores"]["weak"]


def test_no_target_without_looks(tmp_path: Path) -> None:
    """Oracle: a method that was not looked at leaves times out, and the rest of the result stands."""
    runs = {"a": [[0.5], [0.6]], "b": [[0.4], [0.3]]}
    compared(tmp_path, ACCURACY, runs)
    (tmp_path / "b" / "seed-1" / SEEN).unlink()
    folders = [tmp_path / slug / f"seed-{seed}" for slug in runs for seed in range(2)]
    found = comparison_result({"methods": ["a", "b"], **ASKED}, folders, ACCURACY)
    assert "time_to_target" not in found and found["results"]["a"]["over_seeds"]["mean"] == pytest.approx(
        0.55
    )
