"""`selfstudy bench`: sets targets, runs training algorithms on workloads, and scores their logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selfstudy.core.errors import DataError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.evaluation.bench_protocol import Protocol, calibrated_prices, run_field, set_target
from selfstudy.evaluation.official_logs import read_official
from selfstudy.evaluation.time_to_target import Scored, score
from selfstudy.learning.submissions import STANDARD, submissions_by_name
from selfstudy.learning.timed_trials import Clock
from selfstudy.tasks.workloads import TARGETS, VARIANTS, workload

LOGS = "logs.json"
UNSET = 0.0  # the target of a workload whose target is being set


def bench_targets(
    names: Sequence[str], out: Path, *, seed: int, trials: int, seeds: int, console: Console
) -> None:
    """Set the targets of workloads as the paper does, and write them to `out`.

    Args:
        names: of workloads.
        out: the run's directory; the targets go into a file in it.
        seed: of the search and of the seeds; not to be one that is scored.
        trials: of each standard optimiser.
        seeds: that the best settings are run with again.
        console: where targets are printed.
    """
    field = submissions_by_name(STANDARD)
    config = {"bench": "targets", "workloads": list(names), "trials": trials, "seeds": seeds}
    found: dict[str, Any] = {}
    with Run(out, config, seed=seed, progress=Progress(visible=True)) as run:
        for name in names:
            made = workload(name, target=UNSET)
            target = set_target(run, made, field, trials=trials, seeds=seeds)
            found[name] = {**target._asdict(), "seed": seed, "trials": trials}
            write_json(out / TARGETS, found)
            console.print(f"{name}: {target.validation:.4g} by {target.submission}", highlight=False)


def bench_run(
    names: Sequence[str],
    submissions: Sequence[str],
    out: Path,
    *,
    protocol: Protocol,
    seed: int,
    console: Console,
) -> None:
    """Run the protocol on workloads, write the logs, and print the score.

    Args:
        names: of workloads.
        submissions: names, or module:function.
        out: the run's directory.
        protocol: how often and how long.
        seed: of settings, weights and data.
        console: where the score is printed.
    """
    field = submissions_by_name(submissions)
    made = [workload(name) for name in names]
    config = {"bench": "run", "workloads": list(names), "submissions": list(submissions), **vars(protocol)}
    logs: list[dict[str, Any]] = []
    with Run(out, config, seed=seed, progress=Progress(visible=True)) as run:
        for each in made:
            logs += run_field(run, each, field, protocol, calibrated_prices(run, each, field))
    write_json(out / LOGS, logs)
    print_score(score(logs, clock=protocol.clock, variants=variants_among(names)), console)


def bench_score(
    sources: Sequence[Path],
    *,
    r_max: float,
    clock: Clock,
    strict: bool,
    reference: str | None,
    out: Path | None,
    console: Console,
) -> None:
    """Score logs alone: of runs of `bench run`, or of folders in the official format.

    Args:
        sources: directories of runs, log files, or NAME=FOLDER of a submission in the official format.
        r_max: times the fastest, beyond which a time counts as never.
        clock: "cost" or "wall".
        strict: refuse missing trials.
        reference: of the speed-ups; None is the first submission.
        out: where the score is written as JSON; None writes none.
        console: where it is printed.
    """
    logs: list[dict[str, Any]] = []
    for source in sources:
        name, _, folder = str(source).partition("=")
        if folder:
            logs += read_official(Path(folder), name)
            continue
        path = source / LOGS if source.is_dir() else source
        if not path.is_file():
            raise DataError(
                f"There are no logs in {source}. Give the directory of a run of `selfstudy bench run`, or "
                "NAME=FOLDER of a submission in AlgoPerf's format."
            )
        logs += read_json(path)
    variants = variants_among([log["workload"] for log in logs])
    scored = score(logs, r_max=r_max, clock=clock, strict=strict, variants=variants, reference=reference)
    print_score(scored, console)
    if out:
        write_json(out, scored.to_json())


def variants_among(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the workloads among `names` that have variants there, with them."""
    found = {base: [name for name in variants if name in names] for base, variants in VARIANTS.items()}
    return {base: variants for base, variants in found.items() if variants and base in names}


def print_score(scored: Scored, console: Console) -> None:
    """Print times by submission and workload, B with its interval, and speed-ups."""
    workloads = list(next(iter(scored.times.values())))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("submission", "B", "95 % interval", *workloads, f"speed-up over {scored.reference}"):
        table.add_column(heading, justify="left" if heading == "submission" else "right")
    for name, own in scored.times.items():
        interval = scored.intervals.get(name)
        found = scored.speedups[name]
        times = [f"{own[w]:.3g}" if math.isfinite(own[w]) else "unreached" for w in workloads]
        faster = "none" if found.mean is None else f"{found.mean:.2f} on {found.shared}"
        table.add_row(
            name,
            f"{scored.scores[name]:.3f}" if scored.scores else "none",
            f"{interval.low:.3f} to {interval.high:.3f}" if interval else "",
            *times,
            faster,
        )
    console.print(table)
    for workload_name, ratio in scored.apart.items():
        console.print(
            f"note: on {workload_name} the two clocks disagree by a factor of {ratio:.2f}. Time again on a "
            "quiet machine.",
            highlight=False,
        )
