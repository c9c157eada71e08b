"""The learning rate as a picture: of a stream with its branches, and of any schedule of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfstudy.evaluation.pictures import Picture, Trace, line, picture
from selfstudy.learning.stream_schedules import Place, StreamSchedule

MOST_POINTS = 400  # of a curve within a task
DASHED = {"dash": "dot"}
ANNEALED = "annealing on a copy"


def stream_picture(
    schedule: StreamSchedule, steps: int, names: Sequence[str], *, first: int = 0, branch: bool = True
) -> Picture:
    """Return the rate over a stream: what training goes through, and the annealing on copies.

    Args:
        schedule: of the rate.
        steps: N, of each task.
        names: of the tasks.
        first: tasks that lie before.
        branch: whether annealing is on a copy.
    """
    traces = stream_traces(schedule, steps, len(names), first=first, branch=branch)
    ends = [trace["x"][-1] for trace in traces if trace["name"] != ANNEALED]
    note = "The rate of every update that the next domain builds on"
    if schedule.branches and branch:
        note += "; dotted, the annealing of the copies that are evaluated"
    lines: list[dict[str, Any]] = [
        {"type": "line", "x0": end, "x1": end, "y0": 0, "y1": 1, "yref": "paper", "opacity": 0.25, "line": {}}
        for end in ends[:-1]
    ]
    return picture(
        f"Learning rate: {schedule.name}",
        traces,
        x="updates",
        y="learning rate",
        note=f"{note}. Domains: {', '.join(names)}.",
        layout={"shapes": lines, "yaxis": {"rangemode": "tozero"}},
    )


def stream_traces(
    schedule: StreamSchedule, steps: int, tasks: int, *, first: int = 0, branch: bool = True
) -> list[Trace]:
    """Return a trace for each task, and one for each branch; updates are counted along what is built on."""
    plateau, traces, before = schedule.kept(steps), [], 0
    every = max(1, steps // MOST_POINTS)
    for k in range(tasks):

        def rates(begin: int, end: int, k: int = k) -> tuple[list[int], list[float]]:
            ns = sorted({*range(begin, end, every), end})
            places = (Place(n, first + k, first + tasks) for n in ns)
            return ns, [schedule.peak * schedule.share(place, steps) for place in places]

        kept = plateau if branch else steps
        ns, y = rates(0, kept)
        colour = {"color": "#2f72d6"}
        traces.append(
            line("training", [before + n for n in ns], y, line=colour, legendgroup="t", showlegend=not k)
        )
        if branch and plateau < steps:
            ns, y = rates(plateau, steps)
            colour = {"color": "#e08a1e", **DASHED}
            traces.append(
                line(ANNEALED, [before + n for n in ns], y, line=colour, legendgroup="a", showlegend=not k)
            )
        before += kept
    return traces
