"""Pictures of times to target: what is drawn of a table by hand."""

from __future__ import annotations

import math

from selfstudy.evaluation.performance_profiles import performance_profiles
from selfstudy.evaluation.profile_pictures import (
    approach_picture,
    profile_picture,
    study_profiles,
    times_picture,
)


def test_profiles_are_drawn_as_steps() -> None:
    """Oracle: the shares of two contestants at 1, 2 and 4 times the fastest."""
    drawn = profile_picture(performance_profiles({"a": {"x": 1, "y": 2}, "b": {"x": 2, "y": 1}}))
    assert drawn["traces"][0]["x"] == [1.0, 2.0, 4.0]
    assert drawn["traces"][0]["y"] == [0.5, 1.0, 1.0]
    assert drawn["traces"][0]["line"] == {"shape": "hv"}
    assert drawn["traces"][0]["name"] == "a, B = 0.833"


def test_studies_in_the_place_of_workloads() -> None:
    """Oracle: ratios by hand; a study that nobody finished is left out, a ratio above r_max is infinite."""
    found = study_profiles({"a": {"x": [1.0, 2.0, math.inf]}, "b": {"x": [5.0, 1.0, math.inf]}}, 4.0)
    assert found is not None
    assert found.ratios.tolist() == [[1.0, 2.0], [math.inf, 1.0]]
    assert study_profiles({"a": {"x": [math.inf]}}, 4.0) is None


def test_unreached_studies_have_no_point() -> None:
    """Oracle: the finite times, and the count in the legend."""
    (trace,) = times_picture({"a": [3.0, math.inf]}, "steps")["traces"]
    assert (trace["name"], trace["x"], trace["y"]) == ("a, 1 of 2", ["a"], [3.0])


def test_approach_with_its_target() -> None:
    """Oracle: the looks of the log, and the target from 0 to the last of them."""
    look = {"step": 2, "cost": 2.0, "wall": 0.1, "validation": 0.3}
    drawn = approach_picture({"a": {"looks": [look], "target": 0.2}}, "cost", "steps")
    assert (drawn["traces"][0]["x"], drawn["traces"][0]["y"]) == ([2.0], [0.3])
    assert (drawn["traces"][1]["x"], drawn["traces"][1]["y"]) == ([0.0, 2.0], [0.2, 0.2])
    assert drawn["x"] == "steps"
