"""Doing the fits of a comparison, here or side by side, and ending those that are hopeless."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selfstudy.app.comparison_workers import Workers
from selfstudy.app.contestants import Job, do
from selfstudy.app.plans import Loaded
from selfstudy.app.rows import figure
from selfstudy.app.watching import FINAL, STOPPED, Bar, final_loop, rising
from selfstudy.core.fan_out import fan_out
from selfstudy.core.files import read_json
from selfstudy.evaluation.summary import read_summary

if TYPE_CHECKING:
    from rich.console import Console


def do_all(
    jobs: list[Job],
    loaded: Loaded,
    workers: int,
    ray: str | None,
    margin: float | None,
    console: Console | None,
) -> None:
    """Do the jobs; where hopeless ones are ended, the first seed's run to their ends and set the bar.

    Args:
        jobs: those already done are passed over.
        loaded: their task and model.
        workers: processes at the same time; 1 is this one.
        ray: where batches of problems go to; None is this process.
        margin: by how much a run may stay below the best, in the metric's points; None ends none.
        console: told of each that is done.
    """
    metric, begun, over = loaded.task.metric, time.monotonic(), 0
    for some in _rounds(jobs, margin, metric):
        left = [job for job in some if not job.over]
        over += len(some) - len(left)
        for job in _done(left, loaded, workers, ray):
            over += 1
            if console:
                minutes = (time.monotonic() - begun) / 60
                console.print(
                    f"{over} of {len(jobs)}: {job.plan.slug}, seed {job.plan.seed}: {_said(job, metric)} "
                    f"({minutes:.1f} min so far)",
                    highlight=False,
                    markup=False,
                )


def _rounds(jobs: list[Job], margin: float | None, metric: Any) -> Iterator[list[Job]]:
    """Yield jobs that may be done at the same time; the next ones are asked for when those are done."""
    if margin is None:
        yield jobs
        return
    first = [replace(job, final=True) for job in jobs if job.plan.seed == 0]
    yield first
    bars = _bars(first, margin, metric)
    yield [replace(job, bar=bars[job.plan.slug]) for job in jobs if job.plan.seed]


def _done(jobs: list[Job], loaded: Loaded, workers: int, ray: str | None) -> Iterator[Job]:
    """Do jobs, here or in processes, and yield each when it is done."""
    if workers > 1 and jobs:
        with Workers(min(workers, len(jobs))) as processes:
            yield from processes.do(jobs)
        return
    with fan_out(ray) as helpers:
        for job in jobs:
            do(job, loaded, helpers)
            yield job


def _bars(first: list[Job], margin: float, metric: Any) -> dict[str, Bar | None]:
    """Return by method what its later runs must be able to reach; None where its runs cannot be judged."""
    leader = max(rising(metric, read_json(job.folder / FINAL)) for job in first)
    loops = {job.plan.slug: final_loop(job.folder, margin, metric) for job in first}
    return {
        slug: Bar(loop=loop, figure=leader, margin=margin) if loop else None for slug, loop in loops.items()
    }


def _said(job: Job, metric: Any) -> str:
    if job.bar and (job.folder / STOPPED).exists():
        return f"ended as hopeless after {read_json(job.folder / STOPPED)['done']:.0%}"
    summary = read_summary(job.folder) or {}
    return f"{metric.name} {figure(summary['trained'][metric.name], metric.share)}"
