"""Scores from logs that are written by hand: times, missing trials, the two clocks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from selfstudy.core.errors import DataError, UsageError
from selfstudy.evaluation.performance_profiles import performance_profiles
from selfstudy.evaluation.time_to_target import clocks_apart, score, trial_time


def log(submission: str = "a", workload: str = "x", time: float = 1.0, **more: Any) -> dict[str, Any]:
    """A log that meets a target of 0.1 at `time`; infinite: never."""
    looks = [{"step": 1, "wall": 0.1, "cost": 0.1, "validation": 0.5, "test": None}]
    if math.isfinite(time):
        looks.append({"step": 2, "wall": time, "cost": time, "validation": 0.1, "test": None})
        looks.append({"step": 3, "wall": time + 1, "cost": time + 1, "validation": 0.05, "test": None})
    return {
        "submission": submission,
        "workload": workload,
        "target": 0.1,
        "better": "lower",
        "looks": looks,
        "failed": None,
        "study": 0,
        "trial": 0,
        **more,
    }


def test_the_first_look_at_the_target_counts() -> None:
    """Oracle: the log as it was written."""
    assert trial_time(log(time=3.0)) == 3.0
    assert trial_time(log(time=math.inf)) == math.inf
    assert trial_time(log(time=3.0, better="higher")) == 0.1
    assert trial_time(log(time=3.0, failed="weights are not finite after 3 steps")) == math.inf
    with pytest.raises(UsageError, match="'lower' or 'higher'"):
        trial_time(log(better=None))


def test_best_of_trials_median_of_studies() -> None:
    """Oracle: the rule by hand: (min(4, 9), min(inf, 2), min(inf, inf)) has the median 4."""
    times = [[4.0, 9.0], [math.inf, 2.0], [math.inf, math.inf]]
    logs = [log(time=time, study=s, trial=t) for s, row in enumerate(times) for t, time in enumerate(row)]
    logs += [log("b", time=2.0, study=s, trial=t) for s in range(3) for t in range(2)]
    found = score(logs)
    assert found.studies["a"]["x"] == [4.0, 2.0, math.inf]
    assert found.times == {"a": {"x": 4.0}, "b": {"x": 2.0}}
    assert found.scores == performance_profiles(found.times).scores
    assert found.speedups["b"].mean == pytest.approx(2.0)
    low, high = found.intervals["a"]
    assert low == 0.0
    assert high >= found.scores["a"]


def test_missing_trials() -> None:
    """Oracle: the counts in the message; a workload that was never run is not reached."""
    logs = [log("a", study=s, trial=t) for s in range(2) for t in range(2)]
    logs += [log("b", study=0, trial=0), log("b", "y"), log("a", "y")]
    with pytest.raises(DataError, match="'b' on 'x' has 1 studies of 2, with 1 trials of 4"):
        score(logs, strict=True)
    with pytest.warns(UserWarning, match="with 1 trials of 4"):
        assert score(logs).times["b"]["x"] == 1.0
    alone = [log("a"), log("b"), log("a", "y")]
    with pytest.warns(UserWarning, match="0 studies of 1"):
        assert score(alone).times["b"]["y"] == math.inf
    with pytest.warns(UserWarning, match="1 trials of 3"):
        score([log("a"), log("b")], trials=3)


def test_one_trial_twice() -> None:
    """Oracle: the error's kind: two submissions of one name look like this."""
    with pytest.raises(DataError, match="there twice"):
        score([log("a"), log("a")])
    with pytest.raises(DataError, match="no logs"):
        score([])
    with pytest.raises(UsageError, match="clock"):
        score([log()], clock="sun")  # type: ignore[arg-type]


def test_scores_need_logs_alone() -> None:
    """Oracle: the same score from JSON that was written and read."""
    import json

    logs = [log(name, time=time, study=s) for name, time in (("a", 1.0), ("b", 3.0)) for s in range(2)]
    again = score(json.loads(json.dumps(logs)))
    assert again.to_json() == score(logs).to_json()
    with pytest.warns(UserWarning, match="No contestant"):
        told = score([log(time=math.inf)]).to_json()
    assert told["times"] == {"a": {"x": None}}
    assert told["scores"] == {}
    assert told["dropped"] == ["x"]


def test_clocks_that_disagree() -> None:
    """Oracle: rates of 1, 1 and 1.5 around their median; a machine slow for all is not held against it."""

    def timed(name: str, wall: float) -> dict[str, Any]:
        looks = [{"step": 1, "wall": wall, "cost": 1.0, "validation": 1.0, "test": None}]
        return log(name, looks=looks)

    assert clocks_apart([timed("a", 1.0), timed("b", 1.0), timed("c", 1.5)]) == {"x": pytest.approx(1.5)}
    assert clocks_apart([timed("a", 5.0), timed("b", 5.5), timed("c", 5.0)]) == {}


def test_variants_count_through_their_base() -> None:
    """Oracle: the table without the variant, with the base of the one that missed it infinite; a speed-up is
    over the workload alone, on which b is half as fast."""
    logs = [log("a"), log("b", time=2.0), log("a", "x-tanh", 8.0), log("b", "x-tanh", 1.0)]
    found = score(logs, variants={"x": ["x-tanh"]})
    assert found.profiles.workloads == ("x",)
    assert found.scores == {"a": 0.0, "b": 1.0}
    assert found.speedups["b"] == (pytest.approx(0.5), 1, 0, 0)
