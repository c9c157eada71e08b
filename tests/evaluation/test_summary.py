"""summary.json says what was spent, where and with what."""

from __future__ import annotations

from pathlib import Path

from selfstudy.core.budget import Budget
from selfstudy.core.machine import cores
from selfstudy.core.run import Run
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.evaluation.statistics import wilson
from selfstudy.evaluation.summary import read_summary, write_summary


def test_the_summary_records_the_run(tmp_path: Path) -> None:
    """Oracle: the amounts charged and the settings given."""
    run = Run(tmp_path / "run", {"method": "m"}, seed=7, budget=Budget(generated_tokens=100))
    assert read_summary(run.directory) is None
    run.meter.charge(generated_tokens=40, flops=1e9)
    summary = write_summary(run, {"base": ACCURACY.row([True, False], generated_tokens=12)})
    run.close()
    assert read_summary(tmp_path / "run") == summary
    assert summary["seed"] == 7 and summary["budget"] == {"generated_tokens": 100}
    assert summary["spent"]["generated_tokens"] == 40 and summary["spent"]["flops"] == 1e9
    assert "samples" not in summary["spent"], "only what was spent"
    low, high = wilson(1, 2)
    expected = {
        "accuracy": 0.5,
        "count": 2,
        "low": low,
        "high": high,
        "generated_tokens": 12,
    }
    assert summary["base"] == expected
    assert {"python", "torch", "transformers", "selfstudy"} <= set(summary["versions"])
    assert summary["hardware"]["cores"] == cores() and summary["wall_seconds"] >= 0
