"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from selfstudy.app.rows import NONE, bounds, difference_text, figure, metric_of, rows
from selfstudy.core.budget import describe


class Output(Console):
    """A console that leaves a closed pipe to the command line, which ends quietly."""

    def on_broken_pipe(self) -> None:
        """Pass the failure on instead of exiting with a code of its own."""
        raise BrokenPipeError


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the figures of a summary with counts and intervals, the gain, and what was spent."""
    metric, found = metric_of(summary), list(rows(summary))
    wrote = any(row.get("generated_tokens") for _, row in found)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in (metric.name, "95 % interval", "items", *["tokens"] * wrote):
        table.add_column(heading, justify="right")
    for name, row in found:
        interval = f"{figure(row.get('low'), metric.share)} to {figure(row.get('high'), metric.share)}"
        tokens = row.get("generated_tokens")
        table.add_row(
            name,
            figure(row[metric.name], metric.share),
            interval,
            f"{row.get('count', 0):,}",
            *[f"{tokens:,.0f}" if tokens else NONE] * wrote,
        )
    console.print(table)
    if summary.get("gain"):
        console.print(f"gain      {difference_text(summary['gain'], metric.share)}", highlight=False)
    for line in summary.get("held_to", ()):
        verdict = "holds" if line["holds"] else "FAILS"
        console.print(
            f"held to   {line['name']}: {figure(line['value'], False)}, {bounds(line)}: {verdict}",
            highlight=False,
            markup=False,
        )
    if summary.get("ended_by_budget"):
        unit = summary["ended_by_budget"].replace("_", " ")
        further = "" if summary.get("unanswered") else "; a new run with a larger one goes further"
        console.print(f"ended     by its budget of {unit}{further}")
    console.print(f"spent     {describe(summary.get('spent', {}))}", highlight=False)
