"""AlgoPerf's own logs, written by hand in its layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfstudy.core.errors import DataError
from selfstudy.evaluation.official_logs import MEASUREMENTS, OfficialTarget, read_official
from selfstudy.evaluation.time_to_target import score

ROWS = """accumulated_submission_time,global_step,validation/wer,test/wer,score
100.5,1000,0.5,0.51,1
200.5,2000,,,
300.5,3000,0.08,0.09,2
"""


def written(folder: Path, rows: str = ROWS, where: str = "librispeech_conformer_jax/trial_1") -> Path:
    path = folder / where
    path.mkdir(parents=True)
    (path / MEASUREMENTS).write_text(rows)
    return folder


def test_official_logs(tmp_path: Path) -> None:
    """Oracle: the file as it was written; the row without a metric is no evaluation."""
    written(tmp_path, where="study_1/librispeech_conformer_jax/trial_1")
    written(tmp_path, ROWS.replace("300.5", "150.5"), "study_2/librispeech_conformer_jax/trial_1")
    logs = read_official(tmp_path, "mine")
    assert [(log["study"], log["trial"], log["workload"]) for log in logs] == [
        (1, 1, "librispeech_conformer"),
        (2, 1, "librispeech_conformer"),
    ]
    look = {"step": 3000, "wall": 300.5, "cost": 300.5, "validation": 0.08, "test": 0.09}
    assert logs[0]["looks"][1] == look
    assert len(logs[0]["looks"]) == 2
    assert score(logs).times == {"mine": {"librispeech_conformer": 225.5}}


def test_own_targets_and_no_study(tmp_path: Path) -> None:
    """Oracle: a target that the first row meets."""
    written(tmp_path, where="mine_pytorch/trial_3")
    (log,) = read_official(tmp_path, "s", {"mine": OfficialTarget("wer", 0.6, "lower")})
    assert (log["study"], log["trial"]) == (0, 3)
    assert score([log]).times == {"s": {"mine": 100.5}}


def test_folders_that_are_none(tmp_path: Path) -> None:
    """Oracle: the error's kind and what it names."""
    with pytest.raises(DataError, match="holds no eval_measurements"):
        read_official(tmp_path, "s")
    with pytest.raises(DataError, match="'mnist'"):
        read_official(written(tmp_path / "a", where="mnist_jax/trial_1"), "s")
    with pytest.raises(DataError, match="validation/wer"):
        read_official(written(tmp_path / "b", "global_step,accumulated_submission_time\n1,2\n"), "s")
    with pytest.raises(DataError, match="no number"):
        read_official(written(tmp_path / "c", where="librispeech_conformer_jax/first"), "s")
