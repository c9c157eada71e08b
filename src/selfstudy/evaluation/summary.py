"""summary.json: what a finished run says about itself, enough to make every table from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from selfstudy.core.budget import limits
from selfstudy.core.files import read_json, write_json
from selfstudy.core.machine import hardware, versions
from selfstudy.core.run import Run

SUMMARY = "summary.json"


def write_summary(run: Run, results: dict[str, Any]) -> dict[str, Any]:
    """Write the summary of `run` and return it.

    Args:
        run: its seed, meter and configuration are recorded.
        results: JSON data; rows as made by `Metric.row` carry counts and intervals.
    """
    spent = run.meter.snapshot()
    summary = {
        **results,
        "seed": run.seed,
        "budget": limits(run.meter.budget),
        "ended_by_budget": run.meter.refused,
        "spent": {unit: amount for unit, amount in spent.items() if amount},
        "wall_seconds": spent["seconds"],
        "versions": versions(),
        "hardware": hardware(),
    }
    write_json(run.directory / SUMMARY, summary)
    return summary


def read_summary(directory: Path) -> dict[str, Any] | None:
    """Return the summary in `directory`, or None when the run there has not finished."""
    path = directory / SUMMARY
    return read_json(path) if path.exists() else None
