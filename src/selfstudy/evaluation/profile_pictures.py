"""Pictures of a comparison by time to target: profiles, and how each contestant comes down to the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from selfstudy.evaluation.performance_profiles import Profiles
from selfstudy.evaluation.pictures import Picture, line, picture, points
from selfstudy.learning.timed_trials import Clock, Log


def profile_picture(profiles: Profiles, *, what: str = "workloads") -> Picture:
    """Return the performance profiles as steps over the factor of the fastest.

    Args:
        profiles: of a field.
        what: the columns are, in words.
    """
    finite = profiles.ratios[np.isfinite(profiles.ratios)]
    factors = np.unique([1.0, *finite.tolist(), profiles.r_max])
    shares = profiles.share(factors)
    traces = [
        line(f"{name}, B = {profiles.scores.get(name, 0.0):.3f}", factors, own, line={"shape": "hv"})
        for name, own in zip(profiles.contestants, shares, strict=True)
    ]
    return picture(
        "Performance profiles",
        traces,
        x="times the fastest",
        y=f"share of {what}",
        note=f"How many {what} are done within a factor of the fastest. B is the area under a curve, of 1.",
        layout={"yaxis": {"range": [-0.03, 1.05]}},
    )


def study_profiles(studies: Mapping[str, Mapping[str, Sequence[float]]], r_max: float) -> Profiles | None:
    """Return the profiles over single studies in the place of workloads; None where no target was reached."""
    names = tuple(studies)
    table = np.array([[time for own in studies[name].values() for time in own] for name in names])
    kept = table[:, np.isfinite(table).any(0)]
    if not kept.size:
        return None
    ratios = kept / kept.min(0)
    columns = tuple(f"study {place}" for place in range(kept.shape[1]))
    return Profiles(names, columns, (), np.where(ratios > r_max, np.inf, ratios), r_max)


def approach_picture(
    logs: Mapping[str, Log], clock: Clock, unit: str, *, metric: str = "validation error"
) -> Picture:
    """Return the metric over time of one trial of each contestant, with the target.

    Args:
        logs: by contestant.
        clock: of the axis.
        unit: of that clock, in words.
        metric: its name.
    """
    traces, ends, target = [], [0.0], 0.0
    for name, log in logs.items():
        times, figures = ([look[key] for look in log["looks"]] for key in (clock, "validation"))
        traces.append(line(name, times, figures, mode="lines+markers"))
        ends += times[-1:]
        target = log["target"]
    traces.append(line("target", [0.0, max(ends)], [target] * 2, line={"dash": "dot"}))
    return picture(
        "Down to the target",
        traces,
        x=unit,
        y=metric,
        note="The best trial of each contestant: the one that met the target first, else the best figure.",
    )


def times_picture(studies: Mapping[str, Sequence[float]], unit: str) -> Picture:
    """Return the time of every study of each contestant; those that never met the target are not drawn."""
    traces = []
    for name, times in studies.items():
        reached = [time for time in times if np.isfinite(time)]
        traces.append(points(f"{name}, {len(reached)} of {len(times)}", [name] * len(reached), reached))
    return picture(
        "Time to the target, by study",
        traces,
        y=unit,
        note="A study's time is that of its fastest trial. How many studies met the target is in the legend.",
    )
