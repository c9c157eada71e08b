"""What a finished run has brought, in a line for the page."""

from __future__ import annotations

from pathlib import Path

from selfstudy.app.rows import difference_text, figure, metric_of
from selfstudy.evaluation.summary import read_summary


def result(directory: Path) -> str:
    """Return the figures before and after of the finished run in `directory`, or nothing where it is not."""
    summary = read_summary(directory)
    if summary is None:
        return ""
    metric = metric_of(summary)
    before, after = (figure(summary[name][metric.name], metric.share) for name in ("base", "trained"))
    gain = difference_text(summary["gain"], metric.share)
    return (
        f"{metric.name} {before} before, {after} after: {gain}, on {summary['trained']['count']:,} test items"
    )
